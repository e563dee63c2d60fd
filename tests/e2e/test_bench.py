from __future__ import annotations

import json

from e2e.conftest import Machine


def test_the_model_that_comes_along_is_measured_and_known_from_then_on(machine: Machine) -> None:
    done = machine.potluck("bench", "potluck-starter", "--json")
    assert done.returncode == 0, done.stderr
    *steps, last = map(json.loads, done.stdout.splitlines())
    assert steps[0]["progress"] == {}
    assert any(step["progress"].get("tokens") for step in steps)
    benchmark = last["benchmark"]
    print(benchmark)
    assert [level["streams"] for level in benchmark["levels"]][:2] == [1, 2]
    for level in benchmark["levels"]:
        assert level["decode_tokens_per_second"] > 1
        assert level["prefill_tokens_per_second"] > 1
        assert 0 < level["time_to_first_token_seconds"] < 30
    assert int(benchmark["memory_bytes"]) > 2**20
    (model,) = json.loads(machine.potluck("models", "--json").stdout)["models"]
    assert model["benchmarks"] == [benchmark]
