"""What a chat template has a place for, found out by rendering it."""

from __future__ import annotations

from collections.abc import Iterator

from potluck_proto.errors import PotluckError
from potluck_worker.engines.inspection import Feature
from potluck_worker.engines.template import ChatTemplate, Conversation

PROBE = "potluck-probe"
"""What is looked for in a rendering."""

_QUESTION = {"role": "user", "content": "Hi"}
_TOOL = {
    "type": "function",
    "function": {
        "name": PROBE,
        "description": "A probe.",
        "parameters": {"type": "object", "properties": {}, "required": []},
    },
}
_THOUGHTS = ("enable_thinking", "reasoning_content", "<think>", "<|channel|>analysis", "[THINK]")
"""What stands in a template whose model can think first."""


def features(source: str, tool_use: str = "") -> tuple[Feature, ...]:
    """Return what a template supports; nothing where there is none, or it is broken.

    Args:
        source: The template.
        tool_use: The template for conversations with tools, where a model has two.
    """
    if not source:
        return ()
    try:
        template = ChatTemplate(source, "", "", tool_use=tool_use)
    except PotluckError:
        return ()
    return tuple(_features(template, source + tool_use))


def _features(template: ChatTemplate, source: str) -> Iterator[Feature]:
    system = {"role": "system", "content": PROBE}
    if _shows(template, Conversation([system, _QUESTION])):
        yield "system"
    if _shows(template, Conversation([_QUESTION], tools=[_TOOL])):
        yield "tools"
    if any(mark in source for mark in _THOUGHTS):
        yield "reasoning"


def _shows(template: ChatTemplate, conversation: Conversation) -> bool:
    try:
        return PROBE in template.render(conversation)
    except PotluckError:
        return False
