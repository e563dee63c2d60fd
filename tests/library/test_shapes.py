from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from engines.asking import described
from engines.stand_in import NO_VLLM, VLLM, vllm_python
from library.gguf_shapes import write_gguf
from library.shapes import Known, Sizes, falcon, gpt2, gpt_oss, llama, opt, starcoder2, write
from library.sizes import (
    ALPACA,
    DEEPSEEK_7B,
    FALCON_7B,
    GEMMA_2_2B,
    GEMMA_2_9B,
    GEMMA_2_27B,
    GEMMA_2B,
    GEMMA_3_1B,
    GEMMA_7B,
    GPT2,
    GPT2_XL,
    GPT_OSS_20B,
    LLAMA_2_7B,
    LLAMA_3_2_1B,
    LLAMA_3_2_3B,
    LLAMA_3_8B,
    LLAMA_70B,
    MISTRAL,
    MIXTRAL,
    NEMO,
    OPEN_LLAMA_3B,
    OPT_1_3B,
    OPT_6_7B,
    OPT_125M,
    PHI_3_MINI,
    QWEN_3_06B,
    QWEN_3_4B,
    QWEN_3_8B,
    QWEN_3_14B,
    QWEN_3_30B_A3B,
    QWEN_3_32B,
    QWEN_25_05B,
    QWEN_25_3B,
    QWEN_25_7B,
    QWEN_25_14B,
    QWEN_25_15B,
    QWEN_25_32B,
    QWEN_25_72B,
    SMOL_1_7B,
    SMOL_135M,
    SMOL_360M,
    STARCODER2_3B,
    TINY_LLAMA,
    YI_6B,
)
from potluck_worker.architectures import Architectures
from potluck_worker.availability import llama_availability
from potluck_worker.engines.gguf_names import GGUF_NAMES
from potluck_worker.engines.inspection import Inspection, Tuning
from potluck_worker.engines.sizing import Options
from potluck_worker.engines.vllm.checkpoint import Checkpoint
from potluck_worker.library.licences import CommercialUse, licence


@dataclass(frozen=True, slots=True)
class Row:
    """What is published of a model, and what its files say."""

    model: Known
    parameters: int
    tuning: Tuning
    commercial_use: CommercialUse
    active: int = 0
    bits: float = 16.0
    engines: str = "llama.cpp vLLM"


def bits(size_bytes: float, parameters: int) -> float:
    """Return the bits a weight of files of a size."""
    return 8 * size_bytes / parameters


def card(licence_id: str, base: str = "", name: str = "") -> dict[str, str]:
    said = {"license": licence_id, "license_name": name, "base_model": base}
    return {key: value for key, value in said.items() if value}


def llamas(sizes: Sizes, *about: str, kind: str = "llama", template: bool = False) -> Known:
    return Known(kind, sizes, llama, card(*about), template)


def tuned(sizes: Sizes, *about: str, kind: str = "llama") -> Known:
    return llamas(sizes, *about, kind=kind, template=True)


