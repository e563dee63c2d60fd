"""A chat as a file: Markdown to read, JSON with all that is known of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum

from potluck_proto.reasoning import split_thought
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_tui.captions import facts
from potluck_tui.clean import clean
from potluck_tui.views import Turn

NAME_CHARACTERS = 40


class Format(StrEnum):
    """What kind of file; the value is its ending."""

    MARKDOWN = "md"
    JSON = "json"


def render(response: pb.GetChatResponse, kind: Format) -> str:
    """Return a chat as the text of a file.

    Markdown has the branch that is shown; JSON has all that `response` has.
    """
    if kind is Format.MARKDOWN:
        return "\n\n".join(_markdown(response)) + "\n"
    # Only who wants JSON waits for these to be imported.
    import json

    from google.protobuf.json_format import MessageToDict

    plain = MessageToDict(response, preserving_proto_field_name=True)
    return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"


def file_name(chat: pb.Chat, kind: Format) -> str:
    """Return a file's name that says which chat it is, and that every system allows."""
    words = re.sub(r"[^\w-]+", "-", clean(chat.title)).strip("-")[:NAME_CHARACTERS]
    return f"{'-'.join(filter(None, (words, chat.chat_id[:6])))}.{kind}"


def _markdown(response: pb.GetChatResponse) -> Iterator[str]:
    yield f"# {' '.join(clean(response.chat.title).split())}"
    if system := clean(response.chat.system_prompt).strip():
        yield "\n".join(["**System prompt**", "", *(f"> {line}" for line in system.splitlines())])
    for message in response.messages:
        if not message.shown:
            continue
        if message.role == types.ROLE_ASSISTANT:
            yield from _answer(message)
        else:
            yield "## You"
            for file in message.attachments:
                yield f"**{clean(file.name)}**\n\n{_fenced(clean(file.content))}"
            if content := clean(message.content).strip():
                yield content


def _answer(message: pb.StoredMessage) -> Iterator[str]:
    turn = Turn.from_proto(message)
    yield f"## {turn.model or 'The model'}"
    spoken = split_thought(clean(message.content))
    if spoken.thought:
        yield f"<details><summary>Thoughts</summary>\n\n{spoken.thought}\n\n</details>"
    if spoken.said.strip():
        yield spoken.said.strip()
    if turn.ending is not None and turn.ending.problem:
        yield f"*It failed: {turn.ending.problem}*"
    if said := " · ".join(facts(turn)):
        yield f"*{said}*"


def _fenced(text: str) -> str:
    """Return a text as a code block, whatever is in it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text.rstrip()}\n{fence}"
