from __future__ import annotations

import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potluck_proto.errors import ProtocolMismatch
from potluck_proto.identity import Role
from potluck_proto.ids import NodeId
from potluck_proto.record import Record

RECORD = Record(
    role=Role.WORKER,
    node_id=NodeId("0123456789abcdef"),
    name="attic-pc",
    pool="c",
    engines=("llama",),
    accelerator="cpu",
    memory_total_mib=24_000,
    memory_free_mib=12_000,
)


def on_the_wire(record: Record) -> dict[bytes, bytes | None]:
    def raw(value: str | bytes | None) -> bytes | None:
        return value.encode() if isinstance(value, str) else value

    return {str(k).encode(): raw(v) for k, v in record.to_properties().items()}


def test_a_record_comes_back_as_it_went() -> None:
    assert Record.from_properties(on_the_wire(RECORD)) == RECORD


def test_a_record_holds_no_secret_and_fits() -> None:
    properties = on_the_wire(RECORD)
    assert set(properties) == {b"v", b"r", b"c", b"m"}
    assert len(properties[b"m"] or b"") < 200


@given(name=st.text(), engines=st.lists(st.text(max_size=300), max_size=9).map(tuple))
def test_a_record_fits_whatever_its_names_are(name: str, engines: tuple[str, ...]) -> None:
    record = Record(Role.WORKER, NodeId("0" * 16), name, "c", engines, "cpu", 1, 1)
    assert len(on_the_wire(record)[b"m"] or b"") <= 200


def test_another_version_is_told_from_rubbish() -> None:
    with pytest.raises(ProtocolMismatch, match="'9'"):
        Record.from_properties(on_the_wire(RECORD) | {b"v": b"9"})


@given(
    st.dictionaries(
        st.sampled_from([b"v", b"r", b"c", b"m", b"x"]),
        st.one_of(st.none(), st.binary(max_size=300), st.sampled_from([b"1", b"worker"])),
    )
)
def test_anything_on_the_network_is_a_record_or_a_named_refusal(
    properties: dict[bytes, bytes | None],
) -> None:
    with contextlib.suppress(ValueError, ProtocolMismatch):
        Record.from_properties(properties)


@given(st.binary(max_size=200))
def test_a_hostile_blob_is_refused_by_name(blob: bytes) -> None:
    try:
        record = Record.from_properties(on_the_wire(RECORD) | {b"m": blob})
    except ValueError:
        return
    assert record.name.isprintable()


@given(
    st.fixed_dictionaries(
        {
            key: st.one_of(
                st.text(max_size=9), st.floats(), st.lists(st.text(max_size=9)), st.none()
            )
            for key in ("id", "n", "e", "a", "mt", "mf")
        }
    )
)
def test_a_record_with_wrong_kinds_of_values_is_refused_by_name(blob: dict[str, object]) -> None:
    with contextlib.suppress(ValueError):
        Record.from_properties(on_the_wire(RECORD) | {b"m": msgpack.packb(blob)})
