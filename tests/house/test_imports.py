from __future__ import annotations

import subprocess
import sys

import pytest

ENGINES = {"llama_cpp", "vllm", "torch", "numpy"}
SERVERS = {"potluck_scheduler", "potluck_worker", "zeroconf", "sqlite3"}


CHAT = "import potluck_tui.commands.chat, potluck_tui.launch, potluck_tui.app"
"""What `potluck` imports before its first picture."""

CHAT_PACKAGES = {
    *("google", "grpc", "linkify_it", "markdown_it", "mdurl", "platformdirs", "psutil"),
    *("pygments", "rich", "textual", "typing_extensions"),
    *("potluck_proto", "potluck_tui"),
    # grpc looks for these.
    *("cython_runtime", "grpc_tools"),
}
CHAT_SCREENS = {"chat", "dialogs", "live", "message_actions"}
SLOW_STANDARD_LIBRARY = {
    "email",
    "http",
    "multiprocessing",
    "sqlite3",
    "unittest",
    "xml",
    "zoneinfo",
}


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
        # A child pays for its own job alone.
        ("import potluck_worker.engine_host", {"grpc", "pydantic"}),
        ("import potluck_worker.inspect_host", {"grpc", "pydantic"}),
        ("import potluck_worker.library.hub_host", {"grpc", "pydantic", "huggingface_hub"}),
        ("import potluck_worker.library.hub", {"grpc", "pydantic"}),
        ("import potluck_proto.home", {"potluck_worker", "potluck_scheduler", "potluck_tui"}),
    ],
)
def test_a_room_loads_nothing_of_another(statement: str, forbidden: set[str]) -> None:
    assert not loaded_by(statement) & forbidden


def test_help_loads_nothing_that_is_slow() -> None:
    loaded = loaded_by("import potluck_tui.cli; potluck_tui.cli.build_parser()")
    assert not loaded & {"grpc", "google.protobuf", "textual", "rich", "pydantic", "asyncio"}


def test_the_chat_opens_within_its_budget_of_modules() -> None:
    loaded = loaded_by(CHAT)
    packages = {name.partition(".")[0] for name in loaded if not name.startswith("_")}
    assert packages - set(sys.stdlib_module_names) <= CHAT_PACKAGES
    assert not packages & SLOW_STANDARD_LIBRARY
    screens = {name.split(".")[2] for name in loaded if name.startswith("potluck_tui.screens.")}
    assert screens <= CHAT_SCREENS, "a screen that opens on demand is imported then"
