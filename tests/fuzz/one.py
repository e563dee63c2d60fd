"""Fuzz one target in this process, which ends with it: python -m fuzz.one NAME INPUTS SEED."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris
import psutil

with atheris.instrument_imports(
    include=["potluck_proto", "potluck_worker", "potluck_scheduler"],
    exclude=["potluck_proto.v1"],
):
    from fuzz.targets import target

MEMORY_LIMIT_MIB = 1_024
INPUT_LIMIT_BYTES = 8_192
HANG_SECONDS = 25
CHECK_EVERY = 500
SPARE = 32
"""Descriptors and threads that may come while a target warms up."""


def main(name: str, inputs: int, seed: int) -> None:
    """Fuzz, for ever as far as this function is concerned."""
    under_test, process, count = target(name), psutil.Process(), 0
    most = process.num_fds() + SPARE, process.num_threads() + SPARE

    def take(data: bytes) -> None:
        nonlocal count
        count += 1
        under_test.take(data)
        if count % CHECK_EVERY == 0:
            now = process.num_fds(), process.num_threads()
            assert now <= most, f"{now} descriptors and threads are open"

    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        for number, example in enumerate(under_test.examples):
            (Path(folder) / str(number)).write_bytes(example)
        options = [
            *(f"-runs={inputs}", f"-max_len={INPUT_LIMIT_BYTES}", f"-seed={seed}"),
            *(f"-rss_limit_mb={MEMORY_LIMIT_MIB}", f"-timeout={HANG_SECONDS}"),
            *("-print_final_stats=1", "-verbosity=0", f"-artifact_prefix={folder}/"),
        ]
        atheris.Setup([sys.argv[0], *options, folder], take)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
