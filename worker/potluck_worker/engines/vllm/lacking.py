"""What vLLM has not, in words."""

from __future__ import annotations

from collections.abc import Mapping

from potluck_proto.errors import BadRequest


def require_none_of(lacking: Mapping[str, bool]) -> None:
    """Raise `BadRequest` where something is asked for that vLLM lacks.

    Args:
        lacking: What it lacks, and whether that is asked for.
    """
    if names := [name for name, is_asked in lacking.items() if is_asked]:
        raise BadRequest(
            f"vLLM, which runs this model, has no {' and no '.join(names)}. Leave the option out, "
            "or choose a GGUF model, which llama.cpp runs."
        )
