"""What the commands print: tables that fit, and counts that can be."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from potluck_proto.errors import BadRequest
from potluck_proto.home import Home
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_tui.cli import build_parser
from potluck_tui.columns import table_lines
from potluck_tui.commands.ask import ask
from potluck_tui.commands.hub import search
from potluck_tui.commands.recommend import recommend, recommendation_lines
from tui.test_models_screens import recommendation

HEADER = ("MODEL", "PARAMS", "SIZE", "ON")
ROWS = [("Qwen2.5-Coder-7B-Instruct", "7.6B", "3.5 GB", "attic"), ("short", "1B", "1 GB", "vm")]


def test_a_table_is_whole_where_there_is_room_or_nobody_measures() -> None:
    whole = list(table_lines(HEADER, ROWS))
    assert whole == list(table_lines(HEADER, ROWS, 80, ("PARAMS",)))
    assert whole[1] == "Qwen2.5-Coder-7B-Instruct  7.6B    3.5 GB  attic"


def test_columns_that_can_be_spared_go_before_names_are_cut_short() -> None:
    spare = ("PARAMS", "ON")
    assert list(table_lines(HEADER, ROWS, 44, spare))[1] == (
        "Qwen2.5-Coder-7B-Ins…  7.6B    3.5 GB  attic"
    )
    assert list(table_lines(HEADER, ROWS, 40, spare)) == [
        "MODEL                      SIZE    ON",
        "Qwen2.5-Coder-7B-Instruct  3.5 GB  attic",
        "short                      1 GB    vm",
    ]
    assert list(table_lines(HEADER, ROWS, 30, spare))[1] == "Qwen2.5-Coder-7B-Inst…  3.5 GB"


def advice() -> pb.RecommendResponse:
    rows = [
        recommendation("Qwen2.5-Coder-32B-Instruct", 18.7, 38.0, node_name="attic-pc"),
        recommendation("Meta-Llama-3.1-8B-Instruct", 7.9, 140.0, quantization="Q8_0"),
    ]
    return pb.RecommendResponse(recommendations=rows, catalogue_date="2026-11-24")


def test_recommendations_fit_80_columns_with_licence_and_place() -> None:
    lines = list(recommendation_lines(advice(), 12, 80))
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["MODEL", "QUANT", "SIZE", "TOK/S", "QUALITY", "LICENCE", "ON"]
    assert lines[1].endswith("apache-2.0  attic-pc")


def test_quality_is_said_in_words_and_no_loss_as_none() -> None:
    lines = list(recommendation_lines(advice(), 12))
    assert "  good     apache-2.0" in lines[1]
    assert "  as good  apache-2.0" in lines[2]
    assert "Llama 3 8B" in " ".join(lines)
    assert "0.0%" not in " ".join(lines)


@pytest.mark.parametrize("count", ["0", "-3", "99999999999"])
async def test_a_count_that_cannot_be_is_refused_before_anything_starts(
    short_tmp: Path, count: str
) -> None:
    home = Home(short_tmp)
    for command, words in ((search, ["search", "qwen"]), (recommend, ["recommend"])):
        options = build_parser().parse_args([*words, "--limit", count])
        with pytest.raises(BadRequest, match=f"--limit cannot be {count}"):
            await command(options, home)
    assert not home.models.exists()


async def test_a_number_too_large_to_be_sent_is_said(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    options = build_parser().parse_args(["ask", "--seed", "9" * 20, "Hi"])
    with pytest.raises(BadRequest, match="which is too large"):
        await ask(options, Home(short_tmp))
