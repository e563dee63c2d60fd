from __future__ import annotations

from dataclasses import replace

import pytest

from potluck_tui.meaning import meaning, room, with_hardware
from potluck_tui.model_facts import Fact
from potluck_tui.pool import ModelView, PoolView
from tui import samples

POOL = PoolView.from_proto(samples.house())
LLAMA = replace(POOL.models[0], bits_per_weight=4.89, has_chat_template=True)
QWEN = POOL.models[-1]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (LLAMA, "In memory on studio with 8K context."),
        (replace(LLAMA, loaded_on=()), "Fits studio with 8K context."),
        (QWEN, "Needs 26.0 GiB with 8K context; macbook has 5.0 GiB free."),
        (replace(QWEN, usable=False, problem="It is cut."), "It is cut."),
        (
            replace(QWEN, node_names=("gone",), context_length=0),
            "Needs 26.0 GiB; no machine is ready.",
        ),
    ],
)
def test_room_is_said_with_the_numbers_of_the_machines(model: ModelView, words: str) -> None:
    assert room(model, POOL) == words


@pytest.mark.parametrize(
    ("name", "model", "words"),
    [
        ("quantization", LLAMA, "4.9 bits a weight: 4.6 GiB instead of 15.0 GiB. Quality against "),
        (
            "quantization",
            replace(LLAMA, quantization="F16"),
            "4.9 bits a weight: 4.6 GiB. Quality against",
        ),
        ("quantization", replace(LLAMA, quantization="NEW"), "4.9 bits a weight: 4.6 GiB instead"),
        ("parameters", LLAMA, "At 16 bits 8.0B of them take 15.0 GiB. The largest memory here is "),
        ("context", LLAMA, "A conversation here may have 8,192 tokens, about 6,144 English words."),
        ("runs on", LLAMA, "studio and macbook can run it."),
        ("tuning", LLAMA, "You can chat with it as it is."),
        ("tuning", replace(LLAMA, is_base=True), "It goes on with what you write;"),
        (
            "tuning",
            replace(LLAMA, is_base=True, has_chat_template=False),
            "It cannot chat as it is: `potluck template` gives",
        ),
        ("chat template", replace(LLAMA, has_chat_template=False), "`potluck template` gives it"),
        ("commercial use", replace(LLAMA, commercial_use="yes"), "You may use it at work too."),
        ("commercial use", replace(LLAMA, commercial_use="no"), "Keep it for private use,"),
        ("size", QWEN, "21.7 GiB on the disk of macbook; in memory 26.0 GiB. Needs 26.0 GiB with"),
        ("hardware", QWEN, "Needs 26.0 GiB with 8K context; macbook has 5.0 GiB free. Now 5.0 GiB"),
    ],
)
def test_a_property_means_something_on_this_pool(name: str, model: ModelView, words: str) -> None:
    assert meaning(name, model, POOL).startswith(words)


def test_what_means_nothing_more_here_is_left_to_its_explanation() -> None:
    assert meaning("sha256", LLAMA, POOL) == ""
    assert meaning("parameters", replace(LLAMA, parameter_count=0), POOL) == ""


def test_the_hardware_stands_behind_what_the_model_runs_on() -> None:
    known = [Fact("runs on", "llama"), Fact("size", "4.6 GiB")]
    names = [fact.name for fact in with_hardware(known, LLAMA, POOL)]
    assert names == ["runs on", "hardware", "size"]
    assert with_hardware([], replace(LLAMA, node_names=()), POOL) == ()
