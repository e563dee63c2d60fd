"""Every failure that Potluck names, in one tree.

::

    PotluckError                 (INTERNAL)
    ├── RequestError             what was asked cannot be: ask for something else
    │   ├── BadRequest           a value out of range or missing
    │   ├── UnknownModel         no node has a model of that name
    │   ├── AmbiguousModel       the name fits several models
    │   ├── ContextOverflow      the prompt is longer than the model's context
    │   ├── UnknownChat, UnknownGeneration, UnknownNode
    │   ├── WishesUnmet          no node is as the request wants it
    │   └── OffsetNotReached     attached further than the answer is
    ├── ModelError               the file is at fault: get another one
    │   ├── ModelFileError       missing, truncated, not a GGUF
    │   ├── UnsupportedModel     no engine here runs that architecture
    │   └── TemplateError        the chat template cannot render this conversation
    ├── CapacityError            not now or not here: free something, or wait
    │   ├── NotEnoughMemory
    │   ├── NoNodes              no worker is connected
    │   ├── EngineMissing        the worker lacks the engine; says what to install
    │   ├── QueueFull
    │   ├── ModelBusy            in use: not unloaded, nor loaded in another way
    │   ├── DiskFull             the model does not fit on the disk
    │   ├── LimitReached         too much at once from one client, or too large
    │   └── Draining
    ├── LostError                something died under the work: try again
    │   ├── EngineDied, NodeLost, SchedulerRestarted
    │   ├── Stalled              alive, but makes no progress
    │   ├── Displaced            its model was unloaded, or its node drained or stopped
    │   └── MovedTooOften        engines die under this answer again and again
    ├── AccessError              who asks may not
    │   ├── NotPaired            no certificate of this pool, or one that counts no more
    │   ├── NotAllowed           a machine of the pool whose role has no such right
    │   └── InviteError          a line that cannot be read, is used up, wrong or too old
    ├── HubError                 the model hub refuses or fails
    ├── HubUnreachable           nothing answers there, or not in time
    └── SetupError               this machine's settings or folders
        ├── SettingsError, AddressError, HomeError, StoreError
        ├── IdentityError        keys or certificates here cannot be used
        ├── SshError             the user's ssh did not get there; has its own words
        ├── Unreachable          nothing answers at an address
        └── ProtocolMismatch     the other side speaks another version

A message says what was tried, the numbers, and what to do next, in one sentence or two: it is shown
as it is. `fields` holds the same numbers by name. A class fixes the code, the gRPC status and
whether trying the same again may help; `to_proto` and `from_proto` carry all of it over the wire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Never

from potluck_proto.v1 import types_pb2 as pb

if TYPE_CHECKING:
    import grpc

METADATA_KEY = "potluck-error-bin"
"""Trailing metadata of a failed call: a serialized `potluck.v1.Error`."""

BROKEN = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "INTERNAL")
"""How gRPC says that a connection broke, depending on when it did."""


class PotluckError(Exception):
    """A failure with a name; the root of the tree above.

    Args:
        message: What was tried, the numbers, what to do next: for a person.
        **fields: The numbers of the message, by name.
    """

    code: ClassVar[pb.ErrorCode.ValueType] = pb.ERROR_CODE_INTERNAL
    status: ClassVar[str] = "INTERNAL"
    """The name of a `grpc.StatusCode`: only who speaks gRPC loads it, engines do not."""
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **fields: object) -> None:
        super().__init__(message)
        self.message = message
        self.fields = {name: str(value) for name, value in fields.items()}

    def __eq__(self, other: object) -> bool:
        """Say whether another error says the same."""
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), self.message))

    def to_proto(self) -> pb.Error:
        """Return the error as it crosses the wire."""
        return pb.Error(
            code=self.code, message=self.message, retryable=self.retryable, fields=self.fields
        )


class RequestError(PotluckError):
    """What was asked cannot be. Asking again changes nothing."""

    code = pb.ERROR_CODE_BAD_REQUEST
    status = "INVALID_ARGUMENT"


class BadRequest(RequestError):
    """A value is out of range or missing."""


class UnknownModel(RequestError):
    """No node has a model of that name."""

    code = pb.ERROR_CODE_UNKNOWN_MODEL
    status = "NOT_FOUND"


class AmbiguousModel(RequestError):
    """The name fits several models; the message lists them."""

    code = pb.ERROR_CODE_AMBIGUOUS_MODEL


class ContextOverflow(RequestError):
    """The prompt is longer than the context; the message has both numbers."""

    code = pb.ERROR_CODE_CONTEXT_OVERFLOW


class UnknownChat(RequestError):
    """No chat has that id: it may have been deleted by another viewer."""

    code = pb.ERROR_CODE_UNKNOWN_CHAT
    status = "NOT_FOUND"


class UnknownGeneration(RequestError):
    """No answer has that id."""

    code = pb.ERROR_CODE_UNKNOWN_GENERATION
    status = "NOT_FOUND"


class UnknownNode(RequestError):
    """No node has that name, id or address."""

    code = pb.ERROR_CODE_UNKNOWN_NODE
    status = "NOT_FOUND"


class WishesUnmet(RequestError):
    """No node that has the model is as the request wants it; the message says in what."""

    code = pb.ERROR_CODE_WISHES_UNMET
    status = "FAILED_PRECONDITION"


class OffsetNotReached(RequestError):
    """A viewer attached from further on than the answer reaches."""

    code = pb.ERROR_CODE_OFFSET_NOT_REACHED
    status = "OUT_OF_RANGE"


class ModelError(PotluckError):
    """The model's file is at fault."""

    code = pb.ERROR_CODE_MODEL_FILE
    status = "FAILED_PRECONDITION"


