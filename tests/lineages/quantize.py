"""Makes a model of every quantization: `python -m lineages.quantize FOLDER`.

llama.cpp quantizes, in a process of its own, since it aborts where it cannot.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

from gguf import GGMLQuantizationType as Kind
from gguf import LlamaFileType as FileType
from llama_cpp import llama_cpp as api

from lineages.gguf_file import write
from lineages.kinds import llama
from lineages.make import Lineage, Shape, make, metadata, tensors

LINEAGE = llama(Shape(layers=1, width=256, hidden=256, context_length=256))
"""Its rows are as long as the largest blocks of a quantization."""

SEARCHED = {
    "IQ2_XXS": (FileType.MOSTLY_IQ2_XXS, Kind.IQ2_XXS),
    "IQ2_XS": (FileType.MOSTLY_IQ2_XS, Kind.IQ2_XS),
    "IQ2_S": (FileType.MOSTLY_IQ2_S, Kind.IQ2_S),
    "IQ2_M": (FileType.MOSTLY_IQ2_M, Kind.IQ2_S),
    "IQ3_XXS": (FileType.MOSTLY_IQ3_XXS, Kind.IQ3_XXS),
}
"""What llama.cpp searches blocks for, for seconds; these files are made without it."""

MADE = {
    "F32": FileType.ALL_F32,
    **{
        kind.name.removeprefix("MOSTLY_"): kind
        for kind in FileType
        if kind.name.startswith("MOSTLY_")
    },
}
# Less than two bits; and what this llama.cpp reads, but does not make.
for name in (*SEARCHED, "IQ1_S", "IQ1_M", "Q1_0", "NVFP4"):
    del MADE[name]

NAMES = {"MXFP4_MOE": "MXFP4"}
"""What people call a quantization, where it is not what llama.cpp calls the file."""


def make_all(folder: Path) -> None:
    """Write a file for each quantization; each is named as people call it."""
    base = folder / "base.gguf"
    make(base, LINEAGE)
    importance = _equal_importance(LINEAGE)
    for name, kind in MADE.items():
        parameters = api.llama_model_quantize_default_params()
        parameters.nthread, parameters.ftype = 1, int(kind)
        parameters.imatrix = importance
        path = folder / f"{NAMES.get(name, name)}.gguf"
        if api.llama_model_quantize(bytes(base), bytes(path), ctypes.byref(parameters)) != 0:
            raise SystemExit(f"llama.cpp makes no {name}")
    for name, (kind, block) in SEARCHED.items():
        said = metadata(LINEAGE, name) | {"general.file_type": int(kind)}
        write(folder / f"{name}.gguf", LINEAGE.architecture, said, tensors(LINEAGE, block))


def _equal_importance(lineage: Lineage) -> Any:
    """Return that each column of each matrix counts the same."""
    matrices = {name: shape[-1] for name, shape in lineage.layout.items() if len(shape) > 1}
    rows = [
        api.llama_model_imatrix_data(
            name.encode(), (ctypes.c_float * columns)(*[1.0] * columns), columns
        )
        for name, columns in matrices.items()
    ]
    return (api.llama_model_imatrix_data * (len(rows) + 1))(*rows)


if __name__ == "__main__":
    make_all(Path(sys.argv[1]))
