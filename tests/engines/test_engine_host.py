from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from engines.driving import STARTER, ask
from potluck_proto.v1 import types_pb2 as types
from potluck_worker.engine_host import JOIN_SECONDS, STATS_SECONDS, Outbox
from potluck_worker.engines import frames
from potluck_worker.engines.base import (
    Cancel,
    Close,
    Finished,
    FromChild,
    Load,
    Loaded,
    LoadFailed,
    Produced,
    Stats,
    ToChild,
)


class Host:
    """A child process, and our end of its pipe."""

    def __init__(self, engine: str, scratch: Path, library_path: Path | None = None) -> None:
        self.pipe, theirs = socket.socketpair()
        self.pipe.settimeout(20)
        with theirs:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    *("-m", "potluck_worker.engine_host"),
                    *("--fd", str(theirs.fileno()), "--engine", engine),
                    *("--scratch", str(scratch)),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | ({"PYTHONPATH": str(library_path)} if library_path else {}),
            )
        self.reader: BinaryIO = self.pipe.makefile("rb")

    def send(self, frame: ToChild) -> None:
        self.pipe.sendall(frames.encode(frame))

    def receive(self) -> FromChild | None:
        body = frames.read_blocking(self.reader)
        return None if body is None else frames.decode_from_child(body)

    def until(self, kind: type[FromChild]) -> FromChild:
        while (frame := self.receive()) is not None:
            if isinstance(frame, kind):
                return frame
        raise AssertionError(f"the pipe ended before {kind.__name__}")


@contextmanager
def host(engine: str, library_path: Path | None = None) -> Iterator[Host]:
    scratch = Path(tempfile.mkdtemp())
    child = Host(engine, scratch, library_path)
    try:
        yield child
    finally:
        assert child.process.stdin is not None
        child.process.stdin.close()
        child.process.kill()
        child.process.wait()
        shutil.rmtree(scratch, ignore_errors=True)
        child.reader.close()
        child.pipe.close()


@pytest.fixture
def fake(tmp_path: Path) -> Load:
    path = tmp_path / "slow.fake.toml"
    path.write_text('text = "one two three four five six"\ntokens_per_second = 20\n')
    return Load(str(path), 100, 2)


def test_a_child_loads_answers_and_closes() -> None:
    with host("llama") as child:
        child.send(Load(str(STARTER), 512, 2))
        loaded = child.until(Loaded)
        assert isinstance(loaded, Loaded)
        assert loaded.weights_bytes > 2**20
        assert loaded.kv_cache_bytes > 0
        assert 0 < loaded.longest_step_seconds < 10
        child.send(ask("hello"))
        end = child.until(Finished)
        assert isinstance(end, Finished)
        assert end.reason == "end_of_turn"
        child.send(Close())
        assert child.process.wait(10) == 0


def test_a_command_is_heard_while_an_answer_comes(fake: Load) -> None:
    with host("fake") as child:
        child.send(fake)
        child.send(ask("x"))
        child.until(Loaded)
        child.send(Cancel("a"))
        end = child.until(Finished)
        assert isinstance(end, Finished)
        assert end.reason == "stopped"


def test_statistics_come_while_it_works_and_when_it_rests(fake: Load) -> None:
    with host("fake") as child:
        child.send(fake)
        child.send(ask("x"))
        busy = child.until(Stats)
        assert isinstance(busy, Stats)
        assert busy.slots_busy == 1
        child.until(Finished)
        rest = child.until(Stats)
        assert isinstance(rest, Stats)
        assert (rest.slots_busy, rest.tokens_per_second) == (0, 0.0)


def test_a_load_that_fails_is_said_in_words(tmp_path: Path) -> None:
    with host("llama") as child:
        child.send(Load(str(tmp_path / "missing.gguf"), 512, 2))
        refused = child.until(LoadFailed)
        assert isinstance(refused, LoadFailed)
        assert refused.failure.code == types.ERROR_CODE_MODEL_FILE
        assert "missing.gguf" in refused.failure.message
        assert child.process.wait(10) == 1


