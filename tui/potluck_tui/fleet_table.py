"""Machines as lines of a table, for a screen of any width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from potluck_tui.fleet import HOT_CELSIUS, Loading, Sample
from potluck_tui.pool import DeviceView, Health, NodeView
from potluck_tui.tables import HEALTH_STYLES, fitted
from potluck_tui.words import age, duration, size

SPARKS = "▁▂▃▄▅▆▇█"
FRESH_SECONDS = 1.5
"""Younger data is simply new: an age that changes all the time would be drawn all the time."""

_PARTS = (("█", "cyan"), ("▓", "magenta"), ("▒", "yellow"), ("░", "dim"))
"""Of a memory bar: weights, KV cache, the rest that is in use, free."""


@dataclass(frozen=True, slots=True)
class _Column:
    """A column, and how many cells it gets on a screen of 80 and of the room beyond."""

    heading: str
    cell: Callable[[NodeView, int, Sequence[Sample], Sequence[Loading]], Text]
    cells: int
    grows: int = 0
    """Its share of the columns beyond 80."""
    right: bool = False
    from_width: int = 0
    """It shows on screens of this width on."""


def heading(width: int) -> Text:
    """Return the heading of the table."""
    parts = [
        (_aligned(Text(fitted(column.heading, cells)), cells, column.right))
        for column, cells in _layout(width)
    ]
    return Text(" ").join(parts)


def line(
    node: NodeView, width: int, history: Sequence[Sample], loading: Sequence[Loading] = ()
) -> Text:
    """Return the line of a machine.

    Args:
        node: The machine.
        width: Of the screen, in cells.
        history: How it was, oldest first.
        loading: What it loads now.
    """
    parts = [
        _aligned(column.cell(node, cells, history, loading), cells, column.right)
        for column, cells in _layout(width)
    ]
    text = Text(" ").join(parts)
    if node.health in (Health.LOST, Health.REFUSED):
        text.stylize("dim")  # it was so, once
    return text


def memory_bar(device: DeviceView | None, cells: int) -> Text:
    """Return a bar of a device's memory: weights, KV cache, other use, free."""
    if device is None or not device.total_bytes:
        return Text("?")
    sizes = (device.weights_bytes, device.cache_bytes, device.rest_bytes)
    bar, used = Text(), 0
    for (sign, style), size_bytes in zip(_PARTS, sizes, strict=False):
        part = min(cells - used, round(size_bytes / device.total_bytes * cells))
        if size_bytes and not part and used < cells:
            part = 1
        bar.append(sign * part, style)
        used += part
    return bar.append(_PARTS[-1][0] * (cells - used), _PARTS[-1][1])


def memory_words(device: DeviceView) -> Text:
    """Return what the parts of a memory bar are, with their sizes."""
    parts = [
        (f"weights {size(device.weights_bytes)}", 0),
        (f"KV cache {size(device.cache_bytes)}", 1),
        (f"other use {size(device.rest_bytes)}", 2),
        (f"free {size(device.free_bytes)}", 3),
    ]
    text = Text()
    for words, number in parts:
        text.append("  " if text else "").append(*_PARTS[number]).append(f" {words}")
    return text


def sparkline(values: Sequence[float], cells: int, most: float = 0.0) -> str:
    """Return the newest values as a line of small bars.

    Args:
        values: Oldest first.
        cells: How many to show.
        most: What a full bar stands for; by default the largest that shows.
    """
    shown = list(values[-cells:])
    top = most or max(shown, default=0.0)
    levels = (min(1.0, value / top) if top > 0 else 0.0 for value in shown)
    bars = (" " if not level else SPARKS[round(level * (len(SPARKS) - 1))] for level in levels)
    return "".join(bars).rjust(cells)


def loading_words(loading: Loading) -> str:
    """Return how far a load is: size, speed and time left."""
    words = f"loading {loading.label}: {loading.fraction:.0%}"
    if loading.file_bytes:
        words += f" of {size(loading.file_bytes)}"
    if loading.bytes_per_second:
        words += f", {size(round(loading.bytes_per_second))}/s"
    if loading.seconds_left is not None:
        words += f", {duration(loading.seconds_left)} left"
    return words


