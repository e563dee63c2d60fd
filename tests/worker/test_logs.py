"""The logs of engines: kept, bounded, readable at any time, and without a word of a chat."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from potluck_proto.errors import BadRequest, from_rpc
from potluck_proto.home import Home
from potluck_proto.v1 import types_pb2 as types
from potluck_proto.v1 import worker_pb2 as pb
from potluck_worker.engine_log import (
    LINE_LIMIT_CHARACTERS,
    LOG_LIMIT_BYTES,
    EngineLog,
    engine_log_path,
    find_engine_log,
    logged_models,
)
from worker.conftest import Worker, add_fake, prompt

SECRET = "xyzzy"
STAMPED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S")


async def lines_of(worker: Worker, **asked: object) -> list[str]:
    request = pb.LogsRequest(**asked)  # type: ignore[arg-type]
    return [line async for response in worker.stub.Logs(request) for line in response.lines]


async def kept(tmp_path: Path, *printed: bytes) -> list[str]:
    """Return the lines that a log has of what came out of a pipe."""
    log = EngineLog(tmp_path / "engine-m.log")
    output, end = os.pipe()
    keeping = asyncio.create_task(log.keep(output))
    for piece in printed:
        os.write(end, piece)
        await asyncio.sleep(0.01)
    os.close(end)
    await keeping
    log.close()
    lines = (tmp_path / "engine-m.log").read_text().splitlines()
    assert all(STAMPED.match(line) for line in lines)
    assert list(log.last) == [line[20:] for line in lines]
    return list(log.last)


@pytest.mark.parametrize(
    ("printed", "lines"),
    [
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"o", b"ne\ntw", b"o"], ["one", "two"]),
        (["é".encode()[:1], "é\n".encode()[1:]], ["é"]),
        ([b"\n \n.\n"], ["."]),
        ([b"\x1b[0;36mblue\x1b[0m\n"], ["blue"]),
        ([b"10%\r50%\r100%\n"], ["100%"]),
        ([b"\xff\xfe\n"], ["\ufffd\ufffd"]),
        ([b"x" * 60_000 + b"\nend\n"], ["x" * LINE_LIMIT_CHARACTERS, "end"]),
    ],
)
async def test_what_is_printed_becomes_lines(
    tmp_path: Path, printed: list[bytes], lines: list[str]
) -> None:
    assert await kept(tmp_path, *printed) == lines


async def test_what_is_printed_without_an_end_is_kept_in_pieces(tmp_path: Path) -> None:
    assert set("".join(await kept(tmp_path, *[b"x" * 50_000] * 3))) == {"x"}


def test_a_log_is_bounded(tmp_path: Path) -> None:
    log = EngineLog(tmp_path / "engine-m.log")
    for number in range(30_000):
        log.write(f"{number} {'x' * 100}")
    log.close()
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) <= LOG_LIMIT_BYTES


def test_a_disk_that_fails_costs_the_log_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logging.raiseExceptions", False)
    log = EngineLog(tmp_path / "missing" / "engine-m.log")
    log.write("one")
    assert list(log.last) == ["one"]
    log.close()


def test_a_log_is_found_by_what_people_call_the_model(tmp_path: Path) -> None:
    for name, quantization in (("qwen3-8b", "Q4_K_M"), ("qwen3-8b", "Q8_0"), ("slow", "")):
        engine_log_path(tmp_path, name, quantization).touch()
    os.utime(engine_log_path(tmp_path, "qwen3-8b", "Q4_K_M"), (1, 1))
    assert logged_models(tmp_path) == ["qwen3-8b:Q4_K_M", "qwen3-8b:Q8_0", "slow"]
    assert find_engine_log(tmp_path, "Qwen3-8B", "q4_k_m").name == "engine-qwen3-8b@Q4_K_M.log"
    assert find_engine_log(tmp_path, "qwen3-8b", "").name == "engine-qwen3-8b@Q8_0.log"
    assert find_engine_log(tmp_path, "slow", "").name == "engine-slow.log"
    for name in ("qwen3", "../worker", ""):
        with pytest.raises(BadRequest, match="There are: qwen3-8b:Q4_K_M"):
            find_engine_log(tmp_path, name, "")


async def test_a_log_outlives_its_model(worker: Worker, home: Home) -> None:
    add_fake(home, "m")
    await worker.loaded("m")
    await worker.stub.Unload(pb.UnloadRequest(model="m"))
    (home.models / "m.fake.toml").unlink()
    first, last = await lines_of(worker, model="m")
    assert "-- fake engine, process " in first
    assert "-- m was unloaded" in last
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await lines_of(worker, model="other")
    error = from_rpc(caught.value, "The worker")
    assert isinstance(error, BadRequest)
    assert "There are: m." in error.message


async def test_a_log_is_followed_from_one_engine_to_the_next(worker: Worker, home: Home) -> None:
    add_fake(home, "m")
    await worker.loaded("m")

    async def follow() -> AsyncIterator[str]:
        request = pb.LogsRequest(model="m", lines=1, follow=True)
        async for response in worker.stub.Logs(request):
            for line in response.lines:
                yield line[20:]

    seen = []
    async for line in follow():
        seen.append(re.sub(r"\d+", "N", line.partition(":")[0]))
        if len(seen) == 1:
            await worker.stub.Unload(pb.UnloadRequest(model="m"))
            await worker.loaded("m")
        if len(seen) == 3:
            break
    assert seen[0] == seen[2] == "-- fake engine, process N"
    assert seen[1].startswith("-- m was unloaded")


async def test_the_workers_own_log_can_be_read(worker: Worker, home: Home) -> None:
    (home.logs / "worker.log").write_text("a line\n")
    add_fake(home, "m")
    await worker.loaded("m")
    (response,) = [response async for response in worker.stub.Logs(pb.LogsRequest())]
    assert list(response.lines) == ["a line"]
    assert list(response.models) == ["m"]


async def test_no_word_of_a_chat_is_in_a_log(worker: Worker, home: Home) -> None:
    asked: list[pb.GenerateRequest] = [
        prompt("potluck-starter", f"{SECRET} {SECRET}", max_tokens=8, logprobs=2),
        prompt("potluck-starter", "Hi", grammar=f'root ::= "{SECRET}"', max_tokens=8),
        prompt("potluck-starter", "Hi", grammar=f"root ::= {SECRET}"),
        prompt("potluck-starter", "Hi", json_schema=f'{{"type": "{SECRET}"}}'),
        prompt("potluck-starter", "Hi", json_schema=f'{{"enum": ["{SECRET}"]}}', max_tokens=8),
        prompt("potluck-starter", "Hi", stop=[SECRET], max_tokens=8),
        prompt("potluck-starter", SECRET * 5000),
    ]
    tools = prompt("potluck-starter", "Hi", max_tokens=8)
    tools.tools_json = f"[{SECRET}]"
    ends = []
    for request in [*asked, tools]:
        try:
            async for response in worker.stub.Generate(request):
                ends += [response.end.reason] if response.HasField("end") else []
        except grpc.aio.AioRpcError:
            continue
    assert ends.count(types.END_REASON_FAILED) >= 2
    assert len(ends) - ends.count(types.END_REASON_FAILED) >= 3
    log = await lines_of(worker, model="potluck-starter", lines=5000)
    assert any("KV buffer size" in line for line in log)
    assert not [line for line in log if SECRET in line.lower()]
