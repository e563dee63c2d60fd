"""Calls to workers: how they fail, in words, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import grpc

from potluck_proto.errors import NodeLost, PotluckError, Unreachable, from_rpc

Call = TypeVar("Call", bound=grpc.aio.Call)


@contextmanager
def failures_in_words(node_name: str) -> Iterator[None]:
    """Have calls to a worker fail with its own error, or with `NodeLost` where it is gone.

    Raises:
        PotluckError: The call failed.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        failure: PotluckError = from_rpc(error, node_name)
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and isinstance(failure, Unreachable):
            failure = NodeLost(f"{node_name} did not answer in time.")
        raise _lost(node_name) if isinstance(failure, Unreachable) else failure from error
    except asyncio.CancelledError:
        # A channel that is let go of, as its worker is lost, cancels its calls; that looks like
        # the cancellation of this task and is none.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise _lost(node_name) from None


@contextmanager
def cancelling(call: Call) -> Iterator[Call]:
    """Yield a call that streams; it ends here if it has not."""
    try:
        yield call
    finally:
        call.cancel()


def _lost(node_name: str) -> NodeLost:
    return NodeLost(f"The connection to {node_name} broke.")
