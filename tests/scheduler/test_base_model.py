from __future__ import annotations

import argparse
import io

import pytest

from fakes.worker import FakeWorker, describe
from potluck_proto.home import Home
from potluck_proto.v1 import types_pb2 as types
from potluck_tui.commands.ask import ask
from scheduler.conftest import Pool


@pytest.fixture
def home(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The home of a pool whose daemons run."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.setattr("potluck_tui.launch.running_instance", lambda home, name: {"x": 1})
    return pool.home


def question(model: str) -> argparse.Namespace:
    said = {"prompt": ["Hi"], "model": model, "tag": [], "no_move": False, "ssh": "", "json": False}
    unsaid = {"system": "", "temperature": None, "seed": None, "max_tokens": None}
    return argparse.Namespace(**said, **unsaid)


async def test_who_asks_a_base_model_is_told_that_it_is_one(
    pool: Pool, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    base, tuned = describe("base"), describe("tuned")
    base.tuning, base.note = types.TUNING_BASE, "A base model: it goes on with a text."
    tuned.note = "Something else."
    await pool.add(FakeWorker(models=[base, tuned]))
    assert await ask(question("base"), home) == 0
    assert "[A base model: it goes on with a text.]" in capsys.readouterr().err
    assert await ask(question("tuned"), home) == 0
    assert "Something else" not in capsys.readouterr().err