ROWS = {
    "Llama-2-7b": Row(llamas(LLAMA_2_7B, "llama2"), 6_738_415_616, "base", "conditions"),
    "vicuna-7b-v1.5": Row(llamas(LLAMA_2_7B, "llama2"), 6_738_415_616, "tuned", "conditions"),
    "alpaca-7b": Row(llamas(ALPACA, "cc-by-nc-4.0"), 6_738_423_808, "tuned", "no"),
    "WizardLM-7B": Row(llamas(ALPACA, "other"), 6_738_423_808, "tuned", "unknown"),
    "open_llama_3b": Row(llamas(OPEN_LLAMA_3B, "apache-2.0"), 3_426_473_600, "base", "yes"),
    "orca_mini_3b": Row(llamas(OPEN_LLAMA_3B, "mit"), 3_426_473_600, "tuned", "yes"),
    "Meta-Llama-3-8B": Row(llamas(LLAMA_3_8B, "llama3"), 8_030_261_248, "base", "conditions"),
    "Llama-3.1-8B-Instruct": Row(
        tuned(LLAMA_3_8B, "llama3.1", "meta-llama/Meta-Llama-3.1-8B"),
        8_030_261_248,
        "tuned",
        "conditions",
    ),
    "Llama-3.2-1B": Row(llamas(LLAMA_3_2_1B, "llama3.2"), 1_235_814_400, "base", "conditions"),
    "Llama-3.2-3B": Row(llamas(LLAMA_3_2_3B, "llama3.2"), 3_212_749_824, "base", "conditions"),
    "Llama-3.3-70B-Instruct": Row(
        tuned(LLAMA_70B, "llama3.3"), 70_553_706_496, "tuned", "conditions"
    ),
    "Mistral-7B-v0.1": Row(
        llamas(MISTRAL, "apache-2.0", kind="mistral"), 7_241_732_096, "base", "yes"
    ),
    "zephyr-7b-beta": Row(
        tuned(MISTRAL, "mit", "mistralai/Mistral-7B-v0.1", kind="mistral"),
        7_241_732_096,
        "tuned",
        "yes",
    ),
    "Mistral-Nemo-Instruct-2407": Row(
        tuned(NEMO, "apache-2.0", kind="mistral"), 12_247_782_400, "tuned", "yes"
    ),
    "Mixtral-8x7B-v0.1": Row(
        llamas(MIXTRAL, "apache-2.0", kind="mixtral"),
        46_702_792_704,
        "base",
        "yes",
        12_879_925_248,
    ),
    "Qwen2.5-0.5B": Row(
        llamas(QWEN_25_05B, "apache-2.0", kind="qwen2"), 494_032_768, "base", "yes"
    ),
    "Qwen2.5-1.5B-Instruct": Row(
        tuned(QWEN_25_15B, "apache-2.0", "Qwen/Qwen2.5-1.5B", kind="qwen2"),
        1_543_714_304,
        "tuned",
        "yes",
    ),
    "Qwen2.5-3B-Instruct": Row(
        tuned(QWEN_25_3B, "other", "Qwen/Qwen2.5-3B", "qwen-research", kind="qwen2"),
        3_085_938_688,
        "tuned",
        "no",
    ),
    "Qwen2.5-7B-Instruct": Row(
        tuned(QWEN_25_7B, "apache-2.0", kind="qwen2"), 7_615_616_512, "tuned", "yes"
    ),
    "Qwen2.5-14B-Instruct": Row(
        tuned(QWEN_25_14B, "apache-2.0", kind="qwen2"), 14_770_033_664, "tuned", "yes"
    ),
    "Qwen2.5-32B-Instruct": Row(
        tuned(QWEN_25_32B, "apache-2.0", kind="qwen2"), 32_763_876_352, "tuned", "yes"
    ),
    "Qwen2.5-72B-Instruct": Row(
        tuned(QWEN_25_72B, "other", "", "qwen", kind="qwen2"), 72_706_203_648, "tuned", "conditions"
    ),
    "Qwen3-0.6B": Row(
        tuned(QWEN_3_06B, "apache-2.0", "Qwen/Qwen3-0.6B-Base", kind="qwen3"),
        596_049_920,
        "tuned",
        "yes",
    ),
    "Qwen3-4B-Base": Row(
        tuned(QWEN_3_4B, "apache-2.0", kind="qwen3"), 4_022_468_096, "base", "yes"
    ),
    "Qwen3-8B": Row(
        tuned(QWEN_3_8B, "apache-2.0", "Qwen/Qwen3-8B-Base", kind="qwen3"),
        8_190_735_360,
        "tuned",
        "yes",
    ),
    "Qwen3-14B": Row(tuned(QWEN_3_14B, "apache-2.0", kind="qwen3"), 14_768_307_200, "tuned", "yes"),
    "Qwen3-32B": Row(tuned(QWEN_3_32B, "apache-2.0", kind="qwen3"), 32_762_123_264, "tuned", "yes"),
    "Qwen3-30B-A3B": Row(
        tuned(QWEN_3_30B_A3B, "apache-2.0", kind="qwen3_moe"),
        30_532_122_624,
        "tuned",
        "yes",
        3_345_000_000,
    ),
    "gemma-2b": Row(llamas(GEMMA_2B, "gemma", kind="gemma"), 2_506_172_416, "base", "conditions"),
    "gemma-7b-it": Row(
        tuned(GEMMA_7B, "gemma", kind="gemma"), 8_537_680_896, "tuned", "conditions"
    ),
    "gemma-2-2b": Row(
        llamas(GEMMA_2_2B, "gemma", kind="gemma2"), 2_614_341_888, "base", "conditions"
    ),
    "gemma-2-9b-it": Row(
        tuned(GEMMA_2_9B, "gemma", "google/gemma-2-9b", kind="gemma2"),
        9_241_705_984,
        "tuned",
        "conditions",
    ),
    "gemma-2-27b": Row(
        llamas(GEMMA_2_27B, "gemma", kind="gemma2"), 27_227_128_320, "base", "conditions"
    ),
    "gemma-3-1b-pt": Row(
        tuned(GEMMA_3_1B, "gemma", kind="gemma3_text"), 999_885_952, "base", "conditions"
    ),
    "Phi-3-mini-4k-instruct": Row(
        tuned(PHI_3_MINI, "mit", kind="phi3"), 3_821_079_552, "tuned", "yes"
    ),
    "SmolLM2-135M": Row(llamas(SMOL_135M, "apache-2.0"), 134_515_008, "base", "yes"),
    "SmolLM2-360M-Instruct": Row(tuned(SMOL_360M, "apache-2.0"), 361_821_120, "tuned", "yes"),
    "SmolLM2-1.7B": Row(llamas(SMOL_1_7B, "apache-2.0"), 1_711_376_384, "base", "yes"),
    "TinyLlama-1.1B-Chat-v1.0": Row(tuned(TINY_LLAMA, "apache-2.0"), 1_100_048_384, "tuned", "yes"),
    "Yi-6B": Row(llamas(YI_6B, "apache-2.0"), 6_061_035_520, "base", "yes"),
    "deepseek-llm-7b-base": Row(
        llamas(DEEPSEEK_7B, "other", "", "deepseek"), 6_910_365_696, "base", "conditions"
    ),
    "gpt2": Row(Known("gpt2", GPT2, gpt2, card("mit")), 124_439_808, "base", "yes"),
    "gpt2-xl": Row(Known("gpt2", GPT2_XL, gpt2, card("mit")), 1_557_611_200, "base", "yes"),
    "opt-125m": Row(
        Known("opt", OPT_125M, opt, card("other")),
        125_239_296,
        "base",
        "unknown",
        engines="vLLM",
    ),
    "opt-1.3b": Row(
        Known("opt", OPT_1_3B, opt, card("other", "", "opt-175b")),
        1_315_758_080,
        "base",
        "no",
        engines="vLLM",
    ),
    "opt-6.7b": Row(Known("opt", OPT_6_7B, opt), 6_658_473_984, "base", "unknown", engines="vLLM"),
    "falcon-7b": Row(
        Known("falcon", FALCON_7B, falcon, card("apache-2.0")), 6_921_720_704, "base", "yes"
    ),
    "falcon-7b-instruct": Row(
        Known("falcon", FALCON_7B, falcon, card("apache-2.0")), 6_921_720_704, "tuned", "yes"
    ),
    "starcoder2-3b": Row(
        Known("starcoder2", STARCODER2_3B, starcoder2, card("bigcode-openrail-m")),
        3_030_371_328,
        "base",
        "conditions",
    ),
    "Qwen2.5-7B-Instruct-AWQ": Row(
        replace(
            tuned(QWEN_25_7B, "apache-2.0", "Qwen/Qwen2.5-7B-Instruct", kind="qwen2"), packed="awq"
        ),
        7_615_616_512,
        "tuned",
        "yes",
        bits=bits(5.57e9, 7_615_616_512),
    ),
    "Llama-3.1-8B-Instruct-FP8": Row(
        replace(tuned(LLAMA_3_8B, "llama3.1", "meta-llama/Llama-3.1-8B-Instruct"), packed="fp8"),
        8_030_261_248,
        "tuned",
        "conditions",
        bits=bits(9.08e9, 8_030_261_248),
    ),
    "Llama-3.1-8B-Instruct-bnb-4bit": Row(
        replace(
            tuned(LLAMA_3_8B, "llama3.1", "meta-llama/Llama-3.1-8B-Instruct"), packed="bitsandbytes"
        ),
        8_030_261_248,
        "tuned",
        "conditions",
        bits=bits(5.70e9, 8_030_261_248),
    ),
    # Its card counts no embedding among the active weights, and says 3.6B.
    "gpt-oss-20b": Row(
        Known("gpt_oss", GPT_OSS_20B, gpt_oss, card("apache-2.0"), template=True, packed="mxfp4"),
        20_914_757_184,
        "tuned",
        "yes",
        4_190_000_000,
        bits=bits(13.76e9, 20_914_757_184),
    ),
}
"""Checkpoints in safetensors; of packed ones, the size of their files is published."""

