from __future__ import annotations

import time
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from potluck_worker.engines.text import AnswerText


def feed(pieces: list[bytes], stop: list[str]) -> tuple[str, AnswerText]:
    text = AnswerText(stop)
    shown = ""
    for piece in pieces:
        shown += text.push(piece)
        assert text.length == len(shown)
        if text.stop_string:
            return shown, text
    return shown + text.finish(), text


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts)})
    return [data[a:b] for a, b in pairwise(edges)]


@given(st.text(), st.lists(st.integers(0, 1000)))
def test_text_comes_out_whole_however_its_bytes_are_cut(text: str, cuts: list[int]) -> None:
    data = text.encode(errors="replace")
    shown, answer = feed(cut(data, cuts), [])
    assert shown == data.decode()
    assert answer.length == len(shown)


@given(
    st.text("ab<>", max_size=40),
    st.lists(st.integers(0, 100)),
    st.lists(st.text("ab<>", min_size=1, max_size=4), max_size=3),
)
def test_nothing_of_a_stop_string_is_ever_shown(
    text: str, cuts: list[int], stop: list[str]
) -> None:
    shown, answer = feed(cut(text.encode(), cuts), stop)
    assert text.startswith(shown)
    if answer.stop_string:
        assert not any(s in shown for s in stop)
        assert text[len(shown) :].startswith(answer.stop_string)
    else:
        assert shown == text
        assert not any(s in text for s in stop)


@given(
    st.text("ab<é世", max_size=40),
    st.lists(st.integers(0, 200), max_size=12),
    st.lists(st.text("ab<", min_size=1, max_size=4), max_size=3),
    st.integers(0, 12),
)
def test_an_answer_that_moves_shows_what_it_would_have_shown(
    text: str, cuts: list[int], stop: list[str], moved_after: int
) -> None:
    pieces = cut(text.encode(), cuts)
    whole, unbroken = feed(pieces, stop)
    before, after = AnswerText(stop), AnswerText(stop)
    shown = ""
    for piece in pieces[:moved_after]:
        shown += before.push(piece)
        if before.stop_string:
            return
    shown += after.resume(pieces[:moved_after], shown)
    for piece in pieces[moved_after:]:
        shown += after.push(piece)
        assert after.length == len(shown)
        if after.stop_string:
            break
    else:
        shown += after.finish()
    assert (shown, after.stop_string) == (whole, unbroken.stop_string)


def test_an_answer_that_moves_owes_what_was_not_shown() -> None:
    text = AnswerText()
    assert text.resume([b"one ", b"two "], "one ") == "two "
    assert (text.push(b"three"), text.length) == ("three", 13)


def test_nothing_is_shown_twice_after_a_move() -> None:
    text = AnswerText(["###"])
    assert text.resume([b"one ##"], "one ##") == ""
    assert text.length == 6
    assert text.push(b" two") == " two"


def test_broken_bytes_become_a_mark_and_not_an_error() -> None:
    assert feed([b"a\xff", b"\xe2\x82"], [])[0] == "a\ufffd\ufffd"


def test_many_long_stop_strings_stay_fast() -> None:
    stop = [f"stop {number} {'x' * 50}" for number in range(10_000)] + ["a" * 1000]
    started = time.perf_counter()
    text = AnswerText(stop)
    shown = "".join(text.push(b"stop 77 and go on ") for _ in range(500))
    assert time.perf_counter() - started < 1
    assert shown == ("stop 77 and go on " * 500)
    assert text.push(f"stop 777 {'x' * 50}".encode()) == ""
    assert text.stop_string == stop[777]


def test_the_stop_string_whose_end_comes_first_is_found_however_the_text_is_cut() -> None:
    for pieces in ([b"abcd"], [b"a", b"b", b"c", b"d"], [b"abc", b"d"]):
        assert feed(pieces, ["bc", "abcd"])[1].stop_string == "bc"
    for pieces in ([b"abcd"], [b"a", b"bcd"]):
        shown, text = feed(pieces, ["cd", "bcd", "abcde"])
        assert (shown, text.stop_string) == ("a", "bcd")


def test_a_stop_string_that_was_shown_in_part_before_a_move_still_ends_the_answer() -> None:
    text = AnswerText(["###"])
    assert text.resume([b"one ##"], "one ##") == ""
    assert text.push(b"# two") == ""
    assert (text.stop_string, text.length) == ("###", 6)
