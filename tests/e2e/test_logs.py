from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess

import pytest

from e2e.conftest import POTLUCK, Machine
from e2e.test_deaths import engine_process_id


async def test_logs_say_what_an_engine_printed_and_how_it_ended(machine: Machine) -> None:
    machine.add_fake_model("m")
    assert machine.potluck("ask", "-m", "m", "xyzzy").returncode == 0
    async with machine.client() as client:
        engine = await engine_process_id(client)
    os.kill(engine, signal.SIGKILL)
    follower = await asyncio.create_subprocess_exec(
        POTLUCK,
        *("logs", "m", "--follow"),
        env=machine.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        # Tests that run in the background of a shell would hand on that it is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert follower.stdout is not None
    assert f"-- fake engine, process {engine}: " in (await follower.stdout.readline()).decode()
    assert b"was killed (SIGKILL)" in await follower.stdout.readline()
    assert machine.potluck("ask", "-m", "m", "xyzzy").returncode == 0
    assert b"-- fake engine, process " in await follower.stdout.readline()
    follower.send_signal(signal.SIGINT)
    assert await follower.wait() == 130
    shown = machine.potluck("logs", "m", "-n", "2")
    assert len(shown.stdout.splitlines()) == 2
    whole = machine.potluck("logs", "m", "--json")
    objects = [json.loads(line) for line in whole.stdout.splitlines()]
    assert len(objects) == 3
    assert all(entry["node"] and entry["line"] for entry in objects)
    for log in (["m"], [], ["--scheduler"]):
        said = machine.potluck("logs", *log)
        assert said.stdout, said.stderr
        assert "xyzzy" not in said.stdout


def test_what_cannot_be_shown_is_said_in_words(machine: Machine) -> None:
    for arguments, words in (
        (["nonsense"], "No node has a model 'nonsense'"),
        (["--node", "nowhere"], "No node is called 'nowhere'"),
        (["-n", "0"], "--lines cannot be 0"),
        (["--scheduler", "m"], "name no model or node with it"),
        (["potluck-starter"], "was not loaded here"),
    ):
        said = machine.potluck("logs", *arguments)
        assert said.returncode == 1
        assert words in said.stderr


@pytest.mark.parametrize("command", ["logs", "nodes", "primer"])
def test_a_reader_may_leave(machine: Machine, command: str) -> None:
    assert machine.potluck("up").returncode == 0
    piped = subprocess.run(
        ["/bin/sh", "-c", f"{{ {POTLUCK} {command}; echo code $? >&2; }} | true"],
        env=machine.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert piped.stderr == "code 0\n"
