from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from potluck_proto import errors
from potluck_proto.v1 import types_pb2 as pb


def leaves(root: type[errors.PotluckError]) -> Iterator[type[errors.PotluckError]]:
    subclasses = root.__subclasses__()
    if not subclasses:
        yield root
    for subclass in subclasses:
        yield from leaves(subclass)


@pytest.mark.parametrize("error_class", sorted(leaves(errors.PotluckError), key=str))
def test_an_error_comes_back_from_the_wire_as_it_went(
    error_class: type[errors.PotluckError],
) -> None:
    sent = error_class("It needs 5 and has 3. Free 2.", needed=5, free=3)
    received = errors.from_proto(pb.Error.FromString(sent.to_proto().SerializeToString()))
    assert type(received) is error_class
    assert received.message == sent.message
    assert received.fields == {"needed": "5", "free": "3"}


def test_each_kind_of_failure_has_a_code_of_its_own() -> None:
    codes = [error_class.code for error_class in leaves(errors.PotluckError)]
    assert len(codes) == len(set(codes))
    named = {value for _, value in pb.ErrorCode.items()}
    assert named - set(codes) == {pb.ERROR_CODE_UNSPECIFIED, pb.ERROR_CODE_INTERNAL}


def test_the_tree_in_the_docstring_names_every_class() -> None:
    assert errors.__doc__ is not None
    for error_class in leaves(errors.PotluckError):
        assert error_class.__name__ in errors.__doc__


def test_a_code_from_a_newer_version_is_still_readable() -> None:
    received = errors.from_proto(pb.Error(code=9999, message="Something new."))  # type: ignore[arg-type]
    assert type(received) is errors.PotluckError
    assert received.message == "Something new."


def call_error(
    code: grpc.StatusCode, details: str, *trailing: tuple[str, bytes]
) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details=details
    )


def test_a_failed_call_carries_its_error() -> None:
    sent = errors.UnknownModel("No node has 'x'.", model="x")
    trailing = (errors.METADATA_KEY, sent.to_proto().SerializeToString())
    received = errors.from_rpc(
        call_error(grpc.StatusCode[sent.status], sent.message, trailing), "The scheduler"
    )
    assert isinstance(received, errors.UnknownModel)
    assert received.fields == {"model": "x"}


def test_a_broken_connection_says_who_does_not_answer() -> None:
    received = errors.from_rpc(call_error(grpc.StatusCode.UNAVAILABLE, "reset"), "The scheduler")
    assert isinstance(received, errors.Unreachable)
    assert received.message == "The scheduler does not answer (reset)."


def test_an_answer_that_is_late_is_said_to_be() -> None:
    late = call_error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
    received = errors.from_rpc(late, "The scheduler")
    assert received.message == "The scheduler does not answer in time."


def test_of_what_grpc_says_of_a_connection_the_reason_is_left() -> None:
    said = (
        "failed to connect to all addresses; last error: FAILED_PRECONDITION: unix:/home/ada/s: "
        "connect failed: addr: unix:/home/ada/s error: Connection refused"
    )
    received = errors.from_rpc(call_error(grpc.StatusCode.UNAVAILABLE, said), "The scheduler")
    assert received.message == "The scheduler does not answer (Connection refused)."
