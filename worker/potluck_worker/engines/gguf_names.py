"""What architectures are called: in `config.json` beside safetensors, and in GGUF files.

Which of them an engine runs, the engine itself is asked: see `potluck_worker.architectures`.
"""

from __future__ import annotations

from collections.abc import Mapping

GGUF_NAMES: Mapping[str, str] = {
    **{
        name: name
        for name in (
            *("apertus", "arcee", "arctic", "baichuan", "bert", "bitnet", "bloom", "chameleon"),
            *("chatglm", "cohere2", "dbrx", "deepseek", "ernie4_5", "exaone", "exaone4", "falcon"),
            *("gemma", "gemma2", "gemma3", "gemma3n", "gpt2", "gptj", "granite", "granitemoe"),
            *("grok", "jais"),
            *("internlm2", "jamba", "lfm2", "llama", "llama4", "mamba", "mamba2", "minicpm"),
            *("minicpm3", "mpt", "nemotron", "olmo", "olmo2", "olmoe", "openelm", "opt", "orion"),
            *("phi3", "phimoe", "plamo", "qwen", "qwen2", "qwen3", "refact", "seed_oss", "smollm3"),
            *("stablelm", "starcoder2", "t5", "xverse"),
        )
    },
    "RefinedWeb": "falcon",
    "RefinedWebModel": "falcon",
    "cohere": "command-r",
    "deepseek_v2": "deepseek2",
    "deepseek_v3": "deepseek2",
    "falcon_h1": "falcon-h1",
    "gemma3_text": "gemma3",
    "glm4_moe": "glm4moe",
    "gpt_bigcode": "starcoder",
    "gpt_neox": "gptneox",
    "gpt_oss": "gpt-oss",
    "granitemoehybrid": "granitehybrid",
    "hunyuan_v1_dense": "hunyuan-dense",
    "mistral": "llama",
    "mixtral": "llama",
    "nomic_bert": "nomic-bert",
    "phi": "phi2",
    "qwen2_moe": "qwen2moe",
    "qwen2_vl": "qwen2vl",
    "qwen3_moe": "qwen3moe",
    "qwen3_next": "qwen3next",
    "roberta": "bert",
    "xlm-roberta": "bert",
}
"""By the `model_type` of `config.json`, what a GGUF file of the model would call it: as llama.cpp's
converter has it (llama-cpp-python 0.3.36)."""
