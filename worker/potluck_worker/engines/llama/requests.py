"""From requests to sequences, with their prompts and what an answer has that moved here."""

from __future__ import annotations

from potluck_proto.errors import BadRequest, ContextOverflow
from potluck_worker.engines.base import Generate
from potluck_worker.engines.llama.prompt import PromptMaker
from potluck_worker.engines.llama.sampling import Samplers
from potluck_worker.engines.llama.sequence import Sequence
from potluck_worker.engines.llama.template import ChatTemplate
from potluck_worker.engines.llama.vocabulary import Vocabulary
from potluck_worker.engines.text import AnswerText


class RequestReader:
    """Makes the sequences of one model.

    Args:
        name: The model's, for messages.
        vocabulary: Its vocabulary.
        template: Its chat template.
        prompts: Makes its prompts.
        samplers: Makes its samplers.
        context_length: Tokens of a prompt and its answer.
    """

    def __init__(
        self,
        name: str,
        vocabulary: Vocabulary,
        template: ChatTemplate,
        prompts: PromptMaker,
        samplers: Samplers,
        context_length: int,
    ) -> None:
        self._name = name
        self._vocabulary = vocabulary
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
        if asked.max_tokens is not None and asked.max_tokens < 1:
            raise BadRequest(f"max_tokens cannot be {asked.max_tokens}; it is at least 1.")
        prompt = self._prompts.tokens(request.messages, request.tools, request.thinking)
        answer = self._answer_so_far(request)
        tokens = prompt + answer
        if not tokens:
            raise BadRequest("The prompt is empty.")
        if len(prompt) >= self._context_length:
            raise ContextOverflow(
                f"The prompt is {len(prompt):,} tokens long; the context of {self._name} is "
                f"{self._context_length:,} and must hold the answer too. Shorten it, start a new "
                "chat, or set a larger context_length for the worker.",
                prompt_tokens=len(prompt),
                context_length=self._context_length,
            )
        return Sequence(
            request=request,
            tokens=tokens,
            prompt_length=len(prompt),
            sampler=self._samplers.begin(asked, prompt, answer),
            text=AnswerText((*asked.stop, *self._template.stop)),
            max_tokens=asked.max_tokens,
            submitted=submitted,
        )

    def _answer_so_far(self, request: Generate) -> list[int]:
        """Return the tokens of an answer that moved here. Raises `BadRequest` for a foreign one."""
        if not request.continue_token_ids:
            return self._vocabulary.tokenize(request.continue_text, special=False)
        for token in request.continue_token_ids:
            if not 0 <= token < self._vocabulary.size:
                raise BadRequest(
                    f"The answer to go on with has the token {token}; the vocabulary of "
                    f"{self._name} has {self._vocabulary.size:,}. Go on from its text."
                )
        return list(request.continue_token_ids)
