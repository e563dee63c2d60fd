"""From messages to prompt tokens, in which no message can pass for the template's structure."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from typing import Any, Protocol

from potluck_proto.errors import BadRequest, ContextOverflow
from potluck_worker.engines.base import ChatMessage, Generate
from potluck_worker.engines.template import ChatTemplate, Conversation


class Vocabulary(Protocol):
    """What an engine knows of its model's tokens, as far as prompts need it."""

    size: int
    """How many there are."""

    def tokenize(self, text: str, *, special: bool, start: bool = False) -> list[int]:
        """Return the ids of a text.

        Args:
            text: What to tokenize.
            special: Whether marks such as `<|end|>` in it are control tokens.
            start: Whether it starts a prompt, where the model may want its mark of the beginning.
        """
        ...

    def start_of_control_text(self) -> re.Pattern[str] | None:
        """Return what matches one character where the text of a control token starts."""
        ...


class PromptMaker:
    """Renders and tokenizes the conversations of one model.

    A message that quotes a control token, say `<|im_end|>`, would end its own turn and could begin
    one in another's name. So such a quotation, wherever it stands in a message or a tool, is cut
    after its first character by a seam: random text that goes through the template with it. The
    prompt is then tokenized seam by seam, and no piece has the whole quotation. A conversation
    without one is tokenized as it is rendered.

    Args:
        template: The model's chat template.
        vocabulary: The model's vocabulary.
    """

    def __init__(self, template: ChatTemplate, vocabulary: Vocabulary) -> None:
        self._template = template
        self._vocabulary = vocabulary
        self._start_of_control_text = vocabulary.start_of_control_text()

    def tokens(
        self, messages: Sequence[ChatMessage], tools: str = "", thinking: bool | None = None
    ) -> list[int]:
        """Return the prompt that ends where the assistant begins to speak.

        Args:
            messages: The conversation.
            tools: JSON, a list of functions as the template takes them; empty for none.
            thinking: Whether the model shall think first; `None` leaves it to the template.

        Raises:
            BadRequest: The tools or a message's calls are not what they should be, or the template
                knows none.
            TemplateError: The template refuses these messages, or fails.
        """
        seam = secrets.token_hex(8)
        conversation = conversation_of(messages, tools, thinking)
        prompt = self._template.render(
            Conversation(
                [
                    {name: self._cut(value, seam) for name, value in message.items()}
                    for message in conversation.messages
                ],
                self._cut(conversation.tools, seam),
                thinking,
            )
        )
        first, *others = prompt.split(seam)
        tokens = self._vocabulary.tokenize(first, special=True, start=True)
        for piece in others:
            tokens += self._vocabulary.tokenize(piece, special=True)
        return tokens

    def prompt_and_answer(
        self, request: Generate, model: str, context_length: int
    ) -> tuple[list[int], list[int]]:
        """Return the prompt of a request, and the tokens of its answer where that moved here.

        Args:
            request: What is asked.
            model: The model's name, for messages.
            context_length: Tokens of a prompt and its answer.

        Raises:
            PotluckError: It cannot be answered.
        """
        limit = request.sampling.max_tokens
        if limit is not None and limit < 1:
            raise BadRequest(f"max_tokens cannot be {limit}; it is at least 1.")
        prompt = self.tokens(request.messages, request.tools, request.thinking)
        answer = self._answer_so_far(request, model)
        if not prompt + answer:
            raise BadRequest("The prompt is empty.")
        if len(prompt) >= context_length:
            raise ContextOverflow(
                f"The prompt is {len(prompt):,} tokens long; the context of {model} is "
                f"{context_length:,} and must hold the answer too. Shorten it, start a new "
                "chat, or set a larger context_length for the worker.",
                prompt_tokens=len(prompt),
                context_length=context_length,
            )
        return prompt, answer

    def _answer_so_far(self, request: Generate, model: str) -> list[int]:
        """Return the tokens of an answer that moved here. Raises `BadRequest` for a foreign one."""
        if not request.continue_token_ids:
            return self._vocabulary.tokenize(request.continue_text, special=False)
        for token in request.continue_token_ids:
            if not 0 <= token < self._vocabulary.size:
                raise BadRequest(
                    f"The answer to go on with has the token {token}; the vocabulary of "
                    f"{model} has {self._vocabulary.size:,}. Go on from its text."
                )
        return list(request.continue_token_ids)

    def _cut(self, value: Any, seam: str) -> Any:
        """Return a value with every text in it cut where a quotation begins."""
        pattern = self._start_of_control_text
        if pattern is None:
            return value
        match value:
            case str():
                return pattern.sub(rf"\g<0>{seam}", value)
            case list():
                return [self._cut(item, seam) for item in value]
            case dict():
                return {self._cut(key, seam): self._cut(item, seam) for key, item in value.items()}
        return value


def conversation_of(
    messages: Sequence[ChatMessage], tools: str = "", thinking: bool | None = None
) -> Conversation:
    """Return a request as templates know it. Raises `BadRequest`."""
    parsed = _json_list("The tools", tools) if tools else None
    return Conversation([_message(message) for message in messages], parsed, thinking)


def _message(message: ChatMessage) -> dict[str, Any]:
    """Return a message with only those names that say something: templates ask what there is."""
    known: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning:
        known["reasoning_content"] = message.reasoning
    if message.tool_calls:
        calls = _json_list("The tool calls of a message", message.tool_calls)
        known["tool_calls"] = [_call(call) for call in calls]
    if message.tool_call_id:
        known["tool_call_id"] = message.tool_call_id
    return known


def _call(call: Any) -> dict[str, Any]:
    """Return a tool call in Hugging Face's form, with arguments as values and not as text."""
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        raise BadRequest("A tool call is an object with a name and arguments; one is not.")
    arguments = call.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError) as error:
            raise BadRequest(
                f"The arguments of the call of {call['name']} are no JSON: {error}."
            ) from error
    known = {"type": "function", "function": {"name": call["name"], "arguments": arguments}}
    return known if call.get("id") is None else {"id": call["id"], **known}


def _json_list(what: str, text: str) -> list[Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{what} are no JSON: {error}.") from error
    if not isinstance(value, list):
        raise BadRequest(f"{what} are a JSON {type(value).__name__}; they should be a list.")
    return value
