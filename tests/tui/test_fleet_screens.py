"""The machines and the models: how they look, and what is told to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2
from potluck_tui.preferences import Preferences, Read
from potluck_tui.screens.nodes import NodesScreen
from tui import samples
from tui.stage import LARGE, SMALL, StagedApp, make_stage, staged, type_text, until

Compare = Callable[..., bool]
Size = tuple[int, int]
SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "200x50"])

STUDIO = "192.0.2.10:7421"
LLAMA = "llama-3.1-8b-instruct:Q4_K_M"


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Show clocks as in Greenwich."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def busy_house() -> pb.WatchPoolResponse:
    """Return the house while the Mac loads a large model and has drained nothing."""
    house = samples.house()
    house.nodes[1].state.loaded.add(
        name=samples.QWEN.name,
        quantization=samples.QWEN.quantization,
        state=types_pb2.MODEL_STATE_LOADING,
        load_fraction=0.34,
    )
    return house


def decided(
    unix_seconds: float, verdict: types_pb2.Verdict.ValueType, reason: str
) -> types_pb2.Explanation:
    return types_pb2.Explanation(
        model="llama-3.1-8b-instruct",
        quantization="Q4_K_M",
        decided_unix_seconds=unix_seconds,
        candidates=[
            types_pb2.Candidate(node_id="1", node_name="studio", verdict=verdict, reason=reason)
        ],
    )


def llama_fit() -> list[pb.NodeFit]:
    """Return that the model fits into the studio and not into the Mac."""
    gib = samples.GIBIBYTE
    fits = []
    for name, free in (("studio", 9 * gib), ("macbook", 5 * gib)):
        fit = types_pb2.Fit(
            fits=free > 6 * gib,
            options=types_pb2.LoadOptions(
                model="llama-3.1-8b-instruct",
                quantization="Q4_K_M",
                context_length=8192,
                slots=4,
                kv_type="f16",
            ),
            largest_context_length=free // gib * 4096,
            training_context_length=131072,
        )
        fit.devices.add(
            device_id="card",
            name="NVIDIA GeForce RTX 4080" if name == "studio" else "Apple M3 Pro",
            weights_bytes=int(4.6 * gib),
            kv_cache_bytes=gib,
            compute_bytes=gib // 4,
            margin_bytes=gib // 4,
            free_bytes=free,
        )
        fits.append(pb.NodeFit(node_name=name, fit=fit))
    return fits


async def at_machines(pilot: Pilot[None], app: StagedApp) -> None:
    await until(pilot, lambda: app.session.connected is True)
    await pilot.press("f4")
    await until(pilot, lambda: app.shows("old-laptop"))


def cursor_of(app: StagedApp) -> str:
    screen = app.screen
    assert isinstance(screen, NodesScreen)
    return screen.chosen.name if screen.chosen else ""


# --- Pictures ------------------------------------------------------------------------------------


@SIZES
def test_machines(app: StagedApp, snap_compare: Compare, size: Size) -> None:
    app.scheduler.pool = busy_house()

    async def stage(pilot: Pilot[None]) -> None:
        await at_machines(pilot, app)
        await pilot.press("end")
        await until(pilot, lambda: app.shows("38% busy"))

    assert snap_compare(app, terminal_size=size, run_before=stage)


@SIZES
def test_faults(app: StagedApp, snap_compare: Compare, size: Size) -> None:
    async def stage(pilot: Pilot[None]) -> None:
        await at_machines(pilot, app)
        await pilot.press("z", "slash")
        await type_text(pilot, "laptop")
        await until(pilot, lambda: app.shows("has no engine") and not app.shows("attic"))

    assert snap_compare(app, terminal_size=size, run_before=stage)


@SIZES
@pytest.mark.usefixtures("utc")
def test_machine(app: StagedApp, snap_compare: Compare, size: Size) -> None:
    app.scheduler.logs[""] = samples.log(12)
    app.scheduler.decisions = [
        decided(1_800_000_060, types_pb2.VERDICT_CHOSEN, "in memory, 1 of 4 slots busy"),
        decided(1_800_000_000, types_pb2.VERDICT_REJECTED, "needs 26.0 GiB, 9.0 GiB are free"),
    ]

    async def stage(pilot: Pilot[None]) -> None:
        await at_machines(pilot, app)
        await pilot.press("end", "enter")
        await until(pilot, lambda: app.shows("RTX 4080"))
        inspector = app.session.inspector
        await until(pilot, lambda: bool(inspector.decisions and inspector.log))
        await until(pilot, lambda: bool(inspector.log and inspector.log.lines))
        if size == SMALL:
            await pilot.press("end")
        await until(pilot, lambda: app.shows("ruled out for") and app.shows("line 12"))

    assert snap_compare(app, terminal_size=size, run_before=stage)


@SIZES
def test_models(app: StagedApp, snap_compare: Compare, size: Size) -> None:
    app.scheduler.pool = busy_house()
    app.scheduler.fits = {LLAMA: llama_fit()}

    async def stage(pilot: Pilot[None]) -> None:
        await at_machines(pilot, app)
        await pilot.press("tab")
        await until(pilot, lambda: app.shows("studio: llama") and app.shows("34%"))

    assert snap_compare(app, terminal_size=size, run_before=stage)


def test_a_question_before_an_order(app: StagedApp, snap_compare: Compare) -> None:
    async def stage(pilot: Pilot[None]) -> None:
        await at_machines(pilot, app)
        await pilot.press("end", "d")
        await until(pilot, lambda: app.shows("Drain studio?") and app.shows("by name"))

    assert snap_compare(app, terminal_size=SMALL, run_before=stage)


# --- Looking -------------------------------------------------------------------------------------


async def test_the_cursor_stays_at_its_machine_when_the_order_changes(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await at_machines(pilot, app)
        await pilot.press("down")
        assert cursor_of(app) == "macbook"
        await pilot.press("o")
        await until(pilot, lambda: app.shows("by state"))
        assert cursor_of(app) == "macbook"
        house = samples.house()
        house.nodes[1].state.name = "a-macbook"
        app.scheduler.change_pool(house)
        await until(pilot, lambda: app.shows("a-macbook"))
        assert cursor_of(app) == "a-macbook"


async def test_a_filter_is_left_by_escape_and_kept_by_enter(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await at_machines(pilot, app)
        await pilot.press("slash", "m", "e", "t", "a", "l", "enter")
        await until(pilot, lambda: app.shows("macbook") and not app.shows("studio"))
        await pilot.press("escape")
        await until(pilot, lambda: app.shows("studio") and app.shows("Machines:"))
        await pilot.press("escape")
        await until(pilot, lambda: not app.shows("Machines:"))


async def test_an_empty_table_says_why(app: StagedApp) -> None:
    app.scheduler.pool = samples.house()
    del app.scheduler.pool.nodes[1:]
    async with staged(app) as pilot:
        await until(pilot, lambda: app.session.connected is True)
        await pilot.press("f4", "z")
        await until(pilot, lambda: app.shows("No machine has a fault."))
        await pilot.press("slash", "x")
        await until(pilot, lambda: app.shows("No machine matches the filter."))


async def test_old_news_is_said_to_be_old_in_every_place(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await at_machines(pilot, app)
        await app.scheduler.stop()
        await until(pilot, lambda: app.shows("`potluck up` starts it again"))
        for keys in ([], ["enter"], ["escape", "tab"], ["enter"], ["escape", "f"]):
            await pilot.press(*keys)
            await until(pilot, lambda: "no connection to the scheduler" in app.rows()[0])
        await app.scheduler.start()
        await until(pilot, lambda: "no connection" not in app.rows()[0])


async def test_two_machines_of_one_name_have_a_row_each(app: StagedApp) -> None:
    house = samples.house()
    house.nodes[1].state.name = "studio"
    app.scheduler.pool = house
    async with staged(app) as pilot:
        await at_machines(pilot, app)
        assert sum(row.startswith("studio") for row in app.rows()) == 2


async def test_over_ssh_news_is_drawn_after_a_while_and_not_lost(short_tmp: Path) -> None:
    app = make_stage(short_tmp, ssh=True)
    app.scheduler.pool = samples.house()
    async with staged(app) as pilot:
        await at_machines(pilot, app)
        house = samples.house()
        house.nodes[0].state.queue_length = 77
        app.scheduler.change_pool(house)
        await until(pilot, lambda: app.session.pool.node(STUDIO) is not None)
        await until(pilot, lambda: app.session.pool.nodes[-1].queue_length == 77)
        assert not app.shows("77")
        await until(pilot, lambda: app.shows("77"))


async def test_a_machine_that_leaves_while_it_is_looked_at_stays_to_be_read(
    app: StagedApp,
) -> None:
    async with staged(app) as pilot:
        await at_machines(pilot, app)
        await pilot.press("end", "enter")
        await until(pilot, lambda: app.shows("RTX 4080"))
        app.scheduler.change_pool(pb.WatchPoolResponse())
        await until(pilot, lambda: not app.session.pool.nodes)
        assert app.shows("RTX 4080")
        await pilot.press("escape")
        await until(pilot, lambda: app.shows("No machine has joined"))


async def test_the_log_of_a_machine_is_followed_only_while_it_is_looked_at(
    app: StagedApp,
) -> None:
    async with staged(app) as pilot:
        await at_machines(pilot, app)
        await pilot.press("end", "enter")
        await until(pilot, lambda: app.scheduler.log_readers == 1)
        await pilot.press("l")
        await until(pilot, lambda: app.shows("Log of studio"))
        await pilot.press("escape")
        await until(pilot, lambda: app.shows("RTX 4080") and app.scheduler.log_readers == 1)
        await pilot.press("escape")
        await until(pilot, lambda: app.scheduler.log_readers == 0)


async def test_from_machines_to_models_and_back_is_one_key(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await at_machines(pilot, app)
        for words in ("Models:", "Machines:", "Models:"):
            await pilot.press("tab")
            await until(pilot, lambda words=words: app.shows(words))  # type: ignore[misc]
        await pilot.press("escape")
        await until(pilot, lambda: app.focused is app.prompt)


async def test_a_model_that_rests_under_the_cursor_is_asked_about(app: StagedApp) -> None:
    app.scheduler.fits = {LLAMA: llama_fit()}
    async with staged(app) as pilot:
        await at_machines(pilot, app)
        await pilot.press("tab")
        await until(pilot, lambda: app.shows("fits."))
        await pilot.press("end")
        await until(pilot, lambda: not app.shows("fits."))
        await pilot.press("home", "c")
        await until(pilot, lambda: app.session.conversation.chat.model == LLAMA)


async def test_a_model_is_asked_about_again_when_it_is_loaded_or_unloaded(app: StagedApp) -> None:
    app.scheduler.fits = {LLAMA: llama_fit()}
    async with staged(app, LARGE) as pilot:
        await at_machines(pilot, app)
        await pilot.press("tab")
        await until(pilot, lambda: app.shows("9.0 GiB"))
        app.scheduler.fits[LLAMA][0].fit.devices[0].free_bytes = 15 * samples.GIBIBYTE
        house = samples.house()
        del house.models[0].loaded_on[:]
        app.scheduler.change_pool(house)
        await until(pilot, lambda: app.shows("15.0 GiB"))


async def test_what_was_measured_of_a_model_stands_at_it_and_at_its_machine(
    app: StagedApp,
) -> None:
    app.scheduler.fits = {LLAMA: llama_fit()}
    model = next(m for m in app.scheduler.pool.models if m.description.name in LLAMA)
    alone, four = (pb.BenchmarkLevel(streams=streams) for streams in (1, 4))
    alone.decode_tokens_per_second, four.total_tokens_per_second = 42, 120
    alone.time_to_first_token_seconds, alone.joules_per_token = 0.3, 1.7
    model.benchmarks.add(node_name="studio", levels=[alone, four])
    figures = "42 tokens/s, 120 in all with 4 at once, first token after 0.3 s, 1.7 J a token"
    async with staged(app, (140, 40)) as pilot:
        await at_machines(pilot, app)
        await pilot.press("tab")
        await until(pilot, lambda: app.shows(f"measured on studio: {figures}"))
        await pilot.press("tab", "end", "enter")
        await until(pilot, lambda: app.shows(f"{LLAMA}: {figures}"))


# --- Orders --------------------------------------------------------------------------------------


async def given(pilot: Pilot[None], app: StagedApp, *keys: str) -> object:
    """Press keys at the studio; return what the scheduler was told."""
    await at_machines(pilot, app)
    await pilot.press("end")
    await pilot.press(*keys)
    await until(pilot, lambda: bool(app.scheduler.orders))
    return app.scheduler.orders[-1]


async def test_a_machine_is_drained_after_a_yes(app: StagedApp) -> None:
    async with staged(app) as pilot:
        told = await given(pilot, app, "d", "y")
        assert told == pb.DrainNodeRequest(node=STUDIO, draining=True)
        await until(pilot, lambda: app.shows("studio is draining."))


async def test_a_machine_that_drains_is_asked_to_take_work_again(app: StagedApp) -> None:
    app.scheduler.pool.nodes[0].state.draining = True
    async with staged(app) as pilot:
        told = await given(pilot, app, "d", "y")
        assert told == pb.DrainNodeRequest(node=STUDIO, draining=False)


async def test_models_are_unloaded_pinned_and_machines_removed(app: StagedApp) -> None:
    async with staged(app) as pilot:
        told = await given(pilot, app, "u", "y")
        assert told == pb.UnloadModelRequest(model=LLAMA, node=STUDIO)
        app.scheduler.orders.clear()
        await pilot.press("p", "y")
        await until(pilot, lambda: bool(app.scheduler.orders))
        assert app.scheduler.orders == [pb.PinModelRequest(model=LLAMA, node=STUDIO, pinned=True)]
        app.scheduler.orders.clear()
        await pilot.press("x", "y")
        await until(pilot, lambda: bool(app.scheduler.orders))
        assert app.scheduler.orders == [pb.RemoveNodeRequest(node=STUDIO)]


async def test_a_model_is_loaded_from_a_list_where_there_are_several(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await at_machines(pilot, app)
        await pilot.press("down", "a")
        await until(pilot, lambda: app.shows("Load on macbook"))
        await pilot.press("2")
        await until(pilot, lambda: bool(app.scheduler.orders))
        told = pb.LoadModelRequest(model="qwen2.5-32b-instruct:Q5_K_M", node="192.0.2.11:7421")
        assert app.scheduler.orders == [told]


async def test_a_machine_with_all_its_models_in_memory_says_so(app: StagedApp) -> None:
    for model in app.scheduler.pool.models:
        if "studio" in model.node_names and model.description.name not in LLAMA:
            model.usable = False
    async with staged(app) as pilot:
        await at_machines(pilot, app)
        await pilot.press("end", "a")
        await until(pilot, lambda: app.shows("studio has all its models in memory."))


async def test_neither_enter_nor_no_gives_an_order(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await at_machines(pilot, app)
        await pilot.press("end", "d", "enter")
        assert app.shows("Drain studio?")
        await pilot.press("n")
        await until(pilot, lambda: not app.shows("Drain studio?"))
        assert not app.scheduler.orders


async def test_models_are_loaded_from_their_own_screen(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await at_machines(pilot, app)
        await pilot.press("tab", "a", "y")
        await until(pilot, lambda: bool(app.scheduler.orders))
        assert app.scheduler.orders == [pb.LoadModelRequest(model=LLAMA, node="macbook")]


@pytest.mark.parametrize("keys", [["d"], ["a"], ["u"], ["p"], ["x"], ["tab", "a"], ["tab", "u"]])
async def test_a_terminal_that_only_looks_on_tells_nothing(
    short_tmp: Path, keys: list[str]
) -> None:
    app = make_stage(short_tmp, preferences=Read(Preferences(read_only=True)))
    app.scheduler.pool = samples.house()
    async with staged(app) as pilot:
        await at_machines(pilot, app)
        await pilot.press("end")
        await until(pilot, lambda: app.shows("read-only"))
        await pilot.press(*keys)
        await until(pilot, lambda: app.shows("only looks on"))
        assert not app.shows("yes")
