from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import POTLUCK, Machine
from e2e.terminal import Terminal
from potluck_proto.daemon import died, running_instance

WORDS = [f"word{number}" for number in range(60)]


@pytest.fixture
def terminal(machine: Machine, short_tmp: Path) -> Iterator[Terminal]:
    machine.home.prepare()
    terminal = Terminal(machine, short_tmp)
    yield terminal
    terminal.close()


def is_ready(screen: str) -> bool:
    return "1 node ready" in screen


def test_a_newcomer_types_one_command_and_chats(terminal: Terminal) -> None:
    terminal.type(str(POTLUCK), "Enter")
    welcome = terminal.until(lambda screen: is_ready(screen) and "starter model" in screen)
    assert "models" in welcome
    terminal.type("What is quantization?", "Enter")
    answered = terminal.until(lambda screen: "tokens/s" in screen)
    assert "bits" in answered
    assert "loaded now" in answered
    assert all(len(line) <= 80 for line in answered.splitlines())
    terminal.type("", "C-q")
    terminal.until(lambda screen: "$ " in screen or "# " in screen)


def test_a_killed_terminal_finds_its_answer_again(machine: Machine, terminal: Terminal) -> None:
    text = " ".join(WORDS)
    machine.add_fake_model("slow", text=text, tokens_per_second=15)
    terminal.type(str(POTLUCK), "Enter")
    terminal.until(is_ready)
    terminal.type("Hello", "Enter")
    terminal.until(lambda screen: "word10" in screen)
    terminal.kill()
    terminal.type(str(POTLUCK), "Enter")
    again = terminal.until(lambda screen: "word10" in screen)
    assert "Hello" in again
    done = terminal.until(lambda screen: "tokens/s" in screen)
    assert [word for word in done.split() if word.startswith("word")] == WORDS


def test_what_was_typed_and_not_sent_is_there_after_a_kill(terminal: Terminal) -> None:
    terminal.type(str(POTLUCK), "Enter")
    terminal.until(is_ready)
    terminal.type("a thought that is not finis")
    terminal.until(lambda screen: "not finis" in screen)
    drafts = Path(terminal.program().environ()["POTLUCK_HOME"]) / "drafts.json"
    terminal.until(lambda _: drafts.exists() and "not finis" in drafts.read_text())
    terminal.kill()
    terminal.type(str(POTLUCK), "Enter")
    terminal.until(lambda screen: is_ready(screen) and "a thought that is not finis" in screen)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_terminal_that_stays_is_given_back_when_its_program_is_ended(
    terminal: Terminal, number: signal.Signals
) -> None:
    terminal.type(str(POTLUCK), "Enter")
    terminal.until(is_ready)
    terminal.type("half a thou")
    terminal.until(lambda screen: "half a thou" in screen)
    terminal.type("ght")
    os.kill(terminal.program().pid, number)
    terminal.until(lambda screen: "half" not in screen and "$ " in screen.replace("# ", "$ "))
    assert not terminal.in_application_mode
    terminal.type("echo ended with $?", "Enter")
    terminal.until(lambda screen: f"ended with {128 + number}" in screen)
    terminal.type(str(POTLUCK), "Enter")
    terminal.until(lambda screen: is_ready(screen) and "half a thou" in screen)


@pytest.mark.parametrize("command", [str(POTLUCK), f"sh -c '{POTLUCK}; exit'"])
def test_a_program_that_is_put_aside_comes_back_as_it_was(terminal: Terminal, command: str) -> None:
    terminal.type(command, "Enter")
    terminal.until(is_ready)
    terminal.type("half a thought")
    terminal.until(lambda screen: "half a thought" in screen)
    terminal.type("", "C-z")
    terminal.until(lambda screen: "Stopped" in screen and "half" not in screen)
    assert not terminal.in_application_mode
    terminal.type("fg", "Enter")
    terminal.until(lambda screen: is_ready(screen) and "> half a thought" in screen)
    terminal.type(" goes on")
    terminal.until(lambda screen: "> half a thought goes on" in screen)


def test_a_program_that_somebody_stops_is_drawn_again_when_it_goes_on(terminal: Terminal) -> None:
    terminal.type(str(POTLUCK), "Enter")
    terminal.until(is_ready)
    os.kill(terminal.program().pid, signal.SIGTSTP)
    terminal.until(lambda screen: "Stopped" in screen)
    terminal.type("fg", "Enter")
    terminal.until(is_ready)


def test_escape_twice_stops_an_answer_and_once_does_not(
    machine: Machine, terminal: Terminal
) -> None:
    machine.add_fake_model("slow", text=" ".join(WORDS), tokens_per_second=15)
    terminal.type(str(POTLUCK), "Enter")
    terminal.until(is_ready)
    terminal.type("Hello", "Enter")
    terminal.until(lambda screen: "word5" in screen)
    terminal.type("", "Escape")
    terminal.until(lambda screen: "word12" in screen)
    terminal.type("", "Escape", "Escape")
    stopped = terminal.until(lambda screen: "Stopped." in screen and "tokens/s" in screen)
    assert WORDS[-1] not in stopped


@pytest.mark.parametrize("name", ["scheduler", "worker"])
def test_a_daemon_that_is_killed_is_started_again_and_the_answer_goes_on(
    machine: Machine, terminal: Terminal, name: str
) -> None:
    machine.add_fake_model("slow", text=" ".join(WORDS), tokens_per_second=8)
    terminal.type(str(POTLUCK), "Enter")
    terminal.until(is_ready)
    terminal.type("Hello", "Enter")
    terminal.until(lambda screen: "word5" in screen)
    instance = running_instance(machine.home, name)
    assert instance is not None
    os.kill(instance["process_id"], signal.SIGKILL)
    terminal.until(lambda screen: f"The {name} of this machine was killed" in screen)
    done = terminal.until(lambda screen: "tokens/s" in screen)
    answer = done.partition("↪")[0]
    assert [word for word in answer.split() if word.startswith("word")] == WORDS


def test_what_was_stopped_on_purpose_stays_so(machine: Machine, terminal: Terminal) -> None:
    terminal.type(str(POTLUCK), "Enter")
    terminal.until(is_ready)
    assert machine.potluck("down").returncode == 0
    terminal.until(lambda screen: "no connection to the scheduler" in screen)
    assert not any(died(machine.home, name) for name in ("scheduler", "worker"))


def test_a_prompt_that_is_sent_while_the_scheduler_is_away_is_answered_when_it_is_back(
    machine: Machine, terminal: Terminal
) -> None:
    machine.add_fake_model("echo")
    terminal.type(str(POTLUCK), "Enter")
    terminal.until(is_ready)
    assert machine.potluck("down").returncode == 0
    terminal.until(lambda screen: "no connection to the scheduler" in screen)
    terminal.type("Hello", "Enter")
    terminal.until(lambda screen: "1 waiting" in screen)
    assert machine.potluck("up").returncode == 0
    terminal.until(lambda screen: "You said: Hello" in screen and "tokens/s" in screen)


def test_a_pasted_log_with_colours_is_text_and_sends_nothing(terminal: Terminal) -> None:
    terminal.type(str(POTLUCK), "Enter")
    terminal.until(is_ready)
    terminal.paste("a \x1b[31mred\nline\x1b[0m\nend")
    pasted = terminal.until(lambda screen: "end" in screen)
    assert "a �[31mred" in pasted
    assert "starter model answers here" in pasted, "nothing was sent"
