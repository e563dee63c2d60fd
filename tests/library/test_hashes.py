from __future__ import annotations

import gc
import hashlib
import os
from pathlib import Path

import pytest

from potluck_proto.errors import ModelFileError
from potluck_proto.home import Home
from potluck_proto.v1 import worker_pb2 as pb
from potluck_worker.library.hashes import Hashes
from worker.conftest import running

LARGE_BYTES = 2**28


async def test_a_file_is_read_once_and_again_when_it_changed(tmp_path: Path) -> None:
    path, cache = tmp_path / "m.gguf", tmp_path / "hashes.json"
    path.write_bytes(b"one")
    (found,) = await Hashes(cache).all([path])
    assert found.sha256 == hashlib.sha256(b"one").hexdigest()
    assert list(Hashes(cache).known([path])) == [found]
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    again = Hashes(cache)
    assert not again.known([path])
    assert (await again.all([path]))[0].sha256 == hashlib.sha256(b"two").hexdigest()


async def test_a_file_that_is_gone_is_said(tmp_path: Path) -> None:
    hashes = Hashes(tmp_path / "hashes.json")
    assert not hashes.known([tmp_path / "m.gguf"])
    with pytest.raises(ModelFileError, match=r"m\.gguf cannot be read"):
        await hashes.all([tmp_path / "m.gguf"])


async def test_a_large_file_is_followed_while_it_is_read_and_left_where_nobody_waits(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("potluck_worker.library.service.REPORT_SECONDS", 0.02)
    home = Home(short_tmp)
    home.prepare()
    path = home.models / "large.gguf"
    path.touch()
    os.truncate(path, LARGE_BYTES)
    async with running(home) as worker:
        await worker.daemon.store.scan()
        request = pb.HashModelRequest(model="large")
        call = worker.stub.HashModel(request)
        await call.read()
        call.cancel()
        *steps, last = [response async for response in worker.stub.HashModel(request)]
    done = [step.done_bytes for step in steps]
    assert done[0] == 0, "what nobody waited for is not kept"
    assert done == sorted(done)
    assert 0 < done[-1] < LARGE_BYTES
    assert {step.total_bytes for step in steps} == {LARGE_BYTES}
    (found,) = last.hashes
    assert found.sha256 == hashlib.sha256(bytes(LARGE_BYTES)).hexdigest()
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_a_damaged_cache_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "hashes.json").write_text('{"x": 3}')
    assert not Hashes(tmp_path / "hashes.json").known([])
