from __future__ import annotations

import math
from pathlib import Path

import pytest

from library import sizes
from library.shapes import gpt_oss, llama
from potluck_proto.errors import SettingsError
from potluck_proto.home import Home
from potluck_scheduler.catalogue import Catalogue
from potluck_worker.engines.inspection import LicenceWords
from potluck_worker.library.licences import licence

SIZES = {
    "SmolLM2-135M-Instruct": sizes.SMOL_135M,
    "SmolLM2-360M-Instruct": sizes.SMOL_360M,
    "SmolLM2-1.7B-Instruct": sizes.SMOL_1_7B,
    "Qwen3-0.6B": sizes.QWEN_3_06B,
    "Qwen3-1.7B": sizes.QWEN_3_17B,
    "Qwen3-4B": sizes.QWEN_3_4B,
    "Qwen3-8B": sizes.QWEN_3_8B,
    "Qwen3-14B": sizes.QWEN_3_14B,
    "Qwen3-32B": sizes.QWEN_3_32B,
    "Qwen3-30B-A3B": sizes.QWEN_3_30B_A3B,
    "Qwen3-Coder-30B-A3B-Instruct": sizes.QWEN_3_30B_A3B,
    "Qwen2.5-Coder-7B-Instruct": sizes.QWEN_25_7B,
    "Qwen2.5-Coder-32B-Instruct": sizes.QWEN_25_32B,
    "Llama-3.2-1B-Instruct": sizes.LLAMA_3_2_1B,
    "Llama-3.2-3B-Instruct": sizes.LLAMA_3_2_3B,
    "Meta-Llama-3.1-8B-Instruct": sizes.LLAMA_3_8B,
    "Llama-3.3-70B-Instruct": sizes.LLAMA_70B,
    "gemma-2-2b-it": sizes.GEMMA_2_2B,
    "gemma-2-9b-it": sizes.GEMMA_2_9B,
    "gemma-2-27b-it": sizes.GEMMA_2_27B,
    "gemma-3-4b-it": sizes.GEMMA_3_4B,
    "gemma-3-12b-it": sizes.GEMMA_3_12B,
    "gemma-3-27b-it": sizes.GEMMA_3_27B,
    "gpt-oss-20b": sizes.GPT_OSS_20B,
    "Phi-3-mini-4k-instruct": sizes.PHI_3_MINI,
    "phi-4": sizes.PHI_4,
    "Mistral-7B-Instruct-v0.3": sizes.MISTRAL_V3,
    "Mistral-Nemo-Instruct-2407": sizes.NEMO,
    "Mistral-Small-3.2-24B-Instruct-2506": sizes.MISTRAL_SMALL,
    "DeepSeek-R1-Distill-Qwen-14B": sizes.QWEN_25_14B,
    "TinyLlama-1.1B-Chat-v1.0": sizes.TINY_LLAMA,
}
"""What each row of the catalogue is made of, by the configurations of the models."""


@pytest.fixture
def home(short_tmp: Path) -> Home:
    home = Home(short_tmp)
    home.prepare()
    return home


def test_the_catalogue_that_comes_along_has_a_date_and_a_source_for_each_row(home: Home) -> None:
    catalogue = Catalogue.read(home)
    assert len(catalogue.rows) >= 20
    assert len({r.name for r in catalogue.rows}) == len(catalogue.rows)
    for found in catalogue.rows:
        assert found.source.startswith("https://")
        assert found.date


def test_the_catalogues_figures_follow_from_what_its_models_are_made_of(home: Home) -> None:
    rows = {row.name: row for row in Catalogue.read(home).rows}
    assert rows.keys() == SIZES.keys()
    for name, row in rows.items():
        made = SIZES[name]
        shapes = dict(gpt_oss(made) if name.startswith("gpt-oss") else llama(made))
        parameters = sum(math.prod(shape) for shape in shapes.values())
        assert row.parameters == pytest.approx(parameters, rel=0.01), name
        of_experts = sum(math.prod(shapes[each]) for each in shapes if "experts" in each)
        resting = of_experts * (made.experts - made.used) // max(1, made.experts)
        assert row.active == pytest.approx(parameters - resting, rel=0.01), name
        assert (row.layers, row.kv_width) == (made.layers, made.kv_heads * made.head_width), name
        assert licence(LicenceWords(row.licence)).commercial_use in ("yes", "conditions"), name


def test_the_homes_catalogue_takes_its_place_or_says_its_mistake(home: Home) -> None:
    own = home.root / "catalogue.toml"
    own.write_text('date = "x"\nmodel = []\n')
    assert Catalogue.read(home).date == "x"
    own.write_text('date = "x"\n[[model]]\nname = "y"\n')
    with pytest.raises(SettingsError, match="cannot be used"):
        Catalogue.read(home)
