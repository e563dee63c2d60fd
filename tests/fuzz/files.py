"""Any bytes as a model file, read as the worker reads it: in a child with limits."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lineages.inspector import SECONDS
from lineages.kinds import llama
from lineages.make import make

TESTS = Path(__file__).resolve().parents[1]
MEMORY_LIMIT_BYTES = 2**30
KILLED_BY_ITS_ALARM = -14


class Files:
    """The child that reads model files."""

    def __init__(self) -> None:
        # It goes with the process, which the fuzzer ends.
        self._path = Path(tempfile.mkdtemp(prefix="pl-")) / "any.gguf"
        self._inspector = subprocess.Popen(
            [sys.executable, "-m", "lineages.inspector"],
            cwd=TESTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def take(self, data: bytes) -> None:
        """Have a file read; a child that llama.cpp aborts is no fault, as it is one."""
        self._path.write_bytes(data)
        assert self._inspector.stdin is not None
        assert self._inspector.stdout is not None
        print(self._path, file=self._inspector.stdin, flush=True)
        found = json.loads(self._inspector.stdout.readline())
        assert found["code"] != KILLED_BY_ITS_ALARM, f"it hung for {SECONDS} seconds"
        assert found["memory_bytes"] < MEMORY_LIMIT_BYTES
        if found["code"] == 0:
            said = json.loads(found["printed"])
            assert "inspection" in said or said["failure"]["message"].isprintable()

    def examples(self) -> Sequence[bytes]:
        """Return the header of a good file, and a little of what follows."""
        make(self._path, llama())
        whole = self._path.read_bytes()
        return [whole[: whole.index(b"token_embd.weight") + 4_000]]
