"""Generate `potluck_proto/v1` from `potluck/v1/*.proto`.

`python proto/generate.py [FOLDER]` writes to FOLDER instead of the source tree, which is how the
test finds out that what is committed is stale.

`protoc` names the generated modules after the proto package, `potluck.v1`; ours live in
`potluck_proto.v1`, so the imports between them are rewritten.
"""

from __future__ import annotations

import re
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

PROTO_ROOT = Path(__file__).resolve().parent
PACKAGE = PROTO_ROOT / "potluck_proto" / "v1"


def generate(target: Path) -> list[Path]:
    """Write the modules and their stubs into `target`; return them. Raises `SystemExit`."""
    sources = sorted(str(path) for path in (PROTO_ROOT / "potluck" / "v1").glob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        code = protoc.main(
            [
                "protoc",
                f"-I{PROTO_ROOT}",
                f"-I{resources.files('grpc_tools') / '_proto'}",
                f"--python_out={scratch}",
                f"--mypy_out={scratch}",
                f"--grpc_python_out={scratch}",
                f"--mypy_grpc_out={scratch}",
                *sources,
            ]
        )
        if code != 0:
            raise SystemExit(code)
        target.mkdir(parents=True, exist_ok=True)
        written = []
        for path in sorted(Path(scratch, "potluck", "v1").iterdir()):
            text = re.sub(
                r"\bpotluck\.v1(?= import|\.?\w*_pb2)", "potluck_proto.v1", path.read_text()
            )
            destination = target / path.name
            destination.write_text(text)
            written.append(destination)
    return written


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE)
