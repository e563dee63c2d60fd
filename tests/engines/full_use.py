"""What a model takes at the peak of full use: `python -m engines.full_use PATH CONTEXT SLOTS KV`.

The engine runs here as it does in its child, but takes whole batches however slow the machine is:
that is the most that it can take. Every conversation fills its context, then a text is embedded.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from potluck_worker import engine_host
from potluck_worker.engines.base import ChatMessage, Embed, Finished, Generate, Load, Sampling
from potluck_worker.engines.llama.engine import LlamaEngine
from potluck_worker.engines.llama.library import BATCH_TOKENS
from potluck_worker.footprint import private_bytes

AS_LARGE_AS = engine_host


@dataclass(frozen=True, slots=True)
class FullUse:
    """What was measured."""

    loaded_bytes: int
    peak_bytes: int
    fullness: float


def measure(path: Path, context_length: int, slots: int, kv_type: str) -> FullUse:
    """Load a model, fill it up, and return what this process took."""
    engine = LlamaEngine(lambda _: None)
    engine.load(Load(str(path), context_length, slots, kv_type=kv_type))  # type: ignore[arg-type]
    loaded_bytes = private_bytes(os.getpid())
    vars(engine._pace)["prompt_tokens"] = lambda *_, **__: BATCH_TOKENS
    # No answer ends, and gives its cells back, before the last prompt is in the cache.
    answer_tokens = 8 + slots * -(-context_length // BATCH_TOKENS)
    for slot in range(slots):
        prompt = _prompt(engine, slot, context_length - answer_tokens)
        sampling = Sampling(seed=1, max_tokens=answer_tokens)
        engine.submit(Generate(str(slot), [ChatMessage("user", prompt)], sampling))
    peak_bytes = max(loaded_bytes, _work(engine))
    engine.submit(Embed("embedding", [_prompt(engine, slots, context_length // 2)]))
    return FullUse(loaded_bytes, max(peak_bytes, _work(engine)), engine.fullness)


def _work(engine: LlamaEngine) -> int:
    """Step until all is done; return the most that this process took meanwhile."""
    peak_bytes = 0
    while engine.busy:
        for event in engine.step():
            assert not isinstance(event, Finished) or event.failure is None, event.failure
        peak_bytes = max(peak_bytes, private_bytes(os.getpid()))
    return peak_bytes


def _prompt(engine: LlamaEngine, slot: int, tokens: int) -> str:
    """Return a text of so many tokens at most, template and all, that no other slot begins with."""
    prompts = engine._prompts
    words = f"{chr(65 + slot)} " * tokens
    low, high = 1, len(words)
    while high - low > 1:
        middle = (low + high) // 2
        length = len(prompts.tokens([ChatMessage("user", words[:middle])], "", None))
        low, high = (middle, high) if length <= tokens else (low, middle)
    return words[:low]


if __name__ == "__main__":
    path, context_length, slots, kv_type = sys.argv[1:]
    print(json.dumps(asdict(measure(Path(path), int(context_length), int(slots), kv_type))))