def _layout(width: int) -> list[tuple[_Column, int]]:
    """Return the columns that a screen has room for, and their cells."""
    columns = [column for column in _COLUMNS if width >= column.from_width]
    needed = sum(column.cells for column in columns) + len(columns) - 1
    spare, shares = max(0, width - needed), sum(column.grows for column in columns)
    return [(column, column.cells + spare * column.grows // shares) for column in columns]


def _aligned(text: Text, cells: int, right: bool) -> Text:
    text.truncate(cells, overflow="ellipsis")
    missing = cells - text.cell_len
    if missing > 0:
        text.pad_left(missing) if right else text.pad_right(missing)
    return text


def _memory_cell(node: NodeView, cells: int) -> Text:
    device = node.main_device
    if device is None or not device.total_bytes:
        return Text("?")
    numbers = f" {_short(device.total_bytes - device.free_bytes)}/{_short(device.total_bytes)}G"
    return memory_bar(device, cells - cell_len(numbers)).append(numbers)


def _loaded_cell(node: NodeView, cells: int, loading: Sequence[Loading]) -> Text:
    if loading:
        first = loading[0]
        return Text(f"{first.fraction:>4.0%} {fitted(first.label, cells - 5)}", "yellow")
    words = [f"{model.label}{'*' if model.pinned else ''}" for model in node.loaded]
    return Text(fitted(", ".join(words) or "-", cells))


def _temperature_cell(node: NodeView) -> Text:
    degrees = node.temperature_celsius
    if degrees is None:
        return Text("-")
    return Text(f"{degrees:.0f}", "red" if degrees >= HOT_CELSIUS else "")


def _round_trip_cell(node: NodeView) -> Text:
    milliseconds = node.round_trip_seconds * 1000
    if not milliseconds:
        return Text("-")
    return Text(f"{milliseconds:.0f}ms" if milliseconds >= 0.95 else "<1ms")


def _age_cell(node: NodeView) -> Text:
    if node.health is Health.CONNECTING and not node.age_seconds:
        return Text("-")
    return Text("new" if node.age_seconds < FRESH_SECONDS else age(node.age_seconds))


def _short(count_bytes: int) -> str:
    gibibytes = count_bytes / 2**30
    return f"{gibibytes:.1f}" if gibibytes < 9.95 else f"{gibibytes:.0f}"


_COLUMNS = (
    _Column("machine", lambda n, cells, _h, _l: Text(fitted(n.name, cells)), 10, 2),
    _Column("state", lambda n, _c, _h, _l: Text(n.health.value, HEALTH_STYLES[n.health]), 8),
    _Column(
        "with",
        lambda n, _c, _h, _l: Text(n.main_device.accelerator if n.main_device else "?"),
        5,
        from_width=46,
    ),
    _Column("memory", lambda n, cells, _h, _l: _memory_cell(n, cells), 15, 3),
    _Column(
        "loaded", lambda n, cells, _h, loads: _loaded_cell(n, cells, loads), 13, 5, from_width=66
    ),
    _Column(
        "slots",
        lambda n, _c, _h, _l: Text(f"{n.slots_busy}/{n.slots}" if n.slots else "-"),
        5,
        right=True,
        from_width=72,
    ),
    _Column("queue", lambda n, _c, _h, _l: Text(str(n.queue_length)), 5, right=True, from_width=78),
    _Column(
        "tok/s",
        lambda n, _c, _h, _l: Text(f"{n.tokens_per_second:.0f}"),
        5,
        right=True,
        from_width=52,
    ),
    _Column(
        "lately",
        lambda _n, cells, history, _l: Text(
            sparkline([sample.tokens_per_second for sample in history], cells), "cyan"
        ),
        12,
        3,
        from_width=110,
    ),
    _Column("°C", lambda n, _c, _h, _l: _temperature_cell(n), 3, right=True, from_width=100),
    _Column("trip", lambda n, _c, _h, _l: _round_trip_cell(n), 5, right=True, from_width=100),
    _Column("age", lambda n, _c, _h, _l: _age_cell(n), 4, right=True),
)
