from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from checkpoints import CONTROL, Shape, make_embedder, make_llama, make_opt, write_safetensors
from potluck_proto.errors import ModelFileError, PotluckError, UnsupportedModel
from potluck_worker.engines.vllm import memory
from potluck_worker.engines.vllm.checkpoint import Checkpoint

SHAPE = Shape(layers=3, width=64, hidden=96, heads=4, kv_heads=2, vocabulary=300)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_llama(tmp_path / "model", SHAPE)


def change(folder: Path, name: str = "config.json", **values: object) -> None:
    """Change what a JSON file of a checkpoint says; `None` leaves it out."""
    path = folder / name
    said = json.loads(path.read_text()) if path.exists() else {}
    kept = {key: value for key, value in (said | values).items() if value is not None}
    path.write_text(json.dumps(kept))


def weights(layers: int, width: int, hidden: int, vocabulary: int, kv_width: int) -> int:
    """Return the parameters of a Llama by the usual formula."""
    layer = 2 * width * (width + kv_width) + 3 * width * hidden + 2 * width
    return layers * layer + 2 * vocabulary * width + width


def test_a_checkpoint_says_what_it_is(folder: Path) -> None:
    checkpoint = Checkpoint.read(folder)
    assert checkpoint.architecture == "llama"
    assert checkpoint.scheme == "BF16"
    assert checkpoint.parameter_count == weights(3, 64, 96, 300, 32)
    assert checkpoint.file_bytes == 2 * checkpoint.parameter_count
    assert checkpoint.training_context_length == SHAPE.context_length
    assert "<|assistant|>" in checkpoint.template
    assert not checkpoint.embeds


def test_its_memory_follows_from_layers_heads_and_tokens(folder: Path) -> None:
    checkpoint = Checkpoint.read(folder)
    assert memory.weights_bytes(checkpoint, None) == checkpoint.file_bytes
    head_bytes = 2 * SHAPE.vocabulary * SHAPE.width
    assert memory.weights_bytes(checkpoint, 1) == checkpoint.file_bytes + head_bytes
    assert memory.kv_bytes_per_token(checkpoint) == 3 * 2 * 2 * 16 * 2
    pages = 1000 // 32 + 1 + 4
    assert memory.kv_cache_bytes(checkpoint, 1000, 4) == pages * 32 * 384
    change(folder, num_key_value_heads=None)
    assert memory.kv_bytes_per_token(Checkpoint.read(folder)) == 3 * 2 * 4 * 16 * 2
    change(folder, head_dim=32)
    assert memory.kv_bytes_per_token(Checkpoint.read(folder)) == 3 * 2 * 4 * 32 * 2
    change(folder, kv_lora_rank=40, qk_rope_head_dim=8)
    assert memory.kv_bytes_per_token(Checkpoint.read(folder)) == 3 * 48 * 2


def test_a_step_on_a_processor_is_as_long_for_a_large_model_as_for_a_small(folder: Path) -> None:
    small = Checkpoint.read(folder)
    assert memory.step_tokens(small, 512, 4, 1) == memory.BATCH_TOKENS
    change(folder, quantization_config={"quant_method": "awq", "bits": 4})
    large = Checkpoint(small.folder, small.config, "", [*small.tensors] * 4000, {}, "", "")
    assert large.parameter_count > 4e8
    assert memory.step_tokens(large, 512, 4, 1) == memory.CPU_BATCH_TOKENS
    assert memory.CPU_BATCH_TOKENS < memory.step_tokens(large, 512, 4, 16) < memory.BATCH_TOKENS
    assert memory.step_tokens(large, 512, 64, 1) == 64
    assert memory.step_tokens(large, 512, 4, None) == memory.BATCH_TOKENS
    assert 0.5 < memory.longest_step_seconds(large, 32, 1) < 2
    assert memory.longest_step_seconds(large, 32, None) == 0


def test_a_text_is_embedded_in_one_step(tmp_path: Path) -> None:
    embedder = Checkpoint.read(make_embedder(tmp_path / "e", SHAPE))
    assert memory.step_tokens(embedder, 4096, 4, None) == 4096


@pytest.mark.parametrize(
    ("quantization", "scheme"),
    [
        ({"quant_method": "awq", "bits": 4}, "AWQ"),
        ({"quant_method": "gptq", "bits": 8}, "GPTQ-Int8"),
        ({"quant_method": "fp8"}, "FP8"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "BNB"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}}},
            },
            "W4",
        ),
    ],
)
def test_a_quantization_has_the_name_that_people_know(
    folder: Path, quantization: dict[str, object], scheme: str
) -> None:
    change(folder, quantization_config=quantization)
    assert Checkpoint.read(folder).scheme == scheme


