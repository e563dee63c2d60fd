from __future__ import annotations

import json

from e2e.conftest import Machine
from potluck_tui.welcome import EXAMPLES


def test_without_a_terminal_the_starter_model_answers_and_says_who_and_why(
    machine: Machine,
) -> None:
    result = machine.potluck()
    assert result.returncode == 0, result.stderr
    question, *answer, origin = result.stdout.split("\n\n")[1:]
    assert question.startswith("> ")
    assert len(" ".join(answer).split()) > 5
    assert "potluck-starter" in origin
    assert "tokens/s" in origin


def test_the_starter_model_knows_what_newcomers_are_told_to_ask(machine: Machine) -> None:
    known = ("models folder", "divide by eight", "fewer bits", "potluck join", "TLS")
    questions = (*EXAMPLES, "How do I add another machine?", "Is it secure?")
    for question, words in zip(questions, known, strict=True):
        assert words in machine.potluck("ask", question).stdout


def test_ask_streams_the_answer_to_stdout_and_its_origin_to_stderr(machine: Machine) -> None:
    result = machine.potluck("ask", "What is quantization?")
    assert result.returncode == 0, result.stderr
    assert "bit" in result.stdout
    assert "potluck-starter" in result.stderr
    assert "potluck-starter" not in result.stdout


def test_ask_reads_what_is_piped_after_what_is_typed(machine: Machine) -> None:
    machine.add_fake_model("echo")
    result = machine.potluck("ask", "-m", "echo", "Shorten this:", typed="one two three\n")
    assert result.returncode == 0, result.stderr
    assert "Shorten this:\n\none two three" in result.stdout


def test_ask_prints_all_of_it_as_json(machine: Machine) -> None:
    result = machine.potluck("ask", "--json", "-t", "0", "Hello!")
    answer = json.loads(result.stdout)
    assert answer["model"] == "potluck-starter"
    assert answer["answer"]
    assert answer["node"]
    assert answer["reason"]
    assert answer["end"] == "end_of_turn"
    assert answer["completion_tokens"] > 0


def test_explain_shows_the_decision_for_now_with_every_node(machine: Machine) -> None:
    cold = machine.potluck("explain", "potluck-starter")
    assert cold.returncode == 0, cold.stderr
    assert "would go to" in cold.stdout
    assert "chosen" in cold.stdout
    assert all(len(line) <= 80 for line in cold.stdout.splitlines())
    assert machine.potluck("ask", "Hi").returncode == 0
    warm = json.loads(machine.potluck("explain", "potluck-starter", "--json").stdout)
    assert warm["explanation"]["step"] == "PLACEMENT_STEP_WARM"
    long = machine.potluck("explain", "potluck-starter", "--context", "100000")
    assert long.returncode == 1
    assert "Up to 2,048 tokens would work" in " ".join(long.stdout.split())


def test_nodes_models_and_status_say_what_there_is(machine: Machine) -> None:
    assert "does not run" in machine.potluck("status").stdout
    nodes = json.loads(machine.potluck("nodes", "--json").stdout)["nodes"]
    assert [node["health"] for node in nodes] == ["NODE_HEALTH_READY"]
    assert int(nodes[0]["state"]["devices"][0]["memory_free_bytes"]) > 0
    models = json.loads(machine.potluck("models", "--json").stdout)["models"]
    assert [model["description"]["name"] for model in models] == ["potluck-starter"]
    assert models[0]["is_default"]
    status = json.loads(machine.potluck("status", "--json").stdout)
    assert status["scheduler"]["process_id"]
    assert status["worker"]["process_id"]
    assert status["pool"]["nodes_ready"] == 1


def test_up_and_down_start_and_stop_what_runs_here(machine: Machine) -> None:
    started = json.loads(machine.potluck("up", "--json").stdout)
    assert {name: state["started"] for name, state in started.items()} == {
        "scheduler": True,
        "worker": True,
    }
    assert started["worker"]["addresses"] == [f"unix:{machine.home.worker_socket}"]
    again = machine.potluck("up").stdout
    assert again.splitlines() == ["scheduler: runs already", "worker: runs already"]
    assert machine.potluck("ask", "Hi").returncode == 0
    assert json.loads(machine.potluck("down", "--json").stdout) == {
        "scheduler": "stopped",
        "worker": "stopped",
    }
    assert not machine.processes()


def test_two_homes_are_two_pools(machine: Machine) -> None:
    other = Machine(type(machine.home)(machine.home.root.parent / "other"))
    other.add_fake_model("only-here")
    try:
        assert machine.potluck("ask", "Hi").returncode == 0
        assert other.potluck("ask", "-m", "only-here", "Hi").returncode == 0
        refused = machine.potluck("ask", "-m", "only-here", "Hi")
        assert refused.returncode == 1
        nodes = json.loads(machine.potluck("nodes", "--json").stdout)["nodes"]
        assert len(nodes) == 1
    finally:
        assert other.potluck("down").returncode == 0


def test_what_a_model_takes_is_said_with_what_would_fit(machine: Machine) -> None:
    machine.add_fake_model("giant", memory_bytes=2**20, token_bytes=2**30, context_length=4096)
    fits = machine.potluck("fit", "potluck-starter", "--context", "512", "--slots", "2")
    assert fits.returncode == 0, fits.stderr
    assert "potluck-starter:Q8_0 fits." in fits.stdout
    assert "context 512, 2 at once" in fits.stdout
    assert max(map(len, fits.stdout.splitlines())) <= 80
    giant = machine.potluck("fit", "giant", "--json")
    assert giant.returncode == 1, giant.stderr
    (node,) = json.loads(giant.stdout)["nodes"]
    assert "fits" not in node["fit"]
    assert int(node["fit"]["devices"][0]["kv_cache_bytes"]) == 4 * 4096 * 2**30
