"""What both engines run, for tests: llama.cpp says it itself, for vLLM a program answers."""

from __future__ import annotations

import json
from pathlib import Path

from potluck_worker.availability import GGUF_INSTEAD, EngineAvailability

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


def vllm_python(folder: Path) -> str:
    """Make a program that answers like a Python with vLLM, after some lines of its log."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\necho INFO starting\necho '{json.dumps(VLLM_RUNS)}'\n")
    path.chmod(0o755)
    return str(path)
