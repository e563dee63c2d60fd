"""Driving an engine by hand, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from llama_cpp import Llama
from llama_cpp import llama_cpp as api

from potluck_worker.engines.base import (
    ChatMessage,
    Engine,
    Finished,
    Generate,
    Produced,
    Sampling,
    Started,
    TokenLogprobs,
)

STARTER = (
    Path(__file__).resolve().parents[2] / "worker/potluck_worker/models/potluck-starter-Q8_0.gguf"
)


@dataclass
class Outcome:
    """What came of one request."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    started: Started | None = None
    end: Finished | None = None

    def take(self, event: object) -> None:
        """Take in an event, checking that deltas are contiguous."""
        match event:
            case Started():
                self.started = event
            case Produced():
                assert self.end is None
                assert event.text_offset == len(self.text)
                if event.token_ids:
                    assert event.first_token_index == len(self.token_ids)
                self.text += event.text
                self.token_ids += event.token_ids
                self.logprobs += event.logprobs
            case Finished():
                assert self.end is None
                self.end = event


def ask(question: str, request_id: str = "a", **sampling: object) -> Generate:
    """Return a request of one question."""
    return Generate(request_id, [ChatMessage("user", question)], Sampling(**sampling))  # type: ignore[arg-type]


def plain_class(path: Path, **options: Any) -> Llama:
    """Return llama-cpp-python's own class, which serves one stream, without repacked weights.

    As in `library.Model`: repacked for AMX, it crashes.
    """
    with pytest.MonkeyPatch.context() as patch:
        defaults = api.llama_model_default_params

        def without_repacking() -> Any:
            parameters = defaults()
            parameters.use_extra_bufts = False
            return parameters

        patch.setattr(api, "llama_model_default_params", without_repacking)
        return Llama(str(path), n_threads=1, n_threads_batch=1, verbose=False, **options)


def drive(engine: Engine, *requests: Generate, steps: int = 100_000) -> list[Outcome]:
    """Submit requests together, and step until all ended or `steps` are done."""
    outcomes = {request.request_id: Outcome() for request in requests}
    for request in requests:
        engine.submit(request)
    while engine.busy and steps > 0:
        steps -= 1
        for event in engine.step():
            if isinstance(event, Started | Produced | Finished) and event.request_id in outcomes:
                outcomes[event.request_id].take(event)
    return list(outcomes.values())
