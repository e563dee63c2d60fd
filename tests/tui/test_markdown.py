from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it.token import Token

from potluck_tui import markdown_blocks
from potluck_tui.clean import clean
from potluck_tui.growing_code import DRAWN_AGAIN_LINES, GrowingCode
from potluck_tui.markdown_blocks import MarkdownBlocks
from potluck_tui.markdown_lines import code_lines, markdown_lines
from potluck_tui.turn_lines import AnswerLines
from tui.samples import ANSWER

FRAGMENTS = st.sampled_from(
    [
        "word ", "word\n", "\n", "\n\n", "# head\n", "#", "- item\n", "-",
        "  - nested\n", "1. one\n",
        "1", ". ", "```", "```py\n", "code()\n", "~~~\n", "| a | b |\n", "|---|---|\n",
        "| 1 | 2 |\n",
        "> quote\n", ">", "    indented\n", "***\n", "---\n", "===\n", "`code`", "**bold**", "*",
        "[a](http://b)", "[a]: http://b\n", "[a]", "![i](x)", "<think>\n", "</think>",
        "\t", "漢字 ",
        "👩‍👩‍👧 ", "\\", "&amp;", "\r", "\x1b[2J", "\u202e", "\u2028", "\x0c", "\x85",
    ]
)  # fmt: skip
TEXTS = st.lists(FRAGMENTS | st.text(max_size=6), max_size=24).map("".join)


def one_shot(text: str) -> list[str]:
    blocks = MarkdownBlocks()
    blocks.append(text)
    blocks.finish()
    return blocks.closed


def cut(text: str, cuts: list[int]) -> list[str]:
    edges = [0, *sorted(min(at, len(text)) for at in cuts), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


@given(TEXTS.map(clean), st.lists(st.integers(0, 120), max_size=12))
def test_blocks_joined_are_the_text_at_every_moment(text: str, cuts: list[int]) -> None:
    blocks, so_far = MarkdownBlocks(), ""
    closed: list[str] = []
    for piece in cut(text, cuts):
        blocks.append(piece)
        so_far += piece
        assert "".join(blocks.closed) + blocks.tail == so_far
        assert blocks.closed[: len(closed)] == closed
        closed = list(blocks.closed)
    blocks.finish()
    assert "".join(blocks.closed) + blocks.tail == text


@given(TEXTS, st.lists(st.integers(0, 120), max_size=12), st.integers(1, 60))
def test_a_streamed_answer_ends_as_the_lines_of_the_whole(
    text: str, cuts: list[int], width: int
) -> None:
    answer, so_far = AnswerLines(), ""
    for piece in cut(text, cuts):
        so_far += piece
        answer.lines(so_far, width, complete=False)
    assert answer.lines(text, width, complete=True) == AnswerLines().lines(
        text, width, complete=True
    )


@given(TEXTS, st.integers(0, 120), st.integers(1, 60))
def test_an_answer_that_goes_on_after_its_end_is_the_lines_of_the_whole(
    text: str, end: int, width: int
) -> None:
    answer = AnswerLines()
    answer.lines(text[:end], width, complete=True)
    answer.lines(text[:end], width, complete=False)
    assert answer.lines(text, width, complete=True) == AnswerLines().lines(
        text, width, complete=True
    )


@given(TEXTS)
def test_nothing_that_acts_on_a_terminal_is_drawn(text: str) -> None:
    for line in AnswerLines().lines(text, 40, complete=True):
        assert clean(line.text) == line.text
        assert "\n" not in line.text
        assert all(segment.control is None for segment in line)
        assert all(segment.style is None or segment.style.link is None for segment in line)


@given(TEXTS, st.integers(1, 50))
def test_no_line_is_wider_than_asked(text: str, width: int) -> None:
    for line in AnswerLines().lines(text, max(width, 12), complete=True):
        assert line.cell_length <= max(width, 12)


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        ("one\n\ntwo\n", ["one\n\n"]),
        ("one\n\ntwo", []),
        ("one\n\n#", []),
        ("# head\npara\n", ["# head\n"]),
        ("```\na\n\nb\n", []),
        ("```\na\n```\n\nafter\n", ["```\na\n```\n\n"]),
        ("- a\n\n- b\n\n  more\n", []),
        ("- a\n\nafter\n", ["- a\n\n"]),
        ("| a |\n|---|\n| 1 |\n", []),
        ("> a\nlazy\n", []),
    ],
)
def test_a_block_is_closed_when_nothing_later_can_change_it(text: str, closed: list[str]) -> None:
    blocks = MarkdownBlocks()
    blocks.append(text)
    assert blocks.closed == closed


