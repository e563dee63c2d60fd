"""Chat templates: from messages to the text that a model was trained on.

Templates come with model files and are programs by strangers, so they run in Jinja's sandbox, with
a limit on time and memory.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Never

from jinja2 import TemplateError as JinjaError
from jinja2 import meta, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from potluck_proto.errors import BadRequest, TemplateError
from potluck_worker.engines.formats import FORMATS, STOPS
from potluck_worker.engines.limits import OutOfTime, limited

FALLBACK = (
    "{% for message in messages %}{{ message.role | capitalize }}: {{ message.content }}\n\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""For a file without a template, most likely a base model: a transcript for it to go on with."""

FALLBACK_STOP = ("\n\nUser:", "\nUser:")
"""A base model does not end its turn; it would speak for the user next."""

RENDER_SECONDS = 5.0
"""What a rendering may take; the answers under way wait for it. Templates take milliseconds."""

LARGEST_PRODUCT = 10_000_000
"""Bits of a number, or items of a text or list, that `*` and `**` may make in a template: one such
operation cannot be interrupted."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a template is given."""

    messages: Sequence[Mapping[str, Any]]
    """Each has `role` and `content`, and where they apply `reasoning_content`, `tool_calls` (as
    Hugging Face has them) and `tool_call_id`."""
    tools: Sequence[Any] | None = None
    thinking: bool | None = None


class ChatTemplate:
    """One model's template, compiled.

    Args:
        source: The template, empty for none.
        bos_text: The text of the token that begins a prompt, which templates may write.
        eos_text: The text of the token that ends one.
        tool_use: The template for conversations with tools, where a model has two.
        prompt_format: One of `formats.py` in the place of both.

    Raises:
        TemplateError: The template is no Jinja.
    """

    def __init__(
        self,
        source: str,
        bos_text: str,
        eos_text: str,
        *,
        tool_use: str = "",
        prompt_format: str = "",
    ) -> None:
        environment = _Sandbox(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _Generation],
        )
        environment.filters["tojson"] = _to_json
        environment.globals |= {
            "raise_exception": _raise,
            "strftime_now": lambda form: datetime.datetime.now().strftime(form),
        }
        self.stop: tuple[str, ...] = () if source else FALLBACK_STOP
        if prompt_format:
            source, tool_use = FORMATS[prompt_format], ""
            self.stop = STOPS.get(prompt_format, ())
        self._tokens = {"bos_token": bos_text, "eos_token": eos_text}
        self._source = source or FALLBACK
        self._tool_use = tool_use or self._source
        try:
            # Jinja computes constants beforehand, so compiling may be endless too.
            with limited(RENDER_SECONDS):
                self._template = environment.from_string(self._source)
                self._tool_template = environment.from_string(self._tool_use)
                tree = environment.parse(self._tool_use)
                self._knows_tools = "tools" in meta.find_undeclared_variables(tree)
        except (JinjaError, RecursionError, MemoryError, OutOfTime) as error:
            reason = str(error) or type(error).__name__
            raise TemplateError(f"The model's chat template is broken: {reason}.") from error

    def render(self, conversation: Conversation) -> str:
        """Return the prompt that ends where the assistant begins to speak.

        Raises:
            BadRequest: The conversation has tools, and the template knows none.
            TemplateError: The template refuses the conversation, fails, or does not come to an end.
        """
        with_tools = bool(conversation.tools)
        self._require_tools(conversation)
        template = self._tool_template if with_tools else self._template
        names = () if conversation.thinking is None else ("enable_thinking", "thinking")
        try:
            with limited(RENDER_SECONDS):
                return template.render(
                    messages=conversation.messages,
                    # As Hugging Face renders: these are there, and None for nothing.
                    tools=conversation.tools or None,
                    documents=None,
                    add_generation_prompt=True,
                    # Whether it is there at all matters to templates. Most know the
                    # first name, some the second.
                    **dict.fromkeys(names, conversation.thinking),
                    **self._tokens,
                )
        except Exception as error:
            # A template is a stranger's program and fails as it likes, by endless recursion too;
            # that ends this request and not the engine.
            roles = ", ".join(str(message["role"]) for message in conversation.messages[:20])
            raise TemplateError(
                f"The model's chat template fails on this conversation ({roles}): "
                f"{str(error) or type(error).__name__}. Another model may take it."
            ) from error

    def _require_tools(self, conversation: Conversation) -> None:
        """Raise `BadRequest` where a template would silently leave out tools or calls of them."""
        if conversation.tools and not self._knows_tools:
            raise BadRequest(
                "The model's chat template knows no tools, so the model was not trained to call "
                "any. Leave them out, or choose a model made for tools."
            )
        source = self._tool_use if conversation.tools else self._source
        if "tool_calls" not in source and any("tool_calls" in m for m in conversation.messages):
            raise BadRequest(
                "The conversation has a tool call, and the model's chat template has no place for "
                "one. Choose a model made for tools."
            )


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, in which one operation cannot take all time or memory either."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute `*` and `**` where the result is of a bearable size."""
        if _size_of_product(operator, left, right) > LARGEST_PRODUCT:
            raise JinjaError(f"{operator} makes too much")
        return super().call_binop(context, operator, left, right)


def _size_of_product(operator: str, left: Any, right: Any) -> int:
    """Return about how many bits or items a product has."""
    if isinstance(left, int) and isinstance(right, int):
        bits = max(1, left.bit_length())
        return bits * abs(right) if operator == "**" else bits + right.bit_length()
    for text, times in ((left, right), (right, left)):
        if isinstance(text, str | bytes | list | tuple) and isinstance(times, int):
            return len(text) * times
    return 0


class _Generation(Extension):
    """`{% generation %}`, with which templates mark for training what the assistant says."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return what is inside."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return JSON as Hugging Face's `tojson` writes it; Jinja's escapes HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise(message: str) -> Never:
    """Let a template say what it does not support."""
    raise JinjaError(message)
