"""A code block while it grows, highlighted piece by piece: its length does not matter."""

from __future__ import annotations

from textual.strip import Strip

from potluck_tui.markdown_lines import code_lines

DRAWN_AGAIN_LINES = 40
"""At most about so many of the newest lines are drawn again with each change."""


class GrowingCode:
    """The lines of a code block that is open.

    Pieces are highlighted by themselves, so what spans two of them, such as a long comment, may
    have other colours than in the whole block, which is drawn once it is complete.

    Args:
        language: What the fence says.
        width: Columns.
    """

    def __init__(self, language: str, width: int) -> None:
        self._language = language
        self._width = width
        self._settled_length = 0
        self._settled_lines: list[Strip] = []

    def lines(self, code: str) -> list[Strip]:
        """Return the lines of the code, which begins as it did before."""
        piece = code[self._settled_length :]
        if piece.count("\n") > DRAWN_AGAIN_LINES:
            settled = piece[: _calm_place(piece)]
            self._settled_lines += self._draw(settled.removesuffix("\n"))
            self._settled_length += len(settled)
            piece = piece[len(settled) :]
        return (
            [*self._settled_lines, *self._draw(piece.rstrip())]
            if piece.strip()
            else self._settled_lines
        )

    def _draw(self, code: str) -> list[Strip]:
        if not self._settled_lines:
            code = code.lstrip("\n")  # a block begins with its first line that is not blank
        return code_lines(code, self._language, self._width)


def _calm_place(code: str) -> int:
    """Return where code is best cut: before a line at the margin that follows a blank one.

    Without one, or with none in its second half, before its last complete line.
    """
    middle = len(code) // 2
    at = code.rfind("\n\n")
    while at > middle:
        if code[at + 2 : at + 3].strip():
            return at + 2
        at = code.rfind("\n\n", 0, at)
    return code.rfind("\n", 0, code.rfind("\n")) + 1
