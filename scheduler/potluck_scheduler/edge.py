"""What the modules of the gRPC service share."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import grpc

from potluck_proto import errors
from potluck_proto.errors import PotluckError

Context = grpc.aio.ServicerContext[object, object]
Result = TypeVar("Result")


async def or_abort(work: Awaitable[Result], context: Context) -> Result:
    """Return what the work returns, or fail the call with its error."""
    try:
        return await work
    except PotluckError as error:
        await errors.abort(context, error)
    except grpc.aio.AioRpcError as error:
        await errors.abort(context, errors.from_rpc(error, "The worker"))
