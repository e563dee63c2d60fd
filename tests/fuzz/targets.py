"""What strangers can send, and what may come of it: nothing, or a named error.

Each target takes any bytes. It raises nothing; what it raises is a fault.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgpack

from potluck_proto.errors import InviteError, ProtocolMismatch, TemplateError
from potluck_proto.identity import Role
from potluck_proto.ids import NodeId
from potluck_proto.invite import Invite, hashed, proof, unpack, value
from potluck_proto.record import Record
from potluck_worker.engines import frames
from potluck_worker.engines.base import (
    Cancel,
    ChatMessage,
    FromChild,
    Generate,
    Produced,
    RequestId,
    Sampling,
    Started,
    ToChild,
)
from potluck_worker.engines.template import ChatTemplate, Conversation


@dataclass(frozen=True, slots=True)
class Target:
    """Something that strangers can reach."""

    take: Callable[[bytes], None]
    examples: Sequence[bytes]
    """Good input, from which the fuzzer makes bad."""


def txt(data: bytes) -> None:
    """Read a TXT record, as zeroconf gives it."""
    entries: dict[bytes, bytes | None] = {}
    while data:
        length = data[0]
        key, _, said = data[1 : 1 + length].partition(b"=")
        entries[key] = said
        data = data[1 + length :]
    with contextlib.suppress(ValueError, ProtocolMismatch):
        record = Record.from_properties(entries)
        assert record.name.isprintable()
        assert record.role in (Role.WORKER, Role.SCHEDULER)


def line(data: bytes) -> None:
    """Read the line of an invitation."""
    text = data.decode(errors="replace")
    try:
        invite = Invite.read(text)
    except InviteError as error:
        assert len(error.message) < 300
        assert len(text) < 12 or text not in error.message
    else:
        assert Invite.read(invite.line()) == invite


def joining(data: bytes) -> None:
    """Read a message of a machine that joins."""
    with contextlib.suppress(ValueError):
        message = unpack(data)
        value(message, "request", bytes)
        value(message, "proof", bytes)
        value(message, "node_id", str)


def frame(data: bytes) -> None:
    """Read a frame of an engine child, and one for it."""
    for decode in (frames.decode_from_child, frames.decode_to_child):
        with contextlib.suppress(frames.FrameError):
            decode(data)


def template(data: bytes) -> None:
    """Compile and render a chat template."""
    with contextlib.suppress(TemplateError):
        source = data.decode(errors="replace")
        compiled = ChatTemplate(source, "<s>", "</s>")
        compiled.render(Conversation([{"role": "user", "content": "Hi"}]))


RECORD = Record(Role.WORKER, NodeId("0" * 16), "attic", "a" * 26, ("llama",), "cpu", 8, 4)
INVITE = Invite.new(Role.WORKER, "a" * 26, ["192.168.1.20", "fd00::1"], 7422)
TEMPLATES = (
    "{% for m in messages %}{{ m.role }}: {{ m['content'] | trim }}\n{% endfor %}{{ bos_token }}",
    "{%- set x = namespace(a=1) -%}{% if tools %}{{ tools | tojson }}{% endif %}{{ 'a' * 9 ** 9 }}",
    "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}{{ raise_exception('no') }}",
    "{% for i in range(10) %}{% for j in range(i) %}{{ j }}{% endfor %}{% endfor %}",
)


def _txt_record() -> bytes:
    entries = [
        _encoded(key) + b"=" + _encoded(entry or b"")
        for key, entry in RECORD.to_properties().items()
    ]
    return b"".join(bytes([len(entry)]) + entry for entry in entries)


def _encoded(words: str | bytes) -> bytes:
    return words.encode() if isinstance(words, str) else words


def _joining() -> bytes:
    request = b"request"
    made: bytes = msgpack.packb(
        {"request": request, "proof": proof(hashed(INVITE.secret), request), "node_id": "0" * 16}
    )
    return made


def _frames() -> list[bytes]:
    name = RequestId("a")
    sampling = Sampling(stop=["x"])
    whole: list[FromChild | ToChild] = [
        Started(name, 3, 0),
        Produced(name, 0, [1], 0, "Hi"),
        Generate(name, [ChatMessage("user", "Hi")], sampling),
        Cancel(name),
    ]
    return [frames.encode(each)[4:] for each in whole]


SHARES = {
    "txt": 0.25,
    "line": 0.25,
    "joining": 0.2,
    "frame": 0.224,
    "template": 0.045,
    "scheduler": 0.015,
    "worker": 0.015,
    "file": 0.001,
}
"""The targets, and how many of all inputs are for each: slow ones get fewer."""


SERVICES = ("scheduler", "worker")


def target(name: str) -> Target:
    """Return a target; those that need a daemon or a child start one."""
    if name in SERVICES:
        from fuzz.services import Calls

        calls = Calls(name)
        return Target(calls.take, calls.examples())
    if name == "file":
        from fuzz.files import Files

        files = Files()
        return Target(files.take, files.examples())
    return {
        "txt": Target(txt, [_txt_record()]),
        "line": Target(line, [INVITE.line().encode()]),
        "joining": Target(joining, [_joining()]),
        "frame": Target(frame, _frames()),
        "template": Target(template, [words.encode() for words in TEMPLATES]),
    }[name]