def test_whatever_a_load_raises_is_said_in_words() -> None:
    with host("fake") as child:
        child.send(Load("no\0file.fake.toml", 512, 2))
        refused = child.until(LoadFailed)
        assert isinstance(refused, LoadFailed)
        assert refused.failure.code == types.ERROR_CODE_INTERNAL
        assert refused.failure.message.startswith("ValueError: ")
        assert child.process.wait(10) == 1


def test_a_library_that_cannot_be_loaded_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "llama_cpp.py").write_text("raise RuntimeError('libcuda.so.1 is missing')")
    with host("llama", library_path=tmp_path) as child:
        child.send(Load(str(STARTER), 512, 2))
        refused = child.until(LoadFailed)
        assert isinstance(refused, LoadFailed)
        assert refused.failure.code == types.ERROR_CODE_ENGINE_MISSING
        assert "libcuda.so.1 is missing" in refused.failure.message
        assert child.process.wait(10) == 1


def test_a_child_that_is_killed_ends_the_pipe(fake: Load) -> None:
    with host("fake") as child:
        child.send(fake)
        child.send(ask("x"))
        child.until(Produced)
        child.process.kill()
        while (frame := child.receive()) is not None:
            assert not isinstance(frame, Finished)
        assert child.process.wait(10) == -signal.SIGKILL


def test_an_interrupt_in_the_terminal_ends_no_answer(fake: Load) -> None:
    with host("fake") as child:
        child.send(fake)
        child.send(ask("x"))
        child.until(Produced)
        child.process.send_signal(signal.SIGINT)
        end = child.until(Finished)
        assert isinstance(end, Finished)
        assert end.reason == "end_of_turn"


def test_an_engine_that_hangs_is_silent_and_still_ends_with_its_pipe(tmp_path: Path) -> None:
    path = tmp_path / "hangs.fake.toml"
    path.write_text('text = "one two three"\nstall_after_tokens = 1\n')
    with host("fake") as child:
        child.send(Load(str(path), 100, 1))
        child.send(ask("x"))
        child.until(Produced)
        child.pipe.settimeout(3 * STATS_SECONDS)
        with pytest.raises(TimeoutError):
            child.until(Finished)
        child.pipe.shutdown(socket.SHUT_RDWR)
        assert child.process.wait(10) == 0


def test_the_first_piece_of_an_answer_goes_out_at_once_and_later_ones_together() -> None:
    outbox = Outbox()

    def piece(request: str, index: int) -> Produced:
        return Produced(request, index, [index], index, "x")

    assert outbox.join([piece("a", 0)], 10.0) == [piece("a", 0)]
    assert outbox.join([piece("a", 1), piece("b", 0)], 10.01) == [piece("b", 0)]
    assert outbox.join([piece("a", 2), piece("b", 1)], 10.02) == []
    joined = piece("a", 1).joined(piece("a", 2))
    assert outbox.join([], 10.0 + JOIN_SECONDS) == [joined, piece("b", 1)]
    end = Finished("a", "end_of_turn")
    assert outbox.join([piece("a", 3), end], 10.06) == [piece("a", 3), end]
    assert outbox.join([piece("a", 0)], 10.07) == [piece("a", 0)]


def test_garbage_on_the_pipe_ends_the_child(fake: Load) -> None:
    with host("fake") as child:
        child.send(fake)
        child.until(Loaded)
        child.pipe.sendall(b"\x00\x00\x00\x04\xc1\xc1\xc1\xc1")
        assert child.process.wait(10) == 2


def test_a_child_ends_when_the_pipe_does(fake: Load) -> None:
    with host("fake") as child:
        child.send(fake)
        child.send(ask("x"))
        child.until(Loaded)
        child.pipe.shutdown(socket.SHUT_RDWR)
        child.process.wait(10)
