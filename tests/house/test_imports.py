from __future__ import annotations

import subprocess
import sys

import pytest

ENGINES = {"llama_cpp", "vllm", "torch", "numpy"}
SERVERS = {"potluck_scheduler", "potluck_worker", "zeroconf", "sqlite3"}


def loaded_by(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter has after a statement."""
    script = f"{statement}; import sys; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return set(result.stdout.split())


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import potluck_tui.app", ENGINES | SERVERS),
        ("import potluck_tui.commands.ask", ENGINES | SERVERS | {"textual"}),
        ("import potluck_scheduler.daemon", ENGINES | {"potluck_worker", "potluck_tui", "textual"}),
        ("import potluck_worker.daemon", ENGINES | {"potluck_scheduler", "textual", "llama_cpp"}),
        ("import potluck_proto.home", {"potluck_worker", "potluck_scheduler", "potluck_tui"}),
    ],
)
def test_a_room_loads_nothing_of_another(statement: str, forbidden: set[str]) -> None:
    assert not loaded_by(statement) & forbidden


def test_help_loads_nothing_that_is_slow() -> None:
    loaded = loaded_by("import potluck_tui.cli; potluck_tui.cli.build_parser()")
    assert not loaded & {"grpc", "google.protobuf", "textual", "rich", "pydantic", "asyncio"}
