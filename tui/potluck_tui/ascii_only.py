"""Drawing with ASCII alone, for terminals and fonts that have nothing else.

Every line is rewritten as it leaves for the terminal, so nothing else need know of it. Signs keep
their width: what is two cells wide becomes two question marks.
"""

from __future__ import annotations

import unicodedata

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_SIGNS = {
    **dict.fromkeys("─━╌╍┄┅═▔▁⎯", "-"),
    **dict.fromkeys("│┃╎╏┆┇║▌▐▏▕▎▍▋▊▉", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯╔╗╚╝╠╣╦╩╬┏┓┗┛┣┫┳┻╋▗▖▝▘▞▚", "+"),
    **dict.fromkeys("█▇▆▅", "#"),
    **dict.fromkeys("▄▃▀▓", "="),
    **dict.fromkeys("▒", "-"),
    **dict.fromkeys("▂░·•∙", "."),
    **dict.fromkeys("▸▶›→↪\u276f", ">"),
    **dict.fromkeys("◂◀‹←", "<"),
    **dict.fromkeys("▾▼↓", "v"),
    **dict.fromkeys("▴▲↑", "^"),
    **dict.fromkeys("“”„«»", '"'),
    **dict.fromkeys("\u2018\u2019\u201a", "'"),
    **dict.fromkeys("—\u2010\u2011\u2013\u2212", "-"),
    **dict.fromkeys("●○◉◦★☆", "*"),
    **dict.fromkeys("✓✔", "v"),
    **dict.fromkeys("✗✘\u00d7", "x"),
    "…": "~",
    "°": " ",
    "ß": "s",
}


def as_ascii(text: str) -> str:
    """Return a text of the same width in ASCII: letters lose their marks, the rest is a `?`."""
    return text if text.isascii() else "".join(map(_sign, text))


def _sign(character: str) -> str:
    if character.isascii():
        return character
    if (known := _SIGNS.get(character)) is not None:
        return known
    cells = cell_len(character)
    plain = unicodedata.normalize("NFKD", character)[0]
    return plain if plain.isascii() and plain.isprintable() and cells == 1 else "?" * cells


class AsciiOnly(LineFilter):
    """Rewrites lines on their way to the terminal."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return the segments in ASCII."""
        return [
            Segment(as_ascii(segment.text), segment.style, segment.control) for segment in segments
        ]
