"""Whether a model was tuned to follow instructions, from what its files say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from potluck_worker.engines.inspection import Lineage, Tuning

BASE_WORDS = frozenset({"base", "pretrained", "pt", "foundation"})
TUNED_WORDS = frozenset(
    {
        *("instruct", "instruction", "chat", "it", "sft", "dpo", "rlhf", "orpo", "assistant"),
        *("thinking", "reasoning", "finetuned", "conversational", "distill"),
        *("alpaca", "vicuna", "wizardlm", "orca", "hermes", "dolphin", "zephyr", "openchat"),
        *("guanaco", "koala", "openassistant", "tulu", "starling", "airoboros", "nous"),
    }
)
"""What names of models are made of; the last lines are models whose files often say no more."""


def lineage(
    *,
    organization: str = "",
    base_models: Iterable[str] = (),
    finetune: str = "",
    title: str = "",
    tags: Iterable[str] = (),
    file_name: str = "",
    has_chat_template: bool,
) -> Lineage:
    """Return where a model comes from.

    Args:
        organization: Who published it.
        base_models: What it was made from.
        finetune: What the file calls its tuning, such as `Instruct`.
        title: The name that the file gives the model.
        tags: The file's words on it.
        file_name: The name of the file or folder, which counts where the rest says nothing.
        has_chat_template: Whether it comes with one.
    """
    bases = tuple(dict.fromkeys(filter(None, base_models)))
    words = [("its tuning is called", finetune), ("its name is", title)]
    words += [("it was made from", base) for base in bases[:1]]
    words += [("it is tagged", tag) for tag in tags]
    words += [("its file is called", file_name)]
    tuning, source = _tuning(words, has_chat_template)
    return Lineage(organization, bases, tuning, source)


def _tuning(words: Sequence[tuple[str, str]], has_chat_template: bool) -> tuple[Tuning, str]:
    """Return the verdict of the first words that give one; base models may have a template too."""
    for what, text in words:
        if what == "it was made from":
            return "tuned", f"{what} {text}"
        if found := _said(text):
            return found, f"{what} {text!r}"
    if has_chat_template:
        return "tuned", "it has a chat template"
    return "base", "it has no chat template, and names no tuning"


def _said(text: str) -> Tuning:
    words = set(re.split(r"[^a-z]+", text.lower()))
    if words & BASE_WORDS:
        return "base"
    return "tuned" if words & TUNED_WORDS else ""
