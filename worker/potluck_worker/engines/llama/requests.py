"""From requests to sequences, with their prompts and what an answer has that moved here."""

from __future__ import annotations

from potluck_worker.engines.base import Generate
from potluck_worker.engines.llama.sampling import Samplers
from potluck_worker.engines.llama.sequence import Sequence
from potluck_worker.engines.prompt import PromptMaker
from potluck_worker.engines.template import ChatTemplate
from potluck_worker.engines.text import AnswerText


class RequestReader:
    """Makes the sequences of one model.

    Args:
        name: The model's, for messages.
        template: Its chat template.
        prompts: Makes its prompts.
        samplers: Makes its samplers.
        context_length: Tokens of a prompt and its answer.
    """

    def __init__(
        self,
        name: str,
        template: ChatTemplate,
        prompts: PromptMaker,
        samplers: Samplers,
        context_length: int,
    ) -> None:
        self._name = name
        self._template = template
        self._prompts = prompts
        self._samplers = samplers
        self._context_length = context_length

    def sequence(self, request: Generate, submitted: float) -> Sequence:
        """Return a request with its prompt.

        Args:
            request: What is asked.
            submitted: When, by the monotonic clock.

        Raises:
            PotluckError: It cannot be answered.
        """
        asked = request.sampling
        prompt, answer = self._prompts.prompt_and_answer(request, self._name, self._context_length)
        return Sequence(
            request=request,
            tokens=prompt + answer,
            prompt_length=len(prompt),
            sampler=self._samplers.begin(asked, prompt, answer),
            text=AnswerText((*asked.stop, *self._template.stop)),
            max_tokens=asked.max_tokens,
            submitted=submitted,
        )