def test_a_part_that_speaks_is_found_within_a_model_that_sees(folder: Path) -> None:
    inner = json.loads((folder / "config.json").read_text())
    outer = {"model_type": "seeing", "architectures": ["X"], "text_config": inner}
    (folder / "config.json").write_text(json.dumps(outer))
    checkpoint = Checkpoint.read(folder)
    assert checkpoint.architecture == "seeing"
    assert memory.heads(checkpoint) == 4


def test_what_embeds_is_told_from_what_writes(tmp_path: Path, folder: Path) -> None:
    assert Checkpoint.read(make_embedder(tmp_path / "e", SHAPE)).embeds
    change(folder, architectures=["GPT2LMHeadModel"])
    assert not Checkpoint.read(folder).embeds
    (folder / "modules.json").write_text("[]")
    assert Checkpoint.read(folder).embeds


def test_hashes_are_equal_exactly_where_tokens_and_templates_are(
    tmp_path: Path, folder: Path
) -> None:
    one = Checkpoint.read(folder)
    hashed = one.tokenizer_sha256()
    other = Checkpoint.read(make_opt(tmp_path / "opt", SHAPE))
    assert other.tokenizer_sha256() == hashed != ""
    assert other.template_sha256() == one.template_sha256()
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace(CONTROL[2], "<|other|>"))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    changed = Checkpoint.read(folder)
    assert changed.tokenizer_sha256() != hashed
    assert changed.template == "{{ messages }}"
    assert changed.template_sha256() != one.template_sha256()


def test_a_model_may_have_a_template_for_tools(folder: Path) -> None:
    named = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]
    change(folder, "tokenizer_config.json", chat_template=named)
    checkpoint = Checkpoint.read(folder)
    assert (checkpoint.template, checkpoint.tool_template) == ("a", "b")


def test_the_licence_is_what_the_readme_says(folder: Path) -> None:
    assert Checkpoint.read(folder).inspect().licence.id == ""
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\nlicense: x\n")
    assert Checkpoint.read(folder).inspect().licence.id == "apache-2.0"


def test_weights_may_be_in_several_files(folder: Path) -> None:
    half = {"a": np.zeros((2, 3), np.float32)}
    write_safetensors(folder / "model-00001-of-00002.safetensors", half)
    write_safetensors(folder / "model-00002-of-00002.safetensors", {"b": half["a"]})
    (folder / "model.safetensors").unlink()
    places = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    change(folder, "model.safetensors.index.json", weight_map=places)
    assert Checkpoint.read(folder).parameter_count == 12
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelFileError, match="lacks 1 of its 2 files"):
        Checkpoint.read(folder)


def test_an_index_reaches_no_file_outside_the_folder(folder: Path) -> None:
    change(folder, "model.safetensors.index.json", weight_map={"a": "../../model.safetensors"})
    assert {tensor.name for tensor in Checkpoint.read(folder).tensors} >= {"lm_head.weight"}


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_a_pickle_is_refused_and_not_read(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(ModelFileError, match=rf"{name}\), which can run program code"):
        Checkpoint.read(folder)


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("config.json", b"{", "no JSON"),
        ("config.json", b"[]", "no JSON object"),
        ("config.json", b"[" * 100_000, "no JSON"),
        ("model.safetensors", b"", "no safetensors file"),
        ("model.safetensors", b"\xff" * 64, "no safetensors file"),
        ("model.safetensors", b"\x02" + 7 * b"\0" + b"[]", "damaged"),
        ("model.safetensors", b"\x04" + 7 * b"\0" + b"{}  more", "truncated"),
        ("model.safetensors.index.json", b"{}", "damaged"),
    ],
)
def test_a_broken_file_is_named(folder: Path, name: str, content: bytes, part: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ModelFileError, match=part):
        Checkpoint.read(folder)


@pytest.mark.parametrize("value", ["many", -1, 0, 2**50, True, None])
def test_a_number_that_cannot_be_is_named(folder: Path, value: object) -> None:
    change(folder, num_attention_heads=value)
    with pytest.raises(PotluckError, match="num_attention_heads"):
        memory.heads(Checkpoint.read(folder))


def test_a_model_that_brings_program_code_is_refused(folder: Path) -> None:
    change(folder, architectures=None, auto_map={"AutoModel": "code.Model"})
    with pytest.raises(UnsupportedModel, match="program code"):
        Checkpoint.read(folder)
