from __future__ import annotations

import json
import signal
import subprocess

from e2e.conftest import POTLUCK, Machine


def test_the_model_that_comes_along_is_measured_and_known_from_then_on(machine: Machine) -> None:
    done = machine.potluck("bench", "potluck-starter", "--json")
    assert done.returncode == 0, done.stderr
    *steps, last = map(json.loads, done.stdout.splitlines())
    assert steps[0]["progress"] == {}
    assert any(step["progress"].get("tokens") for step in steps)
    benchmark = last["benchmark"]
    assert [level["streams"] for level in benchmark["levels"]][:2] == [1, 2]
    for level in benchmark["levels"]:
        assert level["decode_tokens_per_second"] > 1
        assert level["prefill_tokens_per_second"] > 1
        assert 0 < level["time_to_first_token_seconds"] < 30
    assert int(benchmark["memory_bytes"]) > 2**20
    (model,) = json.loads(machine.potluck("models", "--json").stdout)["models"]
    assert model["benchmarks"] == [benchmark]


def test_a_measurement_is_ended_by_an_interrupt_and_keeps_nothing(machine: Machine) -> None:
    machine.add_fake_model("slow", tokens_per_second=1.0)
    assert machine.potluck("load", "slow").returncode == 0
    with subprocess.Popen(
        [POTLUCK, "bench", "slow", "--json"],
        env=machine.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that run in the background of a shell would hand on that it is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as measuring:
        assert measuring.stdout is not None
        assert json.loads(measuring.stdout.readline())["progress"] == {}
        measuring.send_signal(signal.SIGINT)
        _, said = measuring.communicate(timeout=30)
    assert measuring.returncode == 130
    assert said.strip() == "Stopped. Nothing of it is kept."
    models = json.loads(machine.potluck("models", "--json").stdout)["models"]
    assert not any("benchmarks" in model for model in models)
