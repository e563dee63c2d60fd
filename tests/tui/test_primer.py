from __future__ import annotations

import argparse
import tomllib
from pathlib import Path

import pytest

from potluck_proto.errors import BadRequest
from potluck_proto.home import Home
from potluck_proto.v1 import types_pb2 as types
from potluck_tui.commands.pool import explained_lines
from potluck_tui.commands.primer import primer
from potluck_tui.knowledge.primer import explanation, topic, topics
from potluck_tui.model_facts import Fact, facts

CORPUS = Path(__file__).parents[2] / "worker/starter_model/corpus"


def test_the_starter_model_was_trained_on_the_same_texts() -> None:
    trained = {
        entry["id"]: entry["answer"]
        for path in CORPUS.glob("*.toml")
        for entry in tomllib.loads(path.read_text()).get("topic", [])
    }
    assert {found.id: found.text for found in topics()} == {
        found.id: trained[found.id] for found in topics()
    }


def test_a_topic_is_found_by_id_title_or_the_beginning_of_one() -> None:
    assert topic("quantization").id == "quantization"
    assert topic("Why Not").id == "why-not-local"
    assert topic("quant").id == "quantization"
    with pytest.raises(BadRequest, match="Did you mean licence"):
        topic("license")
    with pytest.raises(BadRequest, match="There are: why-local"):
        topic("zebra")


def test_a_property_is_explained_beside_its_value() -> None:
    detail = types.ModelDetail()
    detail.description.architecture = "llama"
    names = {fact.name for fact in facts(detail)} | {"parameters", "quantization", "context"}
    for name in ("architecture", "tuning", "licence", "parameters", "quantization", "context"):
        assert name in names
        assert explanation(name)
    assert explanation("sha256") == ""
    lines = list(explained_lines(Fact("parameters", "8.2B")))
    assert lines[0] == "  parameters  8.2B"
    assert lines[1].startswith("    Parameters are")
    assert max(map(len, lines)) <= 80


async def test_the_primer_is_printed_whole_or_by_topic(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = argparse.Namespace(topic=[], json=False)
    assert await primer(options, Home(tmp_path)) == 0
    whole = capsys.readouterr().out
    assert max(map(len, whole.splitlines())) <= 80
    assert all(found.title.upper() in whole for found in topics())
    assert await primer(argparse.Namespace(topic=["why", "not"], json=False), Home(tmp_path)) == 0
    assert capsys.readouterr().out.startswith("WHY NOT\nHosted models are stronger")
