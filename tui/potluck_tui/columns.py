"""Columns of plain text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from potluck_tui.clean import clean

FIRST_CELLS = 20
"""The first column, which is names, is not cut shorter than this while another could go."""


def table_lines(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    cells: int = 0,
    spare: Sequence[str] = (),
) -> Iterator[str]:
    """Yield lines of columns as wide as their widest cell.

    Args:
        header: The headings.
        rows: A cell for each heading.
        cells: How wide a line may be; 0 is as wide as it comes. Where columns are too wide, those
            that can be spared go, and the first is cut.
        spare: The headings of what can be spared, the first of them first.
    """
    cleaned = [[clean(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cleaned, strict=True)]
    shown = list(range(len(header)))
    least = min(widths[0], FIRST_CELLS) if widths else 0
    for heading in spare:
        if cells and _excess(widths, shown, cells) > widths[0] - least:
            shown.remove(header.index(heading))
    if cells and (excess := _excess(widths, shown, cells)) > 0:
        widths[0] = max(least, widths[0] - excess)
    for row in cleaned:
        parts = (_cut(row[column], widths[column]).ljust(widths[column]) for column in shown)
        yield "  ".join(parts).rstrip()


def _excess(widths: Sequence[int], shown: Sequence[int], cells: int) -> int:
    """Return by how much columns are too wide, with two cells between them."""
    return sum(widths[column] for column in shown) + 2 * (len(shown) - 1) - cells


def _cut(text: str, cells: int) -> str:
    return text if len(text) <= cells else f"{text[: cells - 1]}…"
