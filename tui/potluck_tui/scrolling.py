"""Which part of a growing transcript shows.

A terminal that scrolls by one line sends the whole screen again. So while text comes, the view
jumps by several lines at once and leaves room below for those to come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from textual.geometry import Region
from textual.strip import Strip


@dataclass(frozen=True, slots=True)
class View:
    """A window on lines."""

    top: int
    """First line that shows."""
    extent: int
    """Lines that can be scrolled over; may be more than there are."""


def follow(top: int, height: int, line_count: int, *, growing: bool) -> View:
    """Return the view that keeps the last line visible.

    Args:
        top: First line that shows now.
        height: Lines that the window holds.
        line_count: Lines that there are.
        growing: More will come: keep the view still while there is room, and jump when not.
    """
    bottom = max(0, line_count - height)
    if not growing:
        return View(bottom, line_count)
    if not bottom:
        top = 0
    elif not bottom <= top <= line_count - height // 4:
        # Below the window, or almost all above it: a long answer gave way to a new one.
        top = bottom + height // 2
    return View(top, max(line_count, top + height))


def hold(top: int, height: int, line_count: int, *, growing: bool) -> View:
    """Return the view that stays where the reader has scrolled to.

    The extent grows in steps, as each change of it draws the scroll bar again.
    """
    if growing:
        line_count += -line_count % max(1, height)
    return View(min(top, max(0, line_count - height)), line_count)


def changed_regions(old: Sequence[Strip], new: Sequence[Strip], width: int) -> list[Region]:
    """Return what to draw again where `new` lines take the place of `old` ones.

    Args:
        old: The lines that show, from the top of the window.
        new: Those that should.
        width: Columns of the window.
    """
    regions = []
    for y in range(max(len(old), len(new))):
        before = old[y] if y < len(old) else _NOTHING
        after = new[y] if y < len(new) else _NOTHING
        if before is after or before == after:
            continue
        start = _common_cells(before, after)
        stop = min(width, max(before.cell_length, after.cell_length))
        if stop > start:
            regions.append(Region(start, y, stop - start, 1))
    return regions


_NOTHING = Strip([])


def _common_cells(before: Strip, after: Strip) -> int:
    """Return how many cells at the start look alike."""
    cells = 0
    for (old_text, old_style, _), (new_text, new_style, _) in zip(before, after, strict=False):
        if old_style != new_style:
            break
        if old_text != new_text:
            for old_character, new_character in zip(old_text, new_text, strict=False):
                # Beyond ASCII, a later character may change how an earlier one is drawn.
                if old_character != new_character or not old_character.isascii():
                    break
                cells += 1
            break
        cells += cell_len(old_text)
    return cells
