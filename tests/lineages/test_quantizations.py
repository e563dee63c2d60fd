"""Every quantization that files come in, from two bits for a weight to 32."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

from engines.asking import AMPLE
from lineages.engines import answers, loaded
from lineages.quantize import MADE, NAMES, SEARCHED
from lineages.test_embedding import embed
from potluck_worker.engines.sizing import Options, Question
from potluck_worker.inspect_host import describe

QUANTIZATIONS = [NAMES.get(name, name) for name in (*MADE, *SEARCHED)]

TEXT = "the house and the computer"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantizations")
    tests = Path(__file__).resolve().parents[1]
    result = subprocess.run(
        [sys.executable, "-m", "lineages.quantize", str(folder)],
        cwd=tests,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return folder


@pytest.mark.parametrize("name", QUANTIZATIONS)
def test_its_name_and_bits_are_right_and_it_answers(folder: Path, name: str) -> None:
    path = folder / f"{name}.gguf"
    found = describe(Question(str(path), Options(256, 1, "f16"), AMPLE)).inspection
    tensors = gguf.GGUFReader(path).tensors
    weights = sum(int(tensor.n_elements) for tensor in tensors)
    size_bytes = sum(int(tensor.n_bytes) for tensor in tensors)
    assert found.quantization == name
    assert found.parameter_count == weights
    assert found.bits_per_weight == pytest.approx(8 * size_bytes / weights)
    with loaded(folder / "F32.gguf", 1) as whole, loaded(path, 1) as quantized:
        (outcome,) = answers(quantized, [TEXT], 8)
        nearness = float(embed(whole, TEXT)[0] @ embed(quantized, TEXT)[0])
    assert len(outcome.token_ids) == 8
    assert np.isfinite(outcome.logprobs[-1].logprobs).all()
    if found.bits_per_weight > 4.2:
        least = 0.99 if found.bits_per_weight > 8 else 0.8
        assert nearness > least, "it means what the weights meant before"
