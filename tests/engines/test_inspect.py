from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from engines.driving import STARTER


def inspect(path: Path, context: int = 4096) -> dict[str, dict[str, object]]:
    result = subprocess.run(
        [
            sys.executable,
            *("-m", "potluck_worker.inspect_host", str(path)),
            *("--context", str(context), "--slots", "2"),
        ],
        capture_output=True,
        check=True,
        text=True,
    )
    found: dict[str, dict[str, object]] = json.loads(result.stdout)
    return found


def test_a_file_says_what_it_is() -> None:
    found = inspect(STARTER)["inspection"]
    assert found["architecture"] == "llama"
    assert found["quantization"] == "Q8_0"
    assert found["license"] == "mit"
    assert found["has_chat_template"]
    bits = found["bits_per_weight"]
    assert isinstance(bits, float)
    assert 8.4 < bits < 8.6


def test_the_dry_run_knows_what_the_context_takes() -> None:
    short, long = (inspect(STARTER, context)["inspection"] for context in (256, 512))
    assert isinstance(short["kv_cache_bytes"], int)
    assert isinstance(long["kv_cache_bytes"], int)
    assert long["kv_cache_bytes"] == 2 * short["kv_cache_bytes"] > 0
    assert (short["context_length"], long["context_length"]) == (256, 512)


def test_a_context_beyond_the_training_is_cut_to_it() -> None:
    found = inspect(STARTER, 10**6)["inspection"]
    assert found["context_length"] == found["training_context_length"]


def test_no_context_length_means_the_default(tmp_path: Path) -> None:
    path = tmp_path / "m.fake.toml"
    path.write_text("context_length = 100000\nslots = 1\nmemory_bytes = 5")
    found = inspect(path, 0)["inspection"]
    assert (found["context_length"], found["slots"], found["weights_bytes"]) == (4096, 1, 5)
    found = inspect(STARTER, 0)["inspection"]
    assert found["context_length"] == found["training_context_length"] == 2048


def test_a_file_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"nonsense")
    failure = inspect(path)["failure"]
    assert "x.gguf is not a GGUF" in str(failure["message"])


def test_an_inspection_ends_with_the_daemon_that_wanted_it(tmp_path: Path) -> None:
    path = tmp_path / "endless.fake.toml"
    os.mkfifo(path)  # whoever reads it waits
    with subprocess.Popen(
        [
            sys.executable,
            *("-m", "potluck_worker.inspect_host", str(path)),
            *("--context", "512", "--slots", "2", "--lifeline"),
        ],
        stdin=subprocess.PIPE,
        start_new_session=True,
    ) as inspection:
        assert inspection.stdin is not None
        inspection.stdin.close()
        assert inspection.wait(20) == -signal.SIGKILL
