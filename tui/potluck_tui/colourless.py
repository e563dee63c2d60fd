"""Drawing without colours, for readers who set NO_COLOR.

Textual draws shades of grey then. They are colours as well, and where a terminal has sixteen, text
and background may become the same one.
"""

from __future__ import annotations

from functools import lru_cache

from rich.color import ColorType
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

_DEFAULTS = Style(color="default", bgcolor="default")


class Colourless(LineFilter):
    """Takes the colours from lines on their way to the terminal.

    A background from the terminal's palette, as the `ansi` themes have it for what is chosen, is
    shown by reversing; shades of other themes are lost.
    """

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return the segments without colours."""
        return [
            Segment(text, style and _colourless(style), control)
            for text, style, control in segments
        ]


@lru_cache(1024)
def _colourless(style: Style) -> Style:
    marked = style.bgcolor is not None and style.bgcolor.type is ColorType.STANDARD
    return style + _DEFAULTS + Style(reverse=True) if marked else style + _DEFAULTS
