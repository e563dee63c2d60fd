from __future__ import annotations

import json

import pytest

from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_tui.export import Format, file_name, render
from potluck_tui.highlight import folded_text, holds, marked, words_of
from potluck_tui.markdown_lines import lines_of
from potluck_tui.pieces import code_blocks, links

CHAT = pb.GetChatResponse(
    chat=pb.Chat(chat_id="0123456789abcdef", title="A title\x1b[2J", system_prompt="Be\nbrief."),
    messages=[
        pb.StoredMessage(
            message_id="u1",
            role=types.ROLE_USER,
            content="Read it.",
            shown=True,
            attachments=[pb.Attachment(name="a.md", content="```\nx\n```\n")],
        ),
        pb.StoredMessage(
            message_id="a0", role=types.ROLE_ASSISTANT, content="Another branch.", shown=False
        ),
        pb.StoredMessage(
            message_id="a1",
            role=types.ROLE_ASSISTANT,
            content="<think>hm</think>It is **x**.",
            shown=True,
            model="llama:Q4",
            explanation=types.Explanation(node_name="attic", summary="in memory"),
            end=types.End(reason=types.END_REASON_FAILED, error=types.Error(message="It died.")),
        ),
    ],
)


def test_markdown_has_the_branch_that_is_shown() -> None:
    assert render(CHAT, Format.MARKDOWN) == (
        "# A title�[2J\n\n"
        "**System prompt**\n\n> Be\n> brief.\n\n"
        "## You\n\n"
        "**a.md**\n\n````\n```\nx\n```\n````\n\n"
        "Read it.\n\n"
        "## llama:Q4\n\n"
        "<details><summary>Thoughts</summary>\n\nhm\n\n</details>\n\n"
        "It is **x**.\n\n"
        "*It failed: It died.*\n\n"
        "*attic: in memory · llama:Q4*\n"
    )


def test_json_has_all_of_it() -> None:
    found = json.loads(render(CHAT, Format.JSON))
    assert found["chat"]["title"] == "A title\x1b[2J"
    assert [message["message_id"] for message in found["messages"]] == ["u1", "a0", "a1"]


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("What fits?", "What-fits-012345.md"),
        ("../../etc/passwd", "etc-passwd-012345.md"),
        ("…", "012345.md"),
        ("x" * 99, f"{'x' * 40}-012345.md"),
        ("漢字 und Ü", "漢字-und-Ü-012345.md"),
    ],
)
def test_a_file_is_called_as_its_chat(title: str, name: str) -> None:
    chat = pb.Chat(chat_id="0123456789abcdef", title=title)
    assert file_name(chat, Format.MARKDOWN) == name


def test_code_blocks_and_links_can_be_taken_by_themselves() -> None:
    markdown = (
        "See [it](https://a.example/x) or https://b.example/y, also `https://c.example`.\n\n"
        "```py\nprint(1)\n```\n- in a list:\n\n  ```\n  two\n  lines\n  ```\n"
        "[again](https://a.example/x)"
    )
    assert code_blocks(markdown) == ["print(1)", "two\nlines"]
    assert links(markdown) == ["https://a.example/x", "https://b.example/y", "https://c.example"]
    assert code_blocks("no code") == links("no links") == []


def test_words_of_a_search_are_marked_without_case_and_accents() -> None:
    assert words_of('crème "two words" ') == ("creme", "two words")
    assert folded_text("ÀÉ漢ß") == "ae漢ß"
    (line,) = lines_of("A CRÈME for two words, scremes", 80)
    shown = marked(line, words_of("creme two"))
    assert shown.text == line.text
    reversed_text = [text for text, style, _ in shown if style is not None and style.reverse]
    assert reversed_text == ["CRÈME", "two"]
    assert holds(line, ("for",))
    assert not holds(line, ("remes",))


def test_marks_are_put_right_among_wide_characters() -> None:
    (line,) = lines_of("漢字 word 漢字", 80)
    shown = marked(line, ("word",))
    assert [text for text, style, _ in shown if style and style.reverse] == ["word"]
    assert shown.cell_length == line.cell_length
