from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from potluck_tui.events import PoolSeen
from potluck_tui.fleet import SAMPLE_SECONDS, SAMPLES_KEPT, Fleet, Sort, fault
from potluck_tui.fleet_table import heading, line, loading_words, memory_bar, sparkline
from potluck_tui.pool import DeviceView, Health, LoadedView, ModelView, NodeView, PoolView
from potluck_tui.session import Session
from potluck_tui.tables import node_details
from tui import samples

GIB = 2**30
POOL = PoolView.from_proto(samples.house())


def node(name: str, **more: object) -> NodeView:
    plain = NodeView(
        name=name,
        health=Health.READY,
        address=f"{name}:7421",
        found_by="zeroconf",
        age_seconds=0.2,
        round_trip_seconds=0.002,
        version="1",
        problem="",
        queue_length=0,
        tokens_per_second=0.0,
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def card(free: int, **more: object) -> DeviceView:
    return replace(DeviceView("card", "CUDA", 16 * GIB, free * GIB), **more)  # type: ignore[arg-type]


def shown(fleet: Fleet, pool: PoolView = POOL) -> list[str]:
    return [node.name for node in fleet.shown(pool.nodes)]


def loading(fraction: float) -> PoolView:
    model = LoadedView("big:Q4", "loading", "llama", 0, 0, 0, 0, 0, load_fraction=fraction)
    described = replace(
        ModelView("big:Q4", 0, 0, 0, 0, "", ("studio",), (), 0, usable=True), file_bytes=8 * GIB
    )
    return PoolView((node("studio", loaded=(model,)),), (described,))


def test_words_filter_what_is_shown_and_a_mark_turns_one_round() -> None:
    fleet = Fleet()
    fleet.filter = "metal"
    assert shown(fleet) == ["macbook"]
    fleet.filter = "!lost llama-3.1"
    assert shown(fleet) == ["studio"]
    fleet.filter = "!cuda !lost"
    assert shown(fleet) == ["macbook", "old-laptop"]
    fleet.filter = "!"
    assert len(shown(fleet)) == 4


def test_faults_alone_are_shown_on_demand() -> None:
    fleet = Fleet()
    fleet.faults_only = True
    assert shown(fleet) == ["attic", "old-laptop"]


def test_a_machine_too_hot_is_at_fault() -> None:
    engine = POOL.nodes[-1].engines[:1]
    cool = node("a", engines=engine, devices=(card(4, temperature_celsius=70.0),))
    assert not fault(cool)
    assert "95 degrees" in fault(replace(cool, devices=(card(4, temperature_celsius=95.0),)))


def test_sorting_puts_first_what_one_looks_for() -> None:
    fleet, firsts = Fleet(), {}
    for _ in Sort:
        firsts[fleet.sort] = shown(fleet)[0]
        fleet.sort_by_next()
    assert fleet.sort is Sort.NAME
    assert firsts[Sort.NAME] == "attic"
    assert firsts[Sort.STATE] == "macbook"
    assert firsts[Sort.MEMORY] == "studio"
    assert firsts[Sort.SPEED] == "studio"
    assert firsts[Sort.QUEUE] == "old-laptop"
    assert firsts[Sort.TEMPERATURE] == "studio"


def test_history_keeps_the_most_of_a_few_seconds_and_a_bounded_time() -> None:
    fleet = Fleet()
    for number in range(3 * SAMPLES_KEPT):
        for speed in (5.0, 40.0 + number, 7.0):
            pool = PoolView((node("studio", tokens_per_second=speed),))
            fleet.seen(pool, number * SAMPLE_SECONDS)
    history = fleet.history("studio:7421")
    assert len(history) == SAMPLES_KEPT
    assert history[-1].tokens_per_second == 40 + 3 * SAMPLES_KEPT - 1


def test_a_machine_that_left_leaves_no_history() -> None:
    fleet = Fleet()
    fleet.seen(PoolView((node("studio"),)), 0.0)
    fleet.seen(PoolView(), 1.0)
    assert fleet.history("studio:7421") == ()


def test_a_load_is_told_with_its_size_speed_and_time_left() -> None:
    fleet = Fleet()
    fleet.seen(loading(0.25), 100.0)
    fleet.seen(loading(0.5), 110.0)
    (load,) = fleet.loading["studio:7421"]
    assert loading_words(load) == "loading big:Q4: 50% of 8.0 GiB, 205 MiB/s, 20 s left"
    fleet.seen(PoolView((node("studio"),)), 120.0)
    assert not fleet.loading


def test_the_first_sight_of_a_load_promises_no_speed() -> None:
    fleet = Fleet()
    fleet.seen(loading(0.25), 100.0)
    assert loading_words(fleet.loading["studio:7421"][0]) == "loading big:Q4: 25% of 8.0 GiB"


def test_the_session_feeds_the_history() -> None:
    session = Session()
    session.handle(PoolSeen(POOL, 7.0))
    assert session.fleet.history("192.0.2.10:7421")[0].tokens_per_second > 42


def test_a_memory_bar_shows_every_part_and_is_as_long_as_asked() -> None:
    device = card(9, weights_bytes=4 * GIB, cache_bytes=1)
    bar = memory_bar(device, 16).plain
    assert bar == "█" * 4 + "▓" + "▒" * 3 + "░" * 8
    full = memory_bar(card(0, weights_bytes=16 * GIB), 5).plain
    assert full == "█" * 5
    assert memory_bar(None, 5).plain == "?"


def test_a_sparkline_is_as_wide_as_its_place_and_shows_the_newest() -> None:
    assert sparkline([0, 1, 2, 4], 6) == "   ▃▅█"
    assert sparkline([9.0] * 9, 3) == "███"
    assert sparkline([], 3) == "   "
    assert sparkline([0.5], 1, most=1.0) == "▅"


def test_what_is_known_of_a_lost_machine_is_old_and_dim() -> None:
    ready = POOL.nodes[0]
    for health in Health:
        spans = line(replace(ready, health=health), 80, ()).spans
        dim = any(span.style == "dim" and span.end - span.start > 70 for span in spans)
        assert dim == (health in (Health.LOST, Health.REFUSED))


def test_a_model_on_its_way_has_no_slots_yet() -> None:
    coming = LoadedView("llama:Q4", "loading 30%", "llama", 2**30, 0, 0, 0, 0)
    console = Console(width=100)
    with console.capture() as capture:
        console.print(node_details(replace(POOL.nodes[0], loaded=(coming,))))
    rows = [row.rstrip() for row in capture.get().splitlines()]
    assert "  loading 30% llama:Q4 by llama: 1.0 GiB" in rows


def test_lines_are_as_wide_as_the_heading_at_every_width() -> None:
    studio = POOL.node("192.0.2.10:7421")
    assert studio is not None
    for width in (80, 100, 110, 140, 200):
        cells = heading(width).cell_len
        assert cells <= width
        for each in POOL.nodes:
            assert line(each, width, ()).cell_len == cells
    narrow = heading(40)
    assert narrow.plain.split() == ["machine", "state", "memory", "age"]
    assert narrow.cell_len == 40
    assert "61" not in line(studio, 80, ()).plain
    assert "61" in line(studio, 100, ()).plain
