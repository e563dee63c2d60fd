"""Models and nodes as the words of tables, for a screen of any width."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len, set_cell_size
from rich.table import Table
from rich.text import Text

from potluck_tui.fleet import Loading
from potluck_tui.pool import (
    DeviceView,
    EngineView,
    Health,
    LoadedView,
    ModelView,
    NodeView,
    PoolView,
)
from potluck_tui.words import age, context, count, counted, size

MODEL_COLUMNS = ("model", "    size", "params", "context", "licence", "on", "now")

HEALTH_STYLES = {
    Health.READY: "green",
    Health.CONNECTING: "yellow",
    Health.SUSPECT: "yellow",
    Health.DRAINING: "yellow",
    Health.LOST: "red",
    Health.REFUSED: "red",
}
_FIT_STYLES = {"loaded": "bold green", "fits": "green", "no room": "yellow", "unusable": "red"}


def matching(models: tuple[ModelView, ...], typed: str) -> list[ModelView]:
    """Return the models whose label, title or architecture holds every word typed.

    Loaded ones come first, then usable ones; the order is the pool's otherwise.
    """
    words = typed.lower().split()
    found = [
        model
        for model in models
        if all(
            word in f"{model.label} {model.title} {model.architecture}".lower() for word in words
        )
    ]
    return sorted(found, key=lambda model: (not model.loaded_on, not model.usable))


def model_row(model: ModelView, pool: PoolView, width: int) -> list[Text]:
    """Return the cells of a model, for a table as wide as `width`."""
    fit = pool.fit(model)
    style = "" if model.usable else "dim"
    spare = max(0, width - 79)
    return _spaced(
        Text(fitted(model.label, 24 + spare // 2), style=style),
        Text(f"{size(model.file_bytes):>8}", style=style),
        Text(f"{count(model.parameter_count):>6}", style=style),
        Text(f"{context(model.training_context_length):>7}", style=style),
        Text(fitted(model.licence or "?", 10 + spare // 6), style=style),
        Text(_places(model.node_names, 8 + spare // 3), style=style),
        Text(fit, style=_FIT_STYLES[fit]),
    )


def model_heading(width: int) -> Text:
    """Return the heading of the lines of models."""
    return _model_cells("model", "size", "needs", "now", "in memory (on disk)", width)


def model_line(model: ModelView, pool: PoolView, width: int, loading: Loading | None) -> Text:
    """Return a line on a model: what it takes, how it is, and where.

    Args:
        model: The model.
        pool: The pool.
        width: Of the screen, in cells.
        loading: How far it is, where it loads.
    """
    fit = pool.fit(model)
    style = _FIT_STYLES[fit]
    if loading is not None:
        fit, style = f"{loading.fraction:.0%}", "yellow"
    held = ", ".join(model.loaded_on)
    others = ", ".join(name for name in model.node_names if name not in model.loaded_on)
    where = f"{held or '-'} ({others})" if others else held
    name = f"{model.label}{' *' if model.is_default else ''}"
    sizes = size(model.file_bytes), size(model.memory_needed_bytes)
    text = _model_cells(name, *sizes, fit, where, width)
    if not model.usable:
        text.stylize("dim")
    start = text.plain.index(fit, _name_cells(width) + 18)
    text.stylize(style, start, start + len(fit))
    return text


def _name_cells(width: int) -> int:
    return 28 + (width - 80) // 3 if width >= 80 else max(14, width - 52)


def _model_cells(*words: str | int) -> Text:
    *cells, width = words
    name, file_size, needs, now, where = map(str, cells)
    name_cells = _name_cells(int(width))
    where_cells = max(8, int(width) - name_cells - 29)
    return Text(
        f"{_padded(name, name_cells)} {file_size:>8} {needs:>8} {now:<9} "
        f"{_padded(where, where_cells)}"
    )


def _padded(text: str, cells: int) -> str:
    return set_cell_size(fitted(text, cells), cells)


def model_details(model: ModelView, pool: PoolView) -> Text:
    """Return what the table has no room for, in at most three lines."""
    facts = [
        model.title,
        model.architecture,
        f"{context(model.context_length)} context when loaded" if model.context_length else "",
        f"needs {size(model.memory_needed_bytes)}" if model.memory_needed_bytes else "",
        "the pool's default" if model.is_default else "",
    ]
    text = Text(" · ".join(fact for fact in facts if fact), style="dim")
    where = f"loaded on {', '.join(model.loaded_on)}" if model.loaded_on else ""
    if where:
        text.append(f"\n{where}")
    if model.problem:
        text.append(f"\n{model.problem}", style="red")
    elif model.note:
        text.append(f"\n{model.note}", style="yellow")
    elif pool.fit(model) == "no room":
        text.append("\nNo node has that much free now: another model would be evicted.", "yellow")
    return text


def _spaced(*cells: Text) -> list[Text]:
    """Return cells with a space after each: tables have no padding of their own."""
    for cell in cells:
        cell.append(" ")
    return list(cells)


def _places(names: tuple[str, ...], cells: int) -> str:
    """Return names where they fit, else how many there are."""
    joined = ", ".join(names)
    return joined if cell_len(joined) <= cells else fitted(counted(len(names), "node"), cells)


def node_details(node: NodeView) -> Table:
    """Return everything that is known about a node."""
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()

    def line(name: str, value: str, style: str = "") -> None:
        table.add_row(name, Text(value, style))

    line("health", node.health.value, HEALTH_STYLES[node.health])
    if node.problem:
        line("problem", node.problem, "red")
    line("address", f"{node.address} ({node.found_by})" if node.found_by else node.address)
    line("version", node.version or "?")
    way = f"; round trip {node.round_trip_seconds * 1000:.0f} ms" if node.round_trip_seconds else ""
    seen = f"{age(node.age_seconds)} ago" if node.age_seconds else "just now"
    line("seen", f"{seen}{way}")
    if node.tags:
        line("tags", ", ".join(node.tags))
    for heading, rows in _sections(node):
        if rows:
            table.add_row("")
            table.add_row(Text(heading, "bold not dim"))
        for name, value, style in rows:
            line(f"  {name}", value, style)
    return table


_Row = tuple[str, str, str]
"""Name, value and style."""


def _sections(node: NodeView) -> Iterator[tuple[str, list[_Row]]]:
    """Yield a heading and its rows for all that a node has several of."""
    yield "Devices", [(device.accelerator, _device_words(device), "") for device in node.devices]
    yield "Engines", [_engine_row(engine) for engine in node.engines]
    yield "Loaded", [(model.state, _loaded_words(model), "") for model in node.loaded]
    yield "Unusable", [("file", f"{name}: {said}", "red") for name, said in node.model_problems]
    yield "Turned away", [("refused", refusal, "") for refusal in node.refusals]
    yield "Done by itself", [("notice", notice, "yellow") for notice in node.notices]


def _device_words(device: DeviceView) -> str:
    words = f"{device.name}: {size(device.free_bytes)} of {size(device.total_bytes)} free"
    if device.others_bytes:
        words += f", {size(device.others_bytes)} by other programs"
    if device.utilisation is not None:
        words += f", {device.utilisation:.0%} busy"
    if device.temperature_celsius is not None:
        words += f", {device.temperature_celsius:.0f} °C"
    if device.watts is not None:
        words += f", {device.watts:.0f} W"
    return words


def _engine_row(engine: EngineView) -> _Row:
    if engine.available:
        return "ready", f"{engine.name} {engine.version}".strip(), "green"
    return "missing", f"{engine.name}: {engine.advice or 'no advice'}", "yellow"


def _loaded_words(model: LoadedView) -> str:
    held = f"{model.label} by {model.engine}: {size(model.memory_bytes)}"
    if not model.slots:  # it is on its way
        return held
    return (
        f"{held}, {context(model.context_length)} context, {model.slots_busy} of "
        f"{counted(model.slots, 'slot')} busy, {model.queue_length} waiting"
    )


def fitted(text: str, cells: int) -> str:
    """Return a text cut to some cells, with an ellipsis where it was."""
    return text if cell_len(text) <= cells else set_cell_size(text, max(0, cells - 1)) + "…"