LLAMA_CPP_BITS = {
    "Q8_0": 8.5008,
    "Q6_K": 6.5633,
    "Q5_K_M": 5.7036,
    "Q4_K_M": 4.8944,
    "Q4_K_S": 4.6672,
    "Q3_K_M": 3.9960,
    "Q2_K": 3.1593,
}
"""Bits a weight of Llama 3.1 8B, as llama.cpp's own page on quantizing has them."""

GGUF_ROWS = {
    **{("Llama-3.1-8B-Instruct", scheme): known for scheme, known in LLAMA_CPP_BITS.items()},
    ("Llama-2-7b", "Q4_0"): bits(3_825_807_040, 6_738_415_616),
    ("vicuna-7b-v1.5", "Q4_K_M"): bits(4_081_004_224, 6_738_415_616),
    ("Llama-3.2-3B", "Q4_K_M"): bits(2_019_377_696, 3_212_749_824),
    ("Llama-3.3-70B-Instruct", "Q4_K_M"): bits(42_520_395_488, 70_553_706_496),
    ("Mistral-7B-v0.1", "Q4_K_M"): bits(4_368_438_944, 7_241_732_096),
    ("TinyLlama-1.1B-Chat-v1.0", "Q4_K_M"): bits(668_788_096, 1_100_048_384),
    ("Qwen2.5-7B-Instruct", "Q4_K_M"): bits(4_683_073_952, 7_615_616_512),
    ("Qwen3-8B", "Q4_K_M"): bits(5_027_783_488, 8_190_735_360),
    ("Qwen3-30B-A3B", "Q4_K_M"): bits(18_556_685_824, 30_532_122_624),
    ("gemma-2-9b-it", "Q4_K_M"): bits(5_761_057_888, 9_241_705_984),
    # Their rows are not made of whole blocks, so most of them take 5 or 8 bits; and beside so few
    # weights the vocabulary of 6 MB counts.
    ("Qwen2.5-0.5B", "Q4_K_M"): bits(397_808_192 - 5_950_000, 494_032_768),
    ("gemma-3-1b-pt", "Q4_K_M"): bits(806_058_272 - 6_500_000, 999_885_952),
}
"""Quantized GGUF files, by their model and scheme: bits a weight as published, or by the size of
the published file, which has a vocabulary beside the weights."""


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Architectures:
    """Return what both engines say that they run, llama.cpp really."""
    known = Architectures()
    python = vllm_python(tmp_path_factory.mktemp("python"))
    assert asyncio.run(known.learn(llama_availability(), VLLM, python))
    return known