class ModelFileError(ModelError):
    """The file is missing, truncated or not a GGUF."""


class UnsupportedModel(ModelError):
    """No engine on the node runs that architecture or format."""

    code = pb.ERROR_CODE_UNSUPPORTED_MODEL


class TemplateError(ModelError):
    """The model's chat template failed on this conversation."""

    code = pb.ERROR_CODE_TEMPLATE


class CapacityError(PotluckError):
    """Not now, or not here."""

    status = "RESOURCE_EXHAUSTED"
    retryable = True


class NotEnoughMemory(CapacityError):
    """The model needs more memory than there is; the message has both numbers."""

    code = pb.ERROR_CODE_NOT_ENOUGH_MEMORY


class NoNodes(CapacityError):
    """No worker is connected."""

    code = pb.ERROR_CODE_NO_NODES
    status = "UNAVAILABLE"


class EngineMissing(CapacityError):
    """The worker lacks the engine that the model needs; says what to install."""

    code = pb.ERROR_CODE_ENGINE_MISSING
    status = "FAILED_PRECONDITION"
    retryable = False


class QueueFull(CapacityError):
    """Too many requests wait already."""

    code = pb.ERROR_CODE_QUEUE_FULL


class ModelBusy(CapacityError):
    """The model is in use, so it is not unloaded, held in another way or measured, as was asked."""

    code = pb.ERROR_CODE_MODEL_BUSY


class LimitReached(CapacityError):
    """One client asks for too much at once, or for something too large; says the limit."""

    code = pb.ERROR_CODE_LIMIT


class DiskFull(CapacityError):
    """There is no room for the model on the disk; the message has both numbers."""

    code = pb.ERROR_CODE_DISK_FULL


class Draining(CapacityError):
    """The node takes no new work."""

    code = pb.ERROR_CODE_DRAINING
    status = "UNAVAILABLE"


class LostError(PotluckError):
    """Something died under the work. What it had is kept."""

    status = "UNAVAILABLE"
    retryable = True


class EngineDied(LostError):
    """The engine's process ended; the message has its exit and last log lines."""

    code = pb.ERROR_CODE_ENGINE_DIED


class NodeLost(LostError):
    """The connection to the worker broke, or it fell silent."""

    code = pb.ERROR_CODE_NODE_LOST


class SchedulerRestarted(LostError):
    """The scheduler ended while the answer was under way."""

    code = pb.ERROR_CODE_SCHEDULER_RESTARTED


class Stalled(LostError):
    """The engine is alive and makes no progress."""

    code = pb.ERROR_CODE_STALLED
    status = "DEADLINE_EXCEEDED"


class Displaced(LostError):
    """The model was unloaded under the answer, or the node drained or stopped: on purpose.

    The answer can go on elsewhere, as after any other `LostError`; nothing is broken.
    """

    code = pb.ERROR_CODE_DISPLACED


class MovedTooOften(LostError):
    """An answer lost its place again and again; it may be what breaks engines."""

    code = pb.ERROR_CODE_MOVED_TOO_OFTEN
    retryable = False


