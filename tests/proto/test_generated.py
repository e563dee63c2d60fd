from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "proto" / "potluck_proto" / "v1"


def test_committed_code_is_what_the_proto_files_generate(tmp_path: Path) -> None:
    environment_path = Path(sys.executable).parent
    subprocess.run(
        [sys.executable, ROOT / "proto" / "generate.py", tmp_path],
        check=True,
        capture_output=True,
        env={"PATH": f"{environment_path}:/usr/bin:/bin"},
    )
    fresh = {path.name: path.read_text() for path in tmp_path.iterdir()}
    committed = {path.name: path.read_text() for path in COMMITTED.glob("*_pb2*")}
    assert fresh.keys() == committed.keys()
    stale = [name for name, text in fresh.items() if committed[name] != text]
    assert not stale, "run `make proto`"
