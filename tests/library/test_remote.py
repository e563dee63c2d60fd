from __future__ import annotations

import pytest

from potluck_proto.errors import BadRequest, ModelFileError, NotEnoughMemory
from potluck_worker.library.remote import (
    RemoteFile,
    Repository,
    Variant,
    check_repository,
    choose,
    variants,
)

GIB = 2**30


def repository(*names: str, size_bytes: int = GIB) -> Repository:
    return Repository("maker/Model-GGUF", files=[RemoteFile(name, size_bytes) for name in names])


def found(*names: str) -> dict[str, list[str]]:
    return {v.name: [file.name for file in v.files] for v in variants(repository(*names))}


def quantizations(**gibibytes: float) -> list[Variant]:
    files = {name: RemoteFile(f"m-{name}.gguf", int(s * GIB)) for name, s in gibibytes.items()}
    by_size = sorted(files.items(), key=lambda pair: -pair[1].size_bytes)
    return [Variant(name, "gguf", "", [file]) for name, file in by_size]


def test_each_quantization_is_a_variant_and_its_parts_are_one() -> None:
    assert found(
        "README.md",
        "m-Q4_K_M.gguf",
        "m.Q8_0.gguf",
        "m-UD-IQ2_XXS.gguf",
        "m-f16.gguf",
        "BF16/m-BF16-00001-of-00002.gguf",
        "BF16/m-BF16-00002-of-00002.gguf",
        "mmproj-m-f16.gguf",
        "m.imatrix.gguf",
        "m-Q6_K-00001-of-00002.gguf",
    ) == {
        "Q4_K_M": ["m-Q4_K_M.gguf"],
        "Q8_0": ["m.Q8_0.gguf"],
        "IQ2_XXS": ["m-UD-IQ2_XXS.gguf"],
        "F16": ["m-f16.gguf"],
        "BF16": ["BF16/m-BF16-00001-of-00002.gguf", "BF16/m-BF16-00002-of-00002.gguf"],
    }


def test_a_checkpoint_is_a_variant_without_what_is_there_twice() -> None:
    names = ("config.json", "tokenizer.json", "model-00001-of-00001.safetensors", "README.md")
    others = ("consolidated.safetensors", "pytorch_model.bin", "original/params.json", "run.py")
    (files,) = found(*names, *others).values()
    assert sorted(files) == sorted(names)


def test_names_with_tricks_are_passed_over() -> None:
    tricks = ("../evil.gguf", "/etc/x.gguf", "a/../../b.gguf", "a\\b.gguf", "x\x1b.gguf", ".x.gguf")
    assert set(found(*tricks, "good-Q8_0.gguf")) == {"Q8_0"}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["config.json", "pytorch_model.bin"], "pickle"),
        (["README.md"], "no weights"),
        (["model.safetensors"], "no weights"),
    ],
)
def test_what_may_not_be_loaded_is_not_fetched(names: list[str], words: str) -> None:
    with pytest.raises(ModelFileError, match=words):
        variants(repository(*names))


def test_without_a_name_the_best_that_fits_is_meant_and_nothing_wide() -> None:
    there = quantizations(F16=16, Q8_0=8, Q4_K_M=5, Q2_K=3)
    assert choose("r", there, "", 64 * GIB).name == "Q8_0"
    assert choose("r", there, "", 7 * GIB).name == "Q4_K_M"
    assert choose("r", there, "", None).name == "Q8_0"
    with pytest.raises(NotEnoughMemory, match=r"smallest, Q2_K, takes about 3\.8 GiB.*r:Q2_K"):
        choose("r", there, "", GIB)
    assert choose("r", quantizations(F16=1), "", 8 * GIB).name == "F16"


def test_a_quantization_or_a_file_can_be_named() -> None:
    there = quantizations(Q8_0=8, Q4_K_M=5)
    assert choose("r", there, "q4_k_m", 0).name == "Q4_K_M"
    assert choose("r", there, "m-Q8_0.gguf", 0).name == "Q8_0"
    with pytest.raises(BadRequest, match=r"has no 'Q3_K'. It has: Q8_0, Q4_K_M\."):
        choose("r", there, "Q3_K", 0)


@pytest.mark.parametrize(
    "name", ["", "model", "a/b/c", "../x", "a/..", "https://x/y", "a/b?c", "-a/b"]
)
def test_what_cannot_be_a_repository_is_refused(name: str) -> None:
    with pytest.raises(BadRequest, match="MAKER/NAME"):
        check_repository(name)
