from __future__ import annotations

import pytest
from pydantic import ValidationError

from potluck_worker.engines.sizing import Options
from potluck_worker.settings import ModelSettings, WorkerSettings


def test_a_model_without_a_table_is_held_as_all_are() -> None:
    wanted = WorkerSettings(context_length=1024, slots=2, kv_type="q8_0").wanted("m", "Q4_0")
    assert wanted.options == Options(1024, 2, "q8_0")
    assert (wanted.shorten, wanted.pinned) == (True, False)


def test_a_models_own_table_counts_first_and_the_quantizations_before_the_names() -> None:
    settings = WorkerSettings(
        context_length=1024,
        slots=2,
        models={
            "Qwen3-8B": ModelSettings(slots=8, pinned=True),
            "qwen3-8b:q4_k_m": ModelSettings(context_length=512, gpu_layers=0),
        },
    )
    by_name = settings.wanted("qwen3-8b", "Q8_0")
    assert by_name.options == Options(1024, 8, "f16")
    assert (by_name.shorten, by_name.pinned) == (True, True)
    exact = settings.wanted("qwen3-8b", "Q4_K_M")
    assert exact.options == Options(512, 2, "f16", gpu_layers=0)
    assert (exact.shorten, exact.pinned) == (False, False)


def test_what_vllm_has_no_choice_of_counts_for_it_where_it_is_asked_by_name() -> None:
    settings = WorkerSettings(
        kv_type="q8_0", gpu_layers=3, models={"named": ModelSettings(kv_type="q4_0")}
    )
    assert settings.wanted("any", "BF16", "vllm").options == Options(4096, 4, "f16")
    assert settings.wanted("named", "BF16", "vllm").options == Options(4096, 4, "q4_0")


@pytest.mark.parametrize(
    "values",
    [
        {"kv_type": "q5_1"},
        {"gpu_layers": -1},
        {"context_length": 0},
        {"slots": 65},
        {"models": {"m": {"context": 4}}},
        {"models": {"m": {"slots": 0}}},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        WorkerSettings(**values)  # type: ignore[arg-type]