def engines_of(found: Inspection, known: Architectures) -> str:
    """Return the engines that would run a checkpoint, or the same model as GGUF."""
    llama = llama_availability()
    here = "" if known.problem("m", found, llama, VLLM) else "vLLM"
    without = known.problem("m", found, llama, NO_VLLM)
    assert without is not None
    gguf = "" if "no GGUF file would do" in without.message else "llama.cpp"
    return " ".join(filter(None, (gguf, here)))


@pytest.mark.parametrize("name", ROWS)
def test_the_files_of_a_well_known_model_say_what_is_published_of_it(
    name: str, tmp_path: Path, known: Architectures
) -> None:
    row = ROWS[name]
    found = Checkpoint.read(write(tmp_path / name, row.model)).inspect()
    compare(found, row, row.bits)
    assert found.architecture == row.model.kind
    assert engines_of(found, known) == row.engines


@pytest.mark.parametrize(("name", "scheme"), GGUF_ROWS)
def test_a_quantized_file_says_the_bits_that_its_weights_really_take(
    name: str, scheme: str, tmp_path: Path
) -> None:
    row = ROWS[name]
    path = write_gguf(tmp_path, name, row.model, scheme)
    found = described(path, Options(256, 1, "f16")).inspection  # llama.cpp runs it: it opened it
    compare(found, row, GGUF_ROWS[name, scheme])
    assert found.quantization == scheme
    assert found.architecture == GGUF_NAMES[row.model.kind]


def compare(found: Inspection, row: Row, bits_per_weight: float) -> None:
    """Hold what files say against what is published."""
    base = row.model.card.get("base_model")
    assert found.parameter_count == pytest.approx(row.parameters, rel=0.01)
    assert found.active_parameter_count == pytest.approx(row.active or row.parameters, rel=0.01)
    assert found.bits_per_weight == pytest.approx(bits_per_weight, abs=0.05)
    assert found.training_context_length == row.model.sizes.context_length
    assert found.vocabulary_size == row.model.sizes.vocabulary
    assert found.has_chat_template == row.model.template
    assert list(found.lineage.base_models) == [base] * bool(base)
    assert found.lineage.tuning == row.tuning, found.lineage.tuning_source
    assert licence(found.licence).commercial_use == row.commercial_use
