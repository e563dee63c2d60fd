from __future__ import annotations

import pytest

from potluck_proto.reasoning import Spoken, may_end_thought, split_thought


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("Hello", Spoken("", "Hello")),
        ("", Spoken("", "")),
        ("<think>hm</think>Hello", Spoken("hm", "Hello")),
        ("\n<think>\nhm\nso\n</think>\n\nHello", Spoken("hm\nso", "Hello")),
        ("<think>hm", Spoken("hm", "", thinking=True)),
        ("<think>hm</thinking>", Spoken("hm</thinking>", "", thinking=True)),
        ("[THINK]hm[/THINK]Hello", Spoken("hm", "Hello")),
        # Where the template writes the opening mark into the prompt.
        ("hm\n</think>\nHello", Spoken("hm", "Hello")),
        ("Hello <think>hm</think>", Spoken("", "Hello <think>hm</think>")),
        ("<think></think>Hello", Spoken("", "Hello")),
    ],
)
def test_thoughts_come_before_the_answer(text: str, spoken: Spoken) -> None:
    assert split_thought(text) == spoken


def test_a_closing_mark_is_noticed_wherever_the_text_was_cut() -> None:
    text = "<think>hm</think>Hello"
    ends = [n for n in range(len(text)) if may_end_thought(text[: n + 1], n)]
    assert text.index("</think>") + len("</think>") - 1 in ends
    assert not may_end_thought(text, len(text) - 1)
