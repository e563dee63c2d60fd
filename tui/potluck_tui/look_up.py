"""What was asked about models, as far as somebody looked: what they take, what their files say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Question = TypeVar("Question")
Value = TypeVar("Value")


class LookUp(Generic[Question, Value]):
    """Keeps the last answer for each model; it is asked anew whenever somebody looks.

    Args:
        question: Makes the question about a model, by its label.
    """

    def __init__(self, question: Callable[[str], Question]) -> None:
        self.asking = ""
        """The model that is being asked about."""
        self._question = question
        self._answers: dict[str, tuple[Value, ...]] = {}

    def ask(self, label: str) -> Sequence[Question]:
        """Ask about a model, unless that is under way."""
        if not label or self.asking == label:
            return []
        self.asking = label
        return [self._question(label)]

    def found(self, label: str, answer: tuple[Value, ...]) -> None:
        """Take in an answer, or why there is none."""
        self._answers[label] = answer
        if self.asking == label:
            self.asking = ""

    def answer(self, label: str) -> tuple[Value, ...]:
        """Return the last answer; empty where there was none."""
        return self._answers.get(label, ())