def test_a_character_at_a_time_gives_the_blocks_of_the_whole() -> None:
    blocks = MarkdownBlocks()
    for character in ANSWER:
        blocks.append(character)
    blocks.finish()
    assert blocks.closed == one_shot(ANSWER)


def test_a_closed_block_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def count(markdown: str, width: int) -> object:
        drawn.append(markdown)
        return markdown_lines(markdown, width)

    monkeypatch.setattr("potluck_tui.turn_lines.markdown_lines", count)
    answer = AnswerLines()
    for stop in range(0, len(ANSWER), 7):
        answer.lines(ANSWER[:stop], 70, complete=False)
    answer.lines(ANSWER, 70, complete=True)
    table = next(block for block in one_shot(ANSWER) if block.startswith("| model"))
    assert drawn.count(table) == 1


def test_a_growing_code_block_shows_the_lines_of_the_whole_at_every_moment() -> None:
    code = "".join(f"def f{n}():\n    return {n}\n" + "\n" * (n % 3) for n in range(60))
    growing = GrowingCode("python", 40)
    for stop in range(1, len(code), 29):
        shown = [line.text for line in growing.lines(code[:stop])]
        assert shown == [line.text for line in code_lines(code[:stop].rstrip(), "python", 40)]


def test_a_line_of_code_without_room_goes_on_in_the_next_one() -> None:
    code = "for number in range(10):  # why\n    " + "x" * 20
    drawn = [
        "  for number in",
        "  ↪ range(10):  #",
        "  ↪ why",
        f"      {'x' * 10}",
        f"  ↪ {'x' * 10}",
    ]
    assert [line.text for line in code_lines(code, "python", 18)] == drawn


def test_an_open_block_stands_as_far_from_the_one_before_as_it_will() -> None:
    text = "| a |\n| --- |\n| 1 |\n\n> A quote that"
    streamed = AnswerLines().lines(text, 40, complete=False)
    assert streamed == AnswerLines().lines(text, 40, complete=True)


def test_what_a_change_of_a_code_block_costs_does_not_grow_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[int] = []

    def count(code: str, language: str, width: int) -> object:
        drawn.append(code.count("\n") + 1)
        return code_lines(code, language, width)

    monkeypatch.setattr("potluck_tui.growing_code.code_lines", count)
    parsed: list[int] = []
    parse = markdown_blocks.parse

    def note_length(text: str) -> list[Token]:
        parsed.append(len(text))
        return parse(text)

    monkeypatch.setattr(
        "potluck_tui.markdown_blocks.parse",
        note_length,
    )
    answer, text = AnswerLines(), "Look:\n\n```python\n"
    for number in range(500):
        text += f"x{number} = {number}\n"
        answer.lines(text, 70, complete=False)
    assert max(drawn) <= DRAWN_AGAIN_LINES + 2
    assert sum(parsed) < 200
    text += "```\n\nThere.\n"
    streamed = answer.lines(text, 70, complete=True)
    assert streamed == AnswerLines().lines(text, 70, complete=True)


def test_line_breaks_and_angle_brackets_of_a_model_show() -> None:
    lines = [line.text for line in markdown_lines("<think>\nroses\nviolets", 40)]
    assert lines == ["<think>", "roses", "violets"]


def deep_list(levels: int) -> str:
    return "\n".join(f"{'  ' * level}- item{level}" for level in range(levels))


def wide_table(columns: int) -> str:
    row = " | ".join(f"value{column}" for column in range(columns))
    return f"| {row} |\n{'|---' * columns}|\n| {row} |\n"


@pytest.mark.parametrize(
    "text",
    [
        deep_list(30),
        f"{'>' * 300} quote",
        wide_table(3),
        wide_table(10),
        wide_table(20),
        wide_table(200),
        f"| a | b |\n|---|---|\n| {'x' * 300} | {'words ' * 40} |\n",
    ],
    ids=["list", "quote", "table", "tight table", "thin table", "wide table", "long word"],
)
@pytest.mark.parametrize("width", [14, 76, 196])
def test_what_has_no_room_is_shown_in_another_way_and_never_left_out(text: str, width: int) -> None:
    drawn = "".join(line.text for line in markdown_lines(text, width))
    assert sum(map(str.isalnum, drawn)) >= sum(map(str.isalnum, text))
    assert "…" not in drawn


@pytest.mark.parametrize(
    "text", ["&#x202e;gnp.exe", "`&#x202e;` &#x2028;", "<http://a.b/%E2%80%AEgnp>", "&#155;2J"]
)
def test_a_character_that_is_written_as_another_acts_no_more_than_itself(text: str) -> None:
    for line in markdown_lines(text, 76):
        assert clean(line.text) == line.text
