"""Inspects many files, each in a process of its own, without starting Python for each.

`python -m lineages.inspector` reads paths from standard input, a line each, and answers each with a
line of JSON: what `inspect_host` printed, and how its process ended.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from engines.asking import question
from potluck_worker import inspect_host
from potluck_worker.engines.llama import require_library
from potluck_worker.engines.sizing import Options

OPTIONS = Options(512, 2, "f16")

SECONDS = 20
"""What takes longer hangs."""


def inspect(path: str) -> dict[str, object]:
    """Return what a process that inspects a file printed, how it ended, and what it took."""
    with tempfile.TemporaryFile("w+") as output:
        process = os.fork()
        if process == 0:
            signal.alarm(SECONDS)
            os.dup2(output.fileno(), 1)
            sys.argv = ["inspect_host", "describe", question(Path(path), OPTIONS)]
            code = 1
            try:
                code = inspect_host.main()
            finally:
                sys.stdout.flush()
                os._exit(code)
        _, status, usage = os.wait4(process, 0)
        output.seek(0)
        return {
            "printed": output.read(),
            "code": os.waitstatus_to_exitcode(status),
            "memory_bytes": usage.ru_maxrss * 1024,
        }


if __name__ == "__main__":
    require_library()
    importlib.import_module("potluck_worker.engines.llama.library")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    for line in sys.stdin:
        print(json.dumps(inspect(line.rstrip("\n"))), flush=True)
