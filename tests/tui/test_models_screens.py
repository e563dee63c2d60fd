"""The models: explained, found, fetched; how that looks, and what is told to machines."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from potluck_proto.errors import DiskFull
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_tui.downloads import DownloadView, progress_line
from potluck_tui.events import HubAnswered
from potluck_tui.hub import Hub, Page
from potluck_tui.instructions import ListRepository, Recommend, SearchHub
from potluck_tui.preferences import Preferences, Read
from tui import samples
from tui.stage import SMALL, StagedApp, make_stage, staged, type_text, until
from tui.test_fleet_screens import LLAMA, SIZES, Compare, Size, llama_fit

REPO = "Qwen/Qwen3-8B-GGUF"
GIB = samples.GIBIBYTE


def llama_detail() -> types.ModelDetail:
    detail = types.ModelDetail(
        description=samples.LLAMA,
        path="/home/ada/models/llama-3.1-8b-instruct-Q4_K_M.gguf",
        organization="Meta",
        base_models=["meta-llama/Llama-3.1-8B"],
        tuning_source="it was made from meta-llama/Llama-3.1-8B",
        template_supports=["system", "tools"],
        modalities=["text"],
        licence=types.Licence(
            id="llama3.1",
            commercial_use=types.COMMERCIAL_USE_CONDITIONS,
            terms="Say that it is built with Llama; above 700 million users ask Meta.",
            source="its files name 'llama3.1'",
        ),
    )
    model = detail.description
    model.title, model.bits_per_weight = "Llama 3.1 8B Instruct", 4.89
    model.vocabulary_size, model.has_chat_template = 128_256, True
    model.tuning, model.commercial_use = types.TUNING_TUNED, types.COMMERCIAL_USE_CONDITIONS
    model.engines.append("llama")
    detail.tensor_types.add(name="Q4_K", size_bytes=68)
    detail.tensor_types.add(name="Q6_K", size_bytes=32)
    return detail


def recommendation(name: str, gib: float, speed: float, **more: object) -> pb.Recommendation:
    found = pb.Recommendation(
        name=name,
        repository=f"maker/{name}-GGUF",
        quantization="Q4_K_M",
        node_name="studio",
        context_length=8192,
        parameter_count=int(gib * 1.7e9),
        active_parameter_count=int(gib * 1.7e9),
        memory_needed_bytes=int((gib + 1.2) * GIB),
        file_bytes=int(gib * GIB),
        tokens_per_second=speed,
        licence="apache-2.0",
        uses=["chat"],
        source="https://hub.test/maker",
        source_date="2026-11-24",
    )
    found.MergeFrom(pb.Recommendation(**more))  # type: ignore[arg-type]
    return found


def repository() -> pb.ListRepositoryResponse:
    response = pb.ListRepositoryResponse(
        repository=types.HubRepository(
            name=REPO,
            parameter_count=8_190_000_000,
            downloads=51_000,
            licence=types.Licence(id="apache-2.0", commercial_use=types.COMMERCIAL_USE_YES),
            base_models=["Qwen/Qwen3-8B"],
        ),
        node_name="studio",
    )
    for name, gib, bits, fits in (("Q8_0", 8.1, 8.5, False), ("Q4_K_M", 4.7, 4.9, True)):
        response.variants.add(
            name=name,
            size_bytes=int(gib * GIB),
            bits_per_weight=bits,
            fit=types.PoolFit(node_name="studio", missing_bytes=0 if fits else GIB),
        )
    return response


@pytest.fixture
def app(app: StagedApp) -> StagedApp:
    """An app whose scheduler knows models, a hub, and what to recommend."""
    scheduler = app.scheduler
    model = scheduler.pool.models[0].description
    model.CopyFrom(llama_detail().description)
    scheduler.details = {LLAMA: llama_detail()}
    scheduler.fits = {LLAMA: llama_fit()}
    scheduler.repositories = {REPO: repository()}
    scheduler.recommended.recommendations.extend(
        [
            recommendation("Qwen3-14B", 8.4, 38.0),
            recommendation("Qwen3-8B", 4.7, 61.0, measured=True),
            recommendation("Qwen3-4B", 2.4, 110.0, present=True),
        ]
    )
    return app


def fetching(house: pb.WatchPoolResponse, done: float) -> pb.WatchPoolResponse:
    """Return the pool while the studio fetches a model."""
    del house.nodes[0].state.downloads[:]
    house.nodes[0].state.downloads.add(
        repository=REPO,
        variant="Q4_K_M",
        done_bytes=int(done * 4.7 * GIB),
        total_bytes=int(4.7 * GIB),
        bytes_per_second=40e6,
        seconds_left=83,
    )
    return house


async def at_models(pilot: Pilot[None], app: StagedApp) -> None:
    await until(pilot, lambda: app.session.connected is True)
    await pilot.press("f12")
    await until(pilot, lambda: app.shows("Models:") and app.shows("llama-3.1"))


async def at_model(pilot: Pilot[None], app: StagedApp) -> None:
    await at_models(pilot, app)
    await pilot.press("enter")
    await until(pilot, lambda: app.shows("quantization") and bool(app.session.fits.answer(LLAMA)))


async def move_to(pilot: Pilot[None], app: StagedApp, words: str) -> None:
    """Move the cursor down until some words show."""
    for _ in range(20):
        if app.shows(words):
            return
        await pilot.press("down")
        await pilot.pause()
    raise AssertionError("\n".join(app.rows()))


# --- Pictures ------------------------------------------------------------------------------------


@SIZES
def test_a_model_explained(app: StagedApp, snap_compare: Compare, size: Size) -> None:
    async def stage(pilot: Pilot[None]) -> None:
        await at_model(pilot, app)
        await move_to(pilot, app, "instead of 15.0 GiB")

    assert snap_compare(app, terminal_size=size, run_before=stage)


@SIZES
def test_what_would_run_well(app: StagedApp, snap_compare: Compare, size: Size) -> None:
    async def stage(pilot: Pilot[None]) -> None:
        await at_models(pilot, app)
        await pilot.press("r", "down")
        await until(pilot, lambda: app.shows("as measured there"))

    assert snap_compare(app, terminal_size=size, run_before=stage)


@SIZES
def test_a_repository(app: StagedApp, snap_compare: Compare, size: Size) -> None:
    async def stage(pilot: Pilot[None]) -> None:
        await at_models(pilot, app)
        await pilot.press("f")
        await type_text(pilot, "qwen")
        await pilot.press("enter")
        await until(pilot, lambda: app.shows("FETCHED"))
        await pilot.press("enter")
        await until(pilot, lambda: app.shows("VARIANT"))

    assert snap_compare(app, terminal_size=size, run_before=stage)


@SIZES
def test_models_on_their_way(app: StagedApp, snap_compare: Compare, size: Size) -> None:
    app.scheduler.pool = fetching(app.scheduler.pool, 0.34)
    app.session.hub.failures["maker/Huge-GGUF:Q8_0"] = (
        "The model was not fetched. It takes 310.0 GiB, and the disk of studio has 120.0 GiB."
    )

    async def stage(pilot: Pilot[None]) -> None:
        await at_models(pilot, app)
        await pilot.press("down")
        await until(pilot, lambda: app.shows("the disk of studio"))

    assert snap_compare(app, terminal_size=size, run_before=stage)


# --- One model, explained ------------------------------------------------------------------------


async def test_each_property_is_explained_with_what_it_means_here(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await at_model(pilot, app)
        await move_to(pilot, app, "4.9 bits a weight: 4.6 GiB instead of 15.0 GiB")
        assert app.shows("In memory on studio with 8K context")
        assert app.shows("Quantization stores each weight")
        await move_to(pilot, app, "Here: A conversation here may have 8,192 tokens")
        await move_to(pilot, app, "Here: Read its terms")
        await move_to(pilot, app, "studio (CUDA, 16.0 GiB)")


async def test_the_text_below_scrolls_by_keys_and_starts_anew_with_each_property(
    app: StagedApp,
) -> None:
    async with staged(app) as pilot:
        await at_model(pilot, app)
        await pilot.press("end", "up", "up")
        await until(pilot, lambda: app.shows("Now 5.0 GiB free on macbook"))
        assert not app.shows("macbook: llama")
        await pilot.press("space", "space")
        await until(pilot, lambda: app.shows("macbook: llama"))
        await pilot.press("b", "b")
        await until(pilot, lambda: app.shows("Now 5.0 GiB free on macbook"))
        await pilot.press("space", "up", "down")
        await until(pilot, lambda: app.shows("Now 5.0 GiB free on macbook"))


async def test_a_model_that_cannot_be_described_says_why_in_its_place(app: StagedApp) -> None:
    app.scheduler.details = {}
    async with staged(app) as pilot:
        await at_models(pilot, app)
        await pilot.press("enter")
        await until(pilot, lambda: app.shows(f"problem        No machine has {LLAMA}."))


async def test_a_model_that_leaves_while_it_is_read_stays(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await at_model(pilot, app)
        house = samples.house()
        del house.models[0]
        app.scheduler.change_pool(house)
        await until(pilot, lambda: len(app.session.pool.models) == 3)
        assert app.shows("Llama 3.1 8B Instruct")
        await pilot.press("escape")
        await until(pilot, lambda: app.shows("Models: 3 models"))


async def test_a_model_is_used_loaded_and_unloaded_from_its_own_screen(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await at_model(pilot, app)
        await pilot.press("c")
        await until(pilot, lambda: app.session.conversation.chat.model == LLAMA)
        await pilot.press("u", "y")
        await until(pilot, lambda: bool(app.scheduler.orders))
        assert app.scheduler.orders == [pb.UnloadModelRequest(model=LLAMA, node="studio")]


# --- Finding and fetching ------------------------------------------------------------------------


async def test_a_recommended_model_is_fetched_to_where_it_would_run(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await at_models(pilot, app)
        await pilot.press("r")
        await until(pilot, lambda: app.shows("~38") and app.shows("Qwen3-4B *"))
        await pilot.press("enter")
        await until(pilot, lambda: app.shows("Fetch maker/Qwen3-14B-GGUF:Q4_K_M, 8.4 GiB, to"))
        await pilot.press("y")
        await until(pilot, lambda: app.shows("Models:"))
        told = pb.PullModelRequest(
            repository="maker/Qwen3-14B-GGUF", variant="Q4_K_M", node="studio"
        )
        assert app.scheduler.orders == [told]
        app.scheduler.fetched.set()
        await until(pilot, lambda: app.shows("maker/Qwen3-14B-GGUF:Q4_K_M is fetched."))


async def test_what_would_run_is_asked_again_when_the_screen_opens_or_the_pool_changes(
    app: StagedApp,
) -> None:
    async with staged(app) as pilot:
        await at_models(pilot, app)
        await pilot.press("r")
        await until(pilot, lambda: app.shows("Qwen3-14B"))
        await pilot.press("escape")
        await until(pilot, lambda: app.shows("Models:"))
        app.scheduler.recommended.recommendations[0].name = "Qwen3-30B"
        await pilot.press("f")
        await until(pilot, lambda: app.shows("Qwen3-30B"))
        app.scheduler.recommended.recommendations[0].name = "Qwen3-32B"
        house = samples.house()
        del house.nodes[1]
        app.scheduler.change_pool(house)
        await until(pilot, lambda: app.shows("Qwen3-32B"))
        await pilot.press("escape")
        await until(pilot, lambda: app.shows("Models:"))


async def test_what_is_there_already_is_not_fetched(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await at_models(pilot, app)
        await pilot.press("r")
        await until(pilot, lambda: app.shows("Qwen3-4B *"))
        await pilot.press("end", "enter")
        await until(pilot, lambda: app.shows("is on studio already"))
        assert not app.scheduler.orders


async def test_a_repository_is_searched_listed_and_left_page_by_page(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await at_models(pilot, app)
        await pilot.press("f", *"qwen", "enter")
        await until(pilot, lambda: app.shows("Search: qwen") and app.shows(REPO))
        await pilot.press("enter")
        await until(pilot, lambda: app.shows("too large") and app.shows("good (+2.8%)"))
        await pilot.press("down", "enter", "y")
        await until(pilot, lambda: bool(app.scheduler.orders))
        assert app.scheduler.orders[0].variant == "Q4_K_M"  # type: ignore[attr-defined]
        for words in ("VARIANT", "Search: qwen", "What would run well", "Models:"):
            await pilot.press("f", "tab") if words == "VARIANT" else await pilot.press("escape")
            await until(pilot, lambda words=words: app.shows(words))  # type: ignore[misc]


async def test_a_model_is_fetched_by_its_name(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await at_models(pilot, app)
        await pilot.press("f", *f"{REPO}:Q4_K_M", "enter")
        await until(pilot, lambda: app.shows(f"Fetch {REPO}:Q4_K_M to the machine"))
        await pilot.press("y")
        await until(pilot, lambda: bool(app.scheduler.orders))
        assert app.scheduler.orders == [pb.PullModelRequest(repository=REPO, variant="Q4_K_M")]


async def test_without_the_hub_a_sentence_says_so_and_the_rest_goes_on(app: StagedApp) -> None:
    app.scheduler.repositories = {}
    async with staged(app) as pilot:
        await at_models(pilot, app)
        await pilot.press("f", *"qwen", "enter")
        await until(pilot, lambda: app.shows("The hub at hub.test cannot be reached."))
        assert app.shows("Qwen3-14B")
        await pilot.press("escape")
        await until(pilot, lambda: app.shows("Models:"))
        await pilot.press("r")
        await until(pilot, lambda: app.shows("Qwen3-14B"))
        assert not app.shows("cannot be reached")


async def test_progress_shows_and_a_fetch_is_stopped_after_a_yes(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await at_models(pilot, app)
        await pilot.press("f", *f"{REPO}:Q4_K_M", "enter", "y")
        await until(pilot, lambda: bool(app.scheduler.orders))
        app.scheduler.orders.clear()
        app.scheduler.change_pool(fetching(samples.house(), 0.34))
        await until(pilot, lambda: app.shows("to studio, 34% of 4.7 GiB, 38 MiB/s, 1m left"))
        app.scheduler.change_pool(fetching(samples.house(), 0.5))
        await until(pilot, lambda: app.shows("50% of 4.7 GiB"))
        await pilot.press("x")
        await until(pilot, lambda: app.shows("What came is kept"))
        assert not app.scheduler.orders
        await pilot.press("y")
        await until(pilot, lambda: app.shows("it goes on where it was"))
        told = pb.StopPullModelRequest(repository=REPO, variant="Q4_K_M", node="studio")
        assert app.scheduler.orders == [told]
        app.scheduler.change_pool(samples.house())
        await until(pilot, lambda: not app.shows("50% of"))
        assert not app.session.hub.failures


async def test_a_fetch_that_fails_stays_on_the_screen_until_it_is_forgotten(
    app: StagedApp,
) -> None:
    async with staged(app) as pilot:
        await at_models(pilot, app)
        await pilot.press("f", *f"{REPO}:Q4_K_M", "enter", "y")
        await until(pilot, lambda: bool(app.scheduler.orders))
        app.scheduler.fetch_problem = DiskFull("studio has 1.0 GiB free; it takes 4.7 GiB.")
        app.scheduler.fetched.set()
        row = f"{REPO}:Q4_K_M was not fetched"
        await until(pilot, lambda: app.shows(row))
        await pilot.press("home")
        await until(pilot, lambda: app.shows("studio has 1.0 GiB free; it takes 4.7 GiB."))
        await pilot.press("x")
        await until(pilot, lambda: not app.shows(row))


async def test_x_where_nothing_is_fetched_says_so(app: StagedApp) -> None:
    async with staged(app) as pilot:
        await at_models(pilot, app)
        await pilot.press("x")
        await until(pilot, lambda: app.shows("Nothing is being fetched."))


async def test_a_terminal_that_only_looks_on_fetches_nothing(short_tmp: Path) -> None:
    app = make_stage(short_tmp, preferences=Read(Preferences(read_only=True)))
    app.scheduler.pool = samples.house()
    app.scheduler.recommended.recommendations.append(recommendation("Qwen3-8B", 4.7, 61.0))
    async with staged(app) as pilot:
        await at_models(pilot, app)
        await pilot.press("r")
        await until(pilot, lambda: app.shows("Qwen3-8B"))
        await pilot.press("enter")
        await until(pilot, lambda: app.shows("only looks on"))
        assert not app.scheduler.orders


async def test_over_ssh_progress_is_drawn_after_a_while_and_not_lost(short_tmp: Path) -> None:
    app = make_stage(short_tmp, ssh=True)
    app.scheduler.pool = samples.house()
    async with staged(app) as pilot:
        await at_models(pilot, app)
        app.scheduler.change_pool(fetching(samples.house(), 0.34))
        await until(pilot, lambda: any(node.downloads for node in app.session.pool.nodes))
        assert not app.shows("34% of")
        await until(pilot, lambda: app.shows("34% of"))


async def test_a_fetch_is_followed_again_where_the_connection_breaks(app: StagedApp) -> None:
    async with staged(app, SMALL) as pilot:
        await at_models(pilot, app)
        await pilot.press("f", *f"{REPO}:Q4_K_M", "enter", "y")
        await until(pilot, lambda: len(app.scheduler.orders) == 1)
        await app.scheduler.stop()
        await app.scheduler.start()
        await until(pilot, lambda: len(app.scheduler.orders) == 2)
        app.scheduler.fetched.set()
        await until(pilot, lambda: app.shows("is fetched."))
        assert app.scheduler.orders[1] == pb.PullModelRequest(
            repository=REPO, variant="Q4_K_M", node="studio"
        )


# --- The parts -----------------------------------------------------------------------------------


def test_a_line_of_progress_keeps_its_figures_where_the_name_is_long() -> None:
    download = DownloadView("maker/" + "m" * 80, "Q8_0", 1 << 30, 4 << 30, 2.0**27, 24.0)
    line = progress_line(download, "attic", cells=80)
    assert len(line) == 80
    assert line.endswith("… to attic, 25% of 4.0 GiB, 128 MiB/s, 24s left")
    assert progress_line(DownloadView("maker/m", ""), "attic") == "maker/m to attic: asking the hub"


def test_an_answer_to_an_earlier_question_changes_nothing() -> None:
    hub = Hub()
    assert hub.ask(Recommend()) == [Recommend()]
    assert hub.ask(Recommend()) == []
    hub.answered(HubAnswered(Recommend(), Page("advice", (), ())))
    hub.ask(SearchHub("a"))
    hub.ask(SearchHub("b"))
    hub.answered(HubAnswered(SearchHub("a"), Page("a", (), ())))
    assert hub.page is not None
    assert hub.page.title == "advice"
    hub.answered(HubAnswered(SearchHub("b"), Page("b", (), ())))
    hub.ask(ListRepository("x/y"))
    hub.answered(HubAnswered(ListRepository("x/y"), None, "It is away."))
    assert (hub.page.title, hub.problem) == ("b", "It is away.")
    assert hub.back()
    assert (hub.page.title, hub.problem) == ("advice", "")
    assert not hub.back()


def test_a_page_is_asked_again_and_stays_meanwhile() -> None:
    hub = Hub()
    assert hub.renew() == []
    hub.ask(Recommend())
    hub.answered(HubAnswered(Recommend(), Page("old", (), ())))
    hub.ask(SearchHub("a"))
    hub.answered(HubAnswered(SearchHub("a"), Page("a", (), ())))
    assert hub.renew() == [SearchHub("a")]
    assert hub.page == Page("a", (), ())
    assert hub.back(), "it goes on to the page below, though one is asked for again"
    assert hub.page == Page("old", (), ())
    assert hub.renew() == [Recommend()]
    hub.answered(HubAnswered(Recommend(), Page("new", (), ())))
    assert hub.page == Page("new", (), ())