class AccessError(PotluckError):
    """Who asks may not."""

    status = "PERMISSION_DENIED"


class NotPaired(AccessError):
    """The machine is not of this pool: pair it, again if it was once."""

    code = pb.ERROR_CODE_NOT_PAIRED
    status = "UNAUTHENTICATED"


class NotAllowed(AccessError):
    """The machine is of this pool, and its role has no such right."""

    code = pb.ERROR_CODE_NOT_ALLOWED


class InviteError(AccessError):
    """The line of an invitation cannot be read, or counts no more: ask for a new one."""

    code = pb.ERROR_CODE_INVITE


class HubError(PotluckError):
    """The model hub refuses or fails; all that is local goes on working."""

    code = pb.ERROR_CODE_HUB
    status = "UNAVAILABLE"
    retryable = True


class HubUnreachable(PotluckError):
    """Nothing answers where the hub is, or not in time. What neighbours have can be had."""

    code = pb.ERROR_CODE_HUB_UNREACHABLE
    status = "UNAVAILABLE"
    retryable = True


class SetupError(PotluckError):
    """This machine's settings, folders or addresses."""

    status = "FAILED_PRECONDITION"


class SettingsError(SetupError):
    """A setting is unknown or has an impossible value."""

    code = pb.ERROR_CODE_SETTINGS


class AddressError(SetupError):
    """An address cannot be listened on, or may not be."""

    code = pb.ERROR_CODE_ADDRESS


class HomeError(SetupError):
    """The folder that holds all state cannot be used."""

    code = pb.ERROR_CODE_HOME


class StoreError(SetupError):
    """The chat store cannot be read or written."""

    code = pb.ERROR_CODE_STORE


class IdentityError(SetupError):
    """The keys or certificates of this home are missing, broken or open to others."""

    code = pb.ERROR_CODE_IDENTITY


class SshError(SetupError):
    """The user's own ssh did not get there, or what it found there does not run Potluck."""

    code = pb.ERROR_CODE_SSH
    status = "UNAVAILABLE"


class Unreachable(SetupError):
    """Nothing answers at the address."""

    code = pb.ERROR_CODE_UNREACHABLE
    status = "UNAVAILABLE"
    retryable = True


class ProtocolMismatch(SetupError):
    """The other side speaks another version of the protocol."""

    code = pb.ERROR_CODE_PROTOCOL


def _classes(root: type[PotluckError]) -> dict[pb.ErrorCode.ValueType, type[PotluckError]]:
    """Map each code to the most specific class that fixes it."""
    found = {root.code: root}
    for subclass in root.__subclasses__():
        found |= _classes(subclass)
    return found


_BY_CODE = _classes(PotluckError) | {
    pb.ERROR_CODE_INTERNAL: PotluckError,
    pb.ERROR_CODE_BAD_REQUEST: BadRequest,
}


def from_proto(error: pb.Error) -> PotluckError:
    """Return the exception that `to_proto` described; an unknown code becomes `PotluckError`."""
    return _BY_CODE.get(error.code, PotluckError)(error.message, **dict(error.fields))


def from_rpc(error: grpc.aio.AioRpcError, what: str) -> PotluckError:
    """Return the failure behind a failed call.

    Args:
        error: What the call raised.
        what: Whom it was for, for example "the scheduler at unix:…", for a failure without a name
            of its own, such as a broken connection.
    """
    for key, value in error.trailing_metadata() or ():
        if key == METADATA_KEY and isinstance(value, bytes):
            return from_proto(pb.Error.FromString(value))
    details = error.details() or error.code().name
    if error.code().name in BROKEN:
        late = error.code().name == "DEADLINE_EXCEEDED"
        return Unreachable(f"{what} does not answer{' in time' if late else _reason(details)}.")
    return PotluckError(f"{what} failed: {details} ({error.code().name}).")


def _reason(details: str) -> str:
    """Return why a connection failed; gRPC puts every address and layer that it tried before it."""
    tried = details.startswith("failed to connect")
    return f" ({details.rpartition(': ')[2] if tried else details})"


async def abort(context: grpc.aio.ServicerContext[object, object], error: PotluckError) -> Never:
    """End a call with an error that `from_rpc` reads back on the other side."""
    import grpc

    await context.abort(
        grpc.StatusCode[error.status],
        error.message,
        ((METADATA_KEY, error.to_proto().SerializeToString()),),
    )
    raise AssertionError("abort returned")
