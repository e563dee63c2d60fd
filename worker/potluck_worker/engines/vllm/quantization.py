"""How the weights of a checkpoint are packed, as its `config.json` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PACKED_TYPES = ("I32", "U8")
"""Types of tensors that may hold several weights in each of their numbers."""

BESIDE_PACKED = (
    *("scales", "scale", "scale_inv", "qzeros", "zero_point", "g_idx", "_shape"),
    *("absmax", "quant_map", "bitsandbytes__nf4", "bitsandbytes__fp4"),
)
"""How tensors end that say how packed weights are to be read, and are none themselves."""

_FOUR_BITS = ("mxfp4", "modelopt", "modelopt_fp4")

_SCHEMES = {"bitsandbytes": "BNB", "modelopt": "NVFP4"}
"""Of methods that names of models call otherwise."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """What the files say of it; values are what stands there, of any type."""

    said: Mapping[str, Any]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Quantization:
        """Return what `config.json` says; of weights as they were trained, nothing."""
        found = config.get("quantization_config")
        return cls(found if isinstance(found, dict) else {})

    @property
    def _method(self) -> str:
        return str(self.said.get("quant_method", "")).lower()

    @property
    def bits(self) -> int:
        """Bits of a packed weight, 0 where weights are not packed."""
        if self.said.get("load_in_4bit") or self._method in _FOUR_BITS:
            return 4
        bits = self.said.get("bits", self.said.get("w_bit"))
        if bits is None:
            bits = self._compressed_weights.get("num_bits")
        return bits if isinstance(bits, int) and 0 < bits <= 16 else 0

    @property
    def scheme(self) -> str:
        """Its name, as names of models have it: `AWQ`, `FP8`, `W8`; empty where there is none."""
        if self._method == "gptq":
            return f"GPTQ-Int{self.bits}"
        if self._method == "compressed-tensors":
            kind = "FP" if self._compressed_weights.get("type") == "float" else "W"
            return f"{kind}{self.bits}"
        return _SCHEMES.get(self._method, self._method.upper())

    @property
    def _compressed_weights(self) -> Mapping[str, Any]:
        """What compressed-tensors says of the weights of its first group."""
        groups = self.said.get("config_groups")
        for group in groups.values() if isinstance(groups, dict) else ():
            weights = group.get("weights") if isinstance(group, dict) else None
            if isinstance(weights, dict):
                return weights
        return {}
