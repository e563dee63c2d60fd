"""A worker that does nothing but pace: `python tests/bench/paced_worker.py SOCKET`.

Tokens come at the rate that the model's name says (`paced-50`), or at once (`flat`). They go out as
those of our engines do: the first at once, then those of `JOIN_SECONDS` together. It prints a line
when it listens, and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from fakes.worker import FakeWorker, describe
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as pb
from potluck_worker.engine_host import JOIN_SECONDS

WORD = "word "
SLOTS = 1_024
RATES = (50, 100, 200, 400)
MODELS = ["flat", *(f"paced-{rate}" for rate in RATES)]


class PacedWorker(FakeWorker):
    """Answers each prompt with as many words as it may have."""

    async def answer(self, request: pb.GenerateRequest) -> AsyncIterator[pb.GenerateResponse]:
        rate = float(request.model.removeprefix("paced-")) if request.model != "flat" else 0.0
        started, sent, count = time.monotonic(), 0, request.sampling.max_tokens
        while sent < count:
            passed = time.monotonic() - started
            due = min(count, 1 + int(passed * rate)) if rate else count
            if due <= sent:
                await asyncio.sleep(max(JOIN_SECONDS, 1 / rate))
                continue
            yield pb.GenerateResponse(delta=piece(sent, due))
            sent = due
        yield pb.GenerateResponse(end=types.End(reason=types.END_REASON_MAX_TOKENS))


def piece(first: int, until: int) -> types.Delta:
    """Return some tokens of an answer."""
    return types.Delta(
        first_token_index=first,
        token_ids=range(first, until),
        text_offset=first * len(WORD),
        text=WORD * (until - first),
    )


async def serve(path: Path) -> None:
    """Serve until standard input ends."""
    worker = PacedWorker(node_id="paced", name="paced")
    for name in MODELS:
        model = describe(name)
        model.slots = SLOTS
        worker.models.append(model)
        held = types.LoadedModel(name=name, slots=SLOTS, state=types.MODEL_STATE_READY)
        worker.loaded.append(held)
    print(await worker.serve(path), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await worker.die()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
