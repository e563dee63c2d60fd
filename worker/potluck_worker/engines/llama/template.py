"""Chat templates: from messages to the text that a model was trained on.

Templates come with model files and are programs by strangers, so they run in Jinja's sandbox.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Never

from jinja2 import TemplateError as JinjaError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from potluck_proto.errors import TemplateError
from potluck_worker.engines.base import ChatMessage

FALLBACK = (
    "{% for message in messages %}{{ message.role | capitalize }}: {{ message.content }}\n\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""For a file without a template, most likely a base model: a transcript for it to go on with."""

FALLBACK_STOP = ("\n\nUser:", "\nUser:")
"""A base model does not end its turn; it would speak for the user next."""


class ChatTemplate:
    """One model's template, compiled.

    Args:
        source: The template, empty for none.
        bos_text: The text of the token that begins a prompt, which templates may write.
        eos_text: The text of the token that ends one.

    Raises:
        TemplateError: The template is no Jinja.
    """

    def __init__(self, source: str, bos_text: str, eos_text: str) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals |= {
            "raise_exception": _raise,
            "strftime_now": lambda form: datetime.datetime.now().strftime(form),
        }
        self.stop = () if source else FALLBACK_STOP
        self._tokens = {"bos_token": bos_text, "eos_token": eos_text}
        try:
            self._template = environment.from_string(source or FALLBACK)
        except JinjaError as error:
            raise TemplateError(f"The model's chat template is broken: {error}.") from error

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """Return the prompt that ends where the assistant begins to speak.

        Raises:
            TemplateError: The template refuses these messages, or fails.
        """
        try:
            return self._template.render(
                messages=[{"role": m.role, "content": m.content} for m in messages],
                add_generation_prompt=True,
                **self._tokens,
            )
        except Exception as error:
            # A template is a stranger's program and fails as it likes, by endless recursion too;
            # that ends this request and not the engine.
            roles = ", ".join(message.role for message in messages)
            raise TemplateError(
                f"The model's chat template fails on this conversation ({roles}): {error}. "
                "Another model may take it."
            ) from error


def _raise(message: str) -> Never:
    """Let a template say what it does not support."""
    raise JinjaError(message)
