from __future__ import annotations

import argparse

import pytest

from fakes.worker import FakeWorker, describe
from potluck_proto.errors import BadRequest
from potluck_tui.commands.template import template as template_command
from scheduler.conftest import Pool


async def test_the_command_chooses_on_each_machine_that_has_the_model_and_says_where_not(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("potluck_tui.launch.running_instance", lambda home, name: {"x": 1})
    models = [describe("m", "Q4_0"), describe("m", "Q8_0")]
    attic = await pool.add(FakeWorker("a", "attic", models=models))
    cellar = await pool.add(FakeWorker("b", "cellar", models=models[:1]))
    await pool.add(FakeWorker("c", "roof"))
    cellar.refusal = BadRequest("Not here.")

    async def run(model: str, template: str, node: str = "") -> int:
        said = {"model": model, "template": template, "node": node, "json": False, "ssh": ""}
        return await template_command(argparse.Namespace(**said), pool.home)

    assert await run("m", "vicuna") == 1
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "cellar: Not here.",
        "m on attic: vicuna, from the next answer on",
    ]
    assert await run("m:q8_0", "own", "attic") == 0
    assert "as its file or the settings have it" in capsys.readouterr().out
    assert attic.templates == [("m", "", "vicuna"), ("m", "Q8_0", "")]
