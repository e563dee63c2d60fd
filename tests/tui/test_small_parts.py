from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.segment import Segment
from textual.geometry import Region
from textual.strip import Strip

from potluck_proto.ids import ChatId, GenerationId, MessageId
from potluck_proto.v1 import types_pb2 as types
from potluck_tui.captions import fact_lines, seam_line, thought_line
from potluck_tui.clipboard import copy_aside
from potluck_tui.document import Document
from potluck_tui.drafts import Drafts
from potluck_tui.escape import DoubleEscape
from potluck_tui.pool import PoolView
from potluck_tui.scrolling import View, changed_regions, follow, hold
from potluck_tui.tables import matching
from potluck_tui.views import Ending, EndKind, Move, Speaker, Turn, progress_words
from potluck_tui.widgets.prompt import History
from potluck_tui.words import age, context, count, size
from tui import samples

CHAT = ChatId("c1")


def test_drafts_come_back_and_are_private(tmp_path: Path) -> None:
    file = tmp_path / "drafts.json"
    drafts = Drafts(file)
    drafts.put(CHAT, "half a thought\nand é")
    drafts.put(ChatId(""), "new")
    drafts.save()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["drafts.json"]
    again = Drafts(file)
    assert again.get(CHAT) == "half a thought\nand é"
    again.put(CHAT, "  ")
    again.save()
    assert Drafts(file).get(CHAT) == ""
    assert Drafts(file).get(ChatId("")) == "new"


def test_the_chat_in_which_something_was_being_typed_is_known_again(tmp_path: Path) -> None:
    file = tmp_path / "drafts.json"
    drafts = Drafts(file)
    assert drafts.unfinished is None
    drafts.put(ChatId(""), "new")
    drafts.put(CHAT, "half a thought")
    drafts.save()
    assert Drafts(file).unfinished == CHAT
    drafts.put(ChatId(""), "new")
    drafts.save()
    assert Drafts(file).unfinished == ChatId("")
    drafts.put(CHAT, "")  # it was sent
    drafts.save()
    again = Drafts(file)
    assert again.unfinished is None
    assert again.get(ChatId("")) == "new"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"c1": 3}'])
def test_a_broken_drafts_file_means_no_drafts(tmp_path: Path, content: str) -> None:
    file = tmp_path / "drafts.json"
    file.write_text(content)
    assert Drafts(file).get(CHAT) == ""


def test_only_the_second_escape_in_a_row_and_in_time_counts() -> None:
    escape = DoubleEscape()
    assert not escape.press(0.0)
    assert escape.press(1.4)
    assert not escape.press(1.5)
    assert not escape.press(3.1)
    escape.other_key()
    assert not escape.press(3.2)


def test_history_walks_back_and_returns_to_what_was_typed() -> None:
    history = History()
    history.begin(["one", "two"])
    assert history.older("typed") == "two"
    assert history.older("two") == "one"
    assert history.older("one") is None
    assert history.newer() == "two"
    assert (history.at_end, history.newer(), history.at_end) == (False, "typed", True)
    assert history.newer() is None


def test_a_growing_view_jumps_and_then_stands_still() -> None:
    view = follow(0, height=10, line_count=11, growing=True)
    assert view == View(top=6, extent=16)
    for line_count in range(12, 17):
        assert follow(6, height=10, line_count=line_count, growing=True) == view
    assert follow(6, height=10, line_count=17, growing=True).top == 12
    assert follow(12, height=10, line_count=17, growing=False) == View(top=7, extent=17)


def test_a_view_goes_back_to_what_is_left_where_a_long_answer_gave_way_to_a_new_one() -> None:
    assert follow(60, height=10, line_count=4, growing=True).top == 0
    assert follow(60, height=10, line_count=30, growing=True).top == 25
    # One line less, as an open block may have, is no reason to move.
    assert follow(6, height=10, line_count=10 + 1, growing=True).top == 6


def test_a_reader_who_scrolled_up_is_left_alone() -> None:
    assert hold(3, height=10, line_count=40, growing=True).top == 3
    extents = {hold(3, 10, count, growing=True).extent for count in range(41, 51)}
    assert extents == {50}


def test_only_changed_cells_are_drawn_again() -> None:
    old = [Strip([Segment("same")]), Strip([Segment("hello")]), Strip([Segment("漢字a")])]
    new = [Strip([Segment("same")]), Strip([Segment("hello world")]), Strip([Segment("漢字b")])]
    assert changed_regions(old, new, 80) == [Region(5, 1, 6, 1), Region(0, 2, 5, 1)]
    assert changed_regions(new, [*new, Strip([Segment("x")])], 80) == [Region(0, 3, 1, 1)]


def answer(reason: str, model: str = "llama:Q4") -> Turn:
    ending = Ending(
        EndKind.COMPLETE,
        tokens_per_second=42.4,
        time_to_first_token_seconds=0.31,
        queue_seconds=1.26,
    )
    return Turn(MessageId("a"), Speaker.MODEL, "", GenerationId("g"), model, reason, ending=ending)


