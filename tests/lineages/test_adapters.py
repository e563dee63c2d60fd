"""LoRA adapters: as good as merged weights, and refused in words where they do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.asking import AMPLE
from engines.test_engine_host import host
from lineages.adapters import make_adapter, make_merged
from lineages.conftest import Files
from lineages.engines import CONTEXT_LENGTH, answers, check_same, greedy, loaded
from lineages.gguf_file import write
from lineages.kinds import LINEAGES, llama
from lineages.make import Shape
from lineages.test_embedding import embed
from potluck_proto.errors import ModelFileError, PotluckError, UnsupportedModel
from potluck_proto.v1 import types_pb2 as types
from potluck_worker.engines.base import Finished, Load, Loaded, LoadFailed
from potluck_worker.engines.llama.engine import LlamaEngine
from potluck_worker.engines.sizing import Options, Question
from potluck_worker.inspect_host import describe

PROMPTS = ["the house and the computer", "Which model has the answer?", "a b c " * 30]


@pytest.mark.parametrize("name", ["llama", "falcon", "gemma3", "qwen3moe", "falcon-h1"])
def test_a_model_with_an_adapter_says_what_the_merged_one_says(
    files: Files, tmp_path: Path, name: str
) -> None:
    adapter, merged = tmp_path / "adapter.gguf", tmp_path / "merged.gguf"
    make_adapter(adapter, LINEAGES[name])
    make_merged(merged, LINEAGES[name])
    with loaded(files(name)) as plain, loaded(merged) as whole:
        unchanged = answers(plain, PROMPTS)
        expected, vector = answers(whole, PROMPTS), embed(whole, PROMPTS[0])
    with loaded(files(name), adapters=[adapter]) as adapted:
        found = answers(adapted, PROMPTS)
        near = embed(adapted, PROMPTS[0])
    check_same(expected, found)
    first, same = expected[0].logprobs[0].logprobs, found[0].logprobs[0].logprobs
    np.testing.assert_allclose(same, first, atol=1e-3)
    np.testing.assert_allclose(near, vector, atol=1e-3)
    assert [one.token_ids for one in unchanged] != [one.token_ids for one in expected]


def test_an_adapter_counts_as_weights_and_scratch_memory_counts_once(
    files: Files, tmp_path: Path
) -> None:
    make_adapter(tmp_path / "adapter.gguf", LINEAGES["llama"])
    found = []
    for adapters in ([], [str(tmp_path / "adapter.gguf")]):
        engine = LlamaEngine()
        load = Load(str(files("llama")), CONTEXT_LENGTH, 2, threads=1, lora_adapters=adapters)
        found.append(engine.load(load))
        engine.close()
    plain, adapted = found
    assert plain.weights_bytes < adapted.weights_bytes < plain.weights_bytes + 100_000
    assert adapted.compute_bytes == pytest.approx(plain.compute_bytes, rel=0.1)


def damaged(folder: Path, kind: str) -> Path:
    """Return an adapter that does not fit the lineage of llama."""
    path = folder / f"{kind}.gguf"
    match kind:
        case "foreign":
            make_adapter(path, LINEAGES["qwen3"])
        case "larger":
            make_adapter(path, llama(Shape(width=128)))
        case "deeper":
            make_adapter(path, llama(Shape(layers=3)))
        case "half":
            make_adapter(path, LINEAGES["llama"])
            path.write_bytes(path.read_bytes()[:-100])
        case "untyped":
            write(path, "llama", {"general.type": "adapter"}, [])
    return path


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        (
            "foreign",
            UnsupportedModel,
            "foreign.gguf is an adapter for models of the architecture 'qwen3'; llama is 'llama'",
        ),
        (
            "larger",
            UnsupportedModel,
            "larger.gguf is an adapter for another 'llama' model than llama",
        ),
        (
            "deeper",
            UnsupportedModel,
            "deeper.gguf is an adapter for another 'llama' model than llama",
        ),
        ("half", ModelFileError, "half.gguf cannot be applied to llama"),
        ("untyped", ModelFileError, "untyped.gguf cannot be applied to llama"),
        ("missing", ModelFileError, "missing.gguf cannot be read"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_by_name(
    files: Files, tmp_path: Path, kind: str, error: type[PotluckError], message: str
) -> None:
    path = damaged(tmp_path, kind)
    with pytest.raises(error, match=message), loaded(files("llama"), adapters=[path]):
        pass


def test_a_model_is_no_adapter(files: Files) -> None:
    refused = pytest.raises(ModelFileError, match=r"llama\.gguf is no LoRA adapter.*is a model")
    with refused, loaded(files("llama"), adapters=[files("llama")]):
        pass


@pytest.mark.parametrize(
    ("kind", "message"), [("adapter", "a LoRA adapter, for 'llama' models"), ("clip", "pictures")]
)
def test_what_belongs_to_a_model_is_no_model(tmp_path: Path, kind: str, message: str) -> None:
    path = tmp_path / "part.gguf"
    if kind == "adapter":
        make_adapter(path, LINEAGES["llama"])
    else:
        write(path, "clip", {"general.type": "mmproj", "clip.has_vision_encoder": True}, [])
    with pytest.raises(UnsupportedModel, match=message):
        describe(Question(str(path), Options(CONTEXT_LENGTH, 1, "f16"), AMPLE))


def test_a_child_applies_an_adapter_or_says_why_not(files: Files, tmp_path: Path) -> None:
    make_adapter(tmp_path / "good.gguf", LINEAGES["llama"])
    bad = damaged(tmp_path, "foreign")
    with host("llama") as child:
        adapters = [str(tmp_path / "good.gguf")]
        child.send(Load(str(files("llama")), CONTEXT_LENGTH, 1, lora_adapters=adapters))
        child.until(Loaded)
        child.send(greedy("the house"))
        end = child.until(Finished)
        assert isinstance(end, Finished)
        assert end.reason == "max_tokens"
    with host("llama") as child:
        child.send(Load(str(files("llama")), CONTEXT_LENGTH, 1, lora_adapters=[str(bad)]))
        refused = child.until(LoadFailed)
        assert isinstance(refused, LoadFailed)
        assert refused.failure.code == types.ERROR_CODE_UNSUPPORTED_MODEL
        assert child.process.wait(10) == 1
