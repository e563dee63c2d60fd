"""From messages to prompt tokens, in which no message can pass for the template's structure."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Sequence

from potluck_worker.engines.base import ChatMessage
from potluck_worker.engines.llama.template import ChatTemplate
from potluck_worker.engines.llama.vocabulary import Vocabulary


class PromptMaker:
    """Renders and tokenizes the conversations of one model.

    A message that quotes a control token, say `<|im_end|>`, would end its own turn and could begin
    one in another's name. So such a quotation is cut after its first character by a seam: random
    text that goes through the template with it. The prompt is then tokenized seam by seam, and no
    piece has the whole quotation. A conversation without one is tokenized as it is rendered.

    Args:
        template: The model's chat template.
        vocabulary: The model's vocabulary.
    """

    def __init__(self, template: ChatTemplate, vocabulary: Vocabulary) -> None:
        self._template = template
        self._vocabulary = vocabulary
        self._start_of_control_text = vocabulary.start_of_control_text()

    def tokens(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Return the prompt that ends where the assistant begins to speak.

        Raises:
            TemplateError: The template refuses these messages, or fails.
        """
        seam = secrets.token_hex(8)
        prompt = self._template.render([self._cut(message, seam) for message in messages])
        first, *others = prompt.split(seam)
        tokens = self._vocabulary.tokenize(first, special=True, start=True)
        for piece in others:
            tokens += self._vocabulary.tokenize(piece, special=True)
        return tokens

    def _cut(self, message: ChatMessage, seam: str) -> ChatMessage:
        if self._start_of_control_text is None:
            return message
        content = self._start_of_control_text.sub(rf"\g<0>{seam}", message.content)
        return dataclasses.replace(message, content=content)
