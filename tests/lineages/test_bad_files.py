"""Files that are broken, by accident or on purpose: each is refused in a sentence, none hangs."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.asking import question
from lineages.conftest import CATALOGUE, Files
from lineages.inspector import OPTIONS, SECONDS
from lineages.make import Lineage, make
from potluck_proto.v1 import types_pb2 as types

TESTS = Path(__file__).resolve().parents[1]

FILE_ERRORS = (types.ERROR_CODE_MODEL_FILE, types.ERROR_CODE_UNSUPPORTED_MODEL)

Inspector = Callable[[Path], dict[str, Any]]


@pytest.fixture(scope="module")
def inspector() -> Iterator[Inspector]:
    """Inspect files as the store has them inspected: each in a process with its limits."""
    with subprocess.Popen(
        [sys.executable, "-m", "lineages.inspector"],
        cwd=TESTS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def inspect(path: Path) -> dict[str, Any]:
            print(path, file=stdin, flush=True)
            found: dict[str, Any] = json.loads(stdout.readline())
            return found

        yield inspect
        stdin.close()


def refusal(found: dict[str, Any], name: str) -> str:
    """Return the sentence that a file was refused with."""
    assert found["code"] == 0
    failure = json.loads(found["printed"])["failure"]
    message: str = failure["message"]
    assert failure["code"] in FILE_ERRORS
    assert message.startswith(f"{name}.gguf ")
    assert message.isprintable()
    assert len(message) < 500
    return message


def without(lineage: Lineage, name: str) -> Lineage:
    return replace(lineage, layout={n: s for n, s in lineage.layout.items() if n != name})


def changed(lineage: Lineage, name: str) -> Lineage:
    """Return a lineage of which a tensor has a row more."""
    rows, *columns = lineage.layout[name]
    return replace(lineage, layout={**lineage.layout, name: (rows + 1, *columns)})


def inner_tensor(lineage: Lineage) -> str:
    return next(n for n in lineage.layout if n.endswith(("1.attn_norm.weight", "1.attn_q.weight")))


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_file_that_lacks_something_says_what(
    inspector: Inspector, files: Files, tmp_path: Path, name: str
) -> None:
    lineage, path = CATALOGUE[name], tmp_path / "broken.gguf"
    tensor = inner_tensor(lineage)
    make(path, without(lineage, tensor))
    assert tensor in refusal(inspector(path), "broken")
    make(path, changed(lineage, tensor))
    message = refusal(inspector(path), "broken")
    assert tensor in message
    assert "wrong shape" in message
    whole = files(name).read_bytes()
    for length in (len(whole) - 1000, len(whole) // 2):
        path.write_bytes(whole[:length])
        assert "is truncated" in refusal(inspector(path), "broken")
    path.write_bytes(whole[:2000])
    refusal(inspector(path), "broken")
    path.write_bytes(whole)
    assert "inspection" in json.loads(inspector(path)["printed"]), "the whole file is good"


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


ARCHITECTURE = text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama")


def header(tensors: int, pairs: int, body: bytes, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs) + body


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (header(2**60, 1, ARCHITECTURE), "number of tensors is 1152921504606846976"),
        (header(0, 2**60, ARCHITECTURE), "number of key value pairs is 1152921504606846976"),
        (header(0, 1, text(b"x") + struct.pack("<IQ", 8, 2**62)), "string length"),
        (header(0, 1, struct.pack("<Q", 2**40)), "string length"),
        (header(0, 1, text(b"x") + struct.pack("<IIQ", 9, 8, 10**9)), "key-value pairs"),
        (header(0, 1, text(b"x") + struct.pack("<IIQ", 9, 12, 2**61)), "key-value pairs"),
        (header(0, 1, text(b"x") + struct.pack("<IIQ", 9, 9, 10)), "invalid GGUF type"),
        (header(1, 1, ARCHITECTURE + text(b"t") + struct.pack("<I4Q", 4, *[2**40] * 4)), "shape"),
        (header(1, 1, ARCHITECTURE + text(b"t") + struct.pack("<IQ", 1, 2**63)), "dimension 0"),
        (header(1, 1, ARCHITECTURE + text(b"t") + struct.pack("<I", 2**31)), "dimensions"),
        (header(0, 0, b"", version=99), "version 99"),
        (header(0, 0, b""), "architecture"),
        (header(0, 1, ARCHITECTURE), "llama.context_length"),
        (header(0, 1, text(b"\x1b[31mred\n") + struct.pack("<I", 99)), "\ufffd[31mred\ufffd"),
    ],
)
def test_a_header_that_claims_too_much_is_refused(
    inspector: Inspector, tmp_path: Path, content: bytes, part: str
) -> None:
    path = tmp_path / "claims.gguf"
    path.write_bytes(content + bytes(4096))
    found = inspector(path)
    assert part in refusal(found, "claims")
    assert found["memory_bytes"] < 2**28


def test_a_reader_that_is_made_to_take_memory_is_held_to_its_limit(tmp_path: Path) -> None:
    path, count = tmp_path / "large.gguf", 10_000_000
    with path.open("wb") as file:
        file.write(header(0, 2, ARCHITECTURE + text(b"x") + struct.pack("<IIQ", 9, 8, count)))
        file.truncate(file.tell() + 8 * count)  # so many empty texts, of which each takes memory
    limited = "from potluck_worker import inspect_host as i; i.MEMORY_LIMIT_BYTES = 2**28; i.main()"
    result = subprocess.run(
        [sys.executable, "-c", limited, "describe", question(path, OPTIONS)],
        capture_output=True,
        check=True,
    )
    assert "bad_alloc" in json.loads(result.stdout)["failure"]["message"]


NUMBERS = (0, 1, 2**31, 2**32 - 1, 2**60, 2**63, 2**64 - 1)
changes = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), st.floats(0, 1), st.integers(0, 7)),
        st.tuples(st.just("number"), st.floats(0, 1), st.sampled_from(NUMBERS)),
        st.tuples(st.just("cut"), st.floats(0.5, 1), st.just(0)),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(name=st.sampled_from(sorted(CATALOGUE)), changes=changes)
def test_a_damaged_header_is_refused_or_harmless(
    inspector: Inspector,
    files: Files,
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    changes: list[tuple[str, float, int]],
) -> None:
    data = bytearray(files(name).read_bytes())
    end = data.index(b"token_embd.weight") + 4000  # behind the descriptions of the tensors
    for kind, where, value in changes:
        at = min(int(where * end), len(data) - 8)
        match kind:
            case "flip":
                data[at] ^= 1 << value
            case "number":
                data[at : at + 8] = value.to_bytes(8, "little")
            case "cut":
                del data[max(at, 100) :]
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(data)
    found = inspector(path)
    assert found["code"] != -14, f"it hung for {SECONDS} seconds"
    assert found["memory_bytes"] < 2**30
    # Where llama.cpp aborts, the store says that the engine crashed on the file.
    if found["code"] == 0 and "inspection" not in json.loads(found["printed"]):
        refusal(found, "damaged")
