"""Which engine runs which family: llama.cpp is asked itself, for vLLM a stand-in answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from potluck_proto.errors import EngineMissing, UnsupportedModel
from potluck_worker import questions
from potluck_worker.architectures import Architectures
from potluck_worker.engines.gguf_names import GGUF_NAMES
from potluck_worker.engines.inspection import Inspection, LicenceWords, Lineage
from potluck_worker.hardware import GGUF_INSTEAD, EngineAvailability, llama_availability

VLLM = EngineAvailability("vllm", "0.32.0", "")
NO_VLLM = EngineAvailability("vllm", "", f"vLLM is not installed.{GGUF_INSTEAD}")

FAMILIES = {
    "Llama": ("llama", "LlamaForCausalLM"),
    "OpenLLaMA": ("llama", "LlamaForCausalLM"),
    "Alpaca": ("llama", "LlamaForCausalLM"),
    "Vicuna": ("llama", "LlamaForCausalLM"),
    "Orca mini": ("llama", "LlamaForCausalLM"),
    "WizardLM": ("llama", "LlamaForCausalLM"),
    "Mistral": ("mistral", "MistralForCausalLM"),
    "Mixtral": ("mixtral", "MixtralForCausalLM"),
    "Falcon": ("falcon", "FalconForCausalLM"),
    "first Falcon": ("RefinedWebModel", "FalconForCausalLM"),
    "StarCoder": ("gpt_bigcode", "GPTBigCodeForCausalLM"),
    "StarCoder 2": ("starcoder2", "Starcoder2ForCausalLM"),
    "BLOOM": ("bloom", "BloomForCausalLM"),
    "GPT-2": ("gpt2", "GPT2LMHeadModel"),
    "GPT-J": ("gptj", "GPTJForCausalLM"),
    "GPT-NeoX": ("gpt_neox", "GPTNeoXForCausalLM"),
    "gpt-oss": ("gpt_oss", "GptOssForCausalLM"),
    "Qwen 2": ("qwen2", "Qwen2ForCausalLM"),
    "Qwen 3": ("qwen3", "Qwen3ForCausalLM"),
    "Qwen 3 MoE": ("qwen3_moe", "Qwen3MoeForCausalLM"),
    "Gemma": ("gemma", "GemmaForCausalLM"),
    "Gemma 2": ("gemma2", "Gemma2ForCausalLM"),
    "Gemma 3": ("gemma3_text", "Gemma3ForCausalLM"),
    "Phi 2": ("phi", "PhiForCausalLM"),
    "Phi 3": ("phi3", "Phi3ForCausalLM"),
}
"""Families that both engines run, as `config.json` names them. OPT has a test of its own."""

VLLM_RUNS = sorted({name for _, name in FAMILIES.values()} | {"OPTForCausalLM"})


def checkpoint(model_type: str, name: str) -> Inspection:
    """Return what a checkpoint says of itself, as far as it matters here."""
    return Inspection(
        architecture=model_type,
        parameter_count=1,
        active_parameter_count=1,
        quantization="BF16",
        bits_per_weight=16.0,
        bytes_by_type={},
        training_context_length=2048,
        vocabulary_size=32000,
        has_chat_template=False,
        template_supports=(),
        embeds_only=False,
        modalities=("text",),
        title="",
        lineage=Lineage(),
        licence=LicenceWords(),
        tokenizer_sha256="",
        template_sha256="",
        classes=(name,),
    )


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a program that answers like a Python with vLLM, after some lines of its log."""
    path = tmp_path_factory.mktemp("python") / "python"
    path.write_text(f"#!/bin/sh\necho INFO starting\necho '{json.dumps(VLLM_RUNS)}'\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
async def known(tmp_path: Path, python: str) -> Architectures:
    """Return what both engines say, llama.cpp really."""
    known = Architectures(tmp_path / "architectures.json")
    assert await known.learn(llama_availability(), VLLM, python)
    return known


async def test_every_architecture_of_the_table_but_opt_is_llama_cpps() -> None:
    names = set(await questions.ask("architectures", list[str]))
    assert set(GGUF_NAMES.values()) - names == {"opt"}


async def test_each_family_resolves_to_both_engines(known: Architectures) -> None:
    for model_type, name in FAMILIES.values():
        found = checkpoint(model_type, name)
        assert known.problem("m", found, llama_availability(), VLLM) is None
        error = known.problem("m", found, llama_availability(), NO_VLLM)
        assert isinstance(error, EngineMissing)
        assert error.message.endswith("take a GGUF file instead.")


async def test_opt_is_vllms_alone(known: Architectures) -> None:
    found = checkpoint("opt", "OPTForCausalLM")
    assert known.problem("m", found, llama_availability(), VLLM) is None
    error = known.problem("m", found, llama_availability(), NO_VLLM)
    assert isinstance(error, EngineMissing)
    assert error.message == (
        "vLLM is not installed. And llama.cpp does not know opt, so no GGUF file would do."
    )


async def test_what_vllm_does_not_run_is_said_with_what_does(known: Architectures) -> None:
    mamba = known.problem("m", checkpoint("mamba", "MambaForCausalLM"), llama_availability(), VLLM)
    assert isinstance(mamba, UnsupportedModel)
    assert "MambaForCausalLM (mamba), which vLLM 0.32.0 does not run" in mamba.message
    assert "llama.cpp runs it: take a GGUF file" in mamba.message
    new = known.problem("m", checkpoint("newest", "NewestForCausalLM"), llama_availability(), VLLM)
    assert isinstance(new, UnsupportedModel)
    assert new.message.endswith("A newer vLLM may.")
    embedder = replace(checkpoint("newest", "NewestModel"), embeds_only=True)
    assert known.problem("m", embedder, llama_availability(), VLLM) is None


async def test_each_version_is_asked_once(tmp_path: Path, known: Architectures) -> None:
    llama = llama_availability()
    for again in (known, Architectures(tmp_path / "architectures.json")):
        assert not await again.learn(llama, VLLM, "/nowhere")
    newer = replace(VLLM, version="0.33.0")
    found = checkpoint("mamba", "MambaForCausalLM")
    assert known.problem("m", found, llama, newer) is None  # it may run that
    assert await known.learn(llama, newer, "/nowhere")
    assert known.problem("m", found, llama, newer) is None
    # One that would not say it is not asked again by this daemon, and is by the next.
    assert not await known.learn(llama, newer, "/nowhere")
    assert await Architectures(tmp_path / "architectures.json").learn(llama, newer, "/nowhere")


async def test_a_damaged_file_is_as_none(tmp_path: Path, python: str) -> None:
    (tmp_path / "architectures.json").write_text('{"llama": 3}')
    known = Architectures(tmp_path / "architectures.json")
    assert await known.learn(llama_availability(), VLLM, python)