def test_the_facts_stand_on_one_line_where_there_is_room() -> None:
    assert fact_lines(answer("studio: warm"), 100) == [
        "studio: warm · llama:Q4 · 42 tokens/s · first after 0.3 s · waited 1.3 s"
    ]


def test_a_first_token_that_came_at_once_has_milliseconds() -> None:
    ending = Ending(EndKind.COMPLETE, time_to_first_token_seconds=0.0213)
    assert fact_lines(replace(answer(""), model="", ending=ending), 80) == ["first after 21 ms"]


@pytest.mark.parametrize("width", range(1, 100))
def test_facts_are_never_too_wide_and_all_there(width: int) -> None:
    lines = fact_lines(answer("studio: warm, 漢字, 1 of 4 slots busy", "m" * 40), width)
    assert all(cell_len(line) <= width for line in lines)
    if width > 44:
        joined = " · ".join(lines)
        assert joined.endswith(f"{'m' * 40} · 42 tokens/s · first after 0.3 s · waited 1.3 s")


def test_a_seam_says_after_which_words_it_is() -> None:
    text = "One two three four five six seven."
    line = seam_line(text, Move(len("One two three four five"), "attic", "studio was lost"))
    assert line == "↪ after “One two three four five” studio was lost, on attic"
    later = "Here are one two three four five"
    assert "after “…one two three four five” " in seam_line(later, Move(len(later), "a", "b"))
    assert "after “…ine words" not in seam_line("nine words", Move(10, "a", "b"))
    assert seam_line("many words " * 9, Move(98, "a", "b")).startswith("↪ after “…")
    assert seam_line(text, Move(0, "attic", "continued")) == "↪ continued, on attic"


def test_thoughts_say_how_long_they_took_where_that_is_known() -> None:
    line = thought_line(340, 12.4, thinking=False, unfolded=False)
    assert line == "▸ thought for 12 s, 340 words"
    assert thought_line(2, 0, thinking=True, unfolded=True) == "▾ thinking, 2 words"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (size(812), "812 B"),
        (size(12 * 2**20), "12 MiB"),
        (size(5 * 2**30), "5.0 GiB"),
        (size(2**60), "1073741824 GiB"),
        (count(8_030_000_000), "8.0B"),
        (count(135_000_000), "135M"),
        (context(131072), "128K"),
        (context(512), "512"),
        (context(0), "?"),
        (age(0.42), "0.4s"),
        (age(75), "1m"),
        (age(90000), "1d"),
    ],
)
def test_numbers_read_well(words: str, expected: str) -> None:
    assert words == expected


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (types.Progress(phase=types.PHASE_QUEUED), "waiting for a place"),
        (types.Progress(phase=types.PHASE_QUEUED, queue_position=3), "waiting, 3 ahead"),
        (
            types.Progress(phase=types.PHASE_QUEUED, queue_position=3, wait_seconds=42),
            "waiting, 3 ahead, about 42 s",
        ),
        (
            types.Progress(phase=types.PHASE_QUEUED, wait_seconds=300),
            "waiting for a place, about 5 min",
        ),
        (types.Progress(phase=types.PHASE_LOADING, fraction=0.5), "loading the model 50%"),
    ],
)
def test_who_waits_sees_for_what_and_how_long(progress: types.Progress, expected: str) -> None:
    assert progress_words(progress) == expected


def test_moves_and_a_disk_that_failed_are_marked_under_the_answer() -> None:
    moves = (Move(3, "laptop", "attic was lost"), Move(9, "attic", "it stalled", exact=False))
    ending = Ending(EndKind.COMPLETE, not_stored="The disk is full.")
    turn = replace(answer("studio: warm"), text="Hello there", moves=moves, ending=ending)
    document = Document(80)
    document.show([turn])
    shown = [line.text.strip() for line in document.lines]
    assert "↪ after “Hel” attic was lost, on laptop" in shown
    assert "↪ after “Hello the” it stalled, on attic, from its text alone" in shown
    assert "Not stored: The disk is full." in shown


def test_models_are_found_by_every_word_typed() -> None:
    pool = PoolView.from_proto(samples.house())
    assert [m.label for m in matching(pool.models, "INSTRUCT q4")] == [
        "llama-3.1-8b-instruct:Q4_K_M"
    ]
    assert matching(pool.models, "")[0].loaded_on == ("studio",)
    assert not matching(pool.models, "")[-1].usable
    assert {m.label.split(":")[0]: pool.fit(m) for m in pool.models} == {
        "llama-3.1-8b-instruct": "loaded",
        "opt-6.7b": "unusable",
        "potluck-starter": "fits",
        "qwen2.5-32b-instruct": "no room",
    }


async def test_a_copy_is_in_a_private_file_and_says_where(tmp_path: Path) -> None:
    file = tmp_path / "copied.md"
    assert await copy_aside("text", file, {}) == [str(file)]
    assert file.read_text() == "text"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (place,) = await copy_aside("text", tmp_path, {})
    assert "not in" in place
