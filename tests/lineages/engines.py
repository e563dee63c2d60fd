"""Engines that hold tiny models, and how their answers are compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from engines.driving import Outcome, ask, drive
from potluck_worker.engines.base import Generate, Load
from potluck_worker.engines.llama.engine import LlamaEngine

CONTEXT_LENGTH = 512

ROUNDING = 0.01
"""Two tokens whose log probabilities are nearer than this may change places in another batch."""


@contextmanager
def loaded(
    path: Path,
    slots: int = 3,
    cells: int | None = None,
    adapters: Sequence[Path] = (),
    flash_attention: bool | None = False,
) -> Iterator[LlamaEngine]:
    """Yield an engine with a model.

    It has plain attention: the sums of flash attention are halves, which round differently with
    each way in which a text was cut into steps, and these tests look for what is wrong.
    """
    engine = LlamaEngine()
    engine.load(
        Load(
            str(path),
            CONTEXT_LENGTH,
            slots,
            kv_cells=cells,
            flash_attention=flash_attention,
            threads=1,
            lora_adapters=list(map(str, adapters)),
        )
    )
    yield engine
    engine.close()


def greedy(prompt: str, request_id: str = "a", tokens: int = 40) -> Generate:
    """Return a request of the likeliest tokens, and of how likely they are."""
    return ask(prompt, request_id, temperature=0.0, max_tokens=tokens, logprobs=2)


def answers(engine: LlamaEngine, prompts: Sequence[str], tokens: int = 40) -> list[Outcome]:
    """Return the answers to prompts that are asked together."""
    requests = [greedy(prompt, str(n), tokens) for n, prompt in enumerate(prompts)]
    return drive(engine, *requests)


def check_same(expected: Sequence[Outcome], found: Sequence[Outcome]) -> None:
    """Check that answers are the same, as far as rounding allows.

    Where two differ, the two likeliest tokens must have been next to equal; what comes after that
    place cannot be compared. Nearly all must have been compared, or the check would mean nothing.
    """
    compared = total = 0
    for one, other in zip(expected, found, strict=True):
        assert one.end is not None
        assert other.end is not None
        assert one.end.reason == other.end.reason
        total += len(one.token_ids)
        same = _common(one.token_ids, other.token_ids)
        if same < len(one.token_ids):
            best, second = one.logprobs[same].logprobs[1:3]
            assert best - second < ROUNDING, f"token {same} of {len(one.token_ids)} differs"
        compared += same
    assert compared > 0.9 * total


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    pairs = enumerate(zip(left, right, strict=True))
    return next((at for at, (one, other) in pairs if one != other), len(left))
