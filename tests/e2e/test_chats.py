from __future__ import annotations

import json
from pathlib import Path

import pytest

from e2e.conftest import Machine


@pytest.fixture
def chats(machine: Machine) -> dict[str, str]:
    """Two chats, by title, on a machine with a model that repeats what it is told."""
    machine.add_fake_model("echo")
    ids = {}
    for question in ("Bread with yeast", "Wine with sulphur"):
        asked = machine.potluck("ask", "--json", "-m", "echo", question)
        ids[question] = json.loads(asked.stdout)["chat_id"]
    return ids


def test_chats_are_listed_and_searched(machine: Machine, chats: dict[str, str]) -> None:
    listed = machine.potluck("chats")
    header, newest, oldest = listed.stdout.splitlines()
    assert header.split() == ["ID", "CHANGED", "MESSAGES", "TITLE"]
    assert newest.startswith(chats["Wine with sulphur"])
    assert newest.endswith("2         Wine with sulphur")
    assert oldest.endswith("Bread with yeast")
    assert machine.potluck("chats", "--limit", "1").stdout.count("\n") == 4
    archived = machine.potluck("chats", "--archived")
    assert (archived.stdout, archived.stderr) == ("", "No chat is archived.\n")
    as_json = json.loads(machine.potluck("chats", "--json").stdout)
    assert [chat["chat_id"] for chat in as_json["chats"]] == list(chats.values())[::-1]
    found = machine.potluck("chats", "sulph")
    assert found.stdout.splitlines() == [
        f"{chats['Wine with sulphur']}  Wine with sulphur",
        f"{'':16}  You said: Wine with sulphur",
        f"{chats['Wine with sulphur']}  Wine with sulphur",
        f"{'':16}  Wine with sulphur",
    ]
    nothing = machine.potluck("chats", "nothing")
    assert (nothing.returncode, nothing.stdout) == (1, "")
    hits = json.loads(machine.potluck("chats", "--json", "yeast").stdout)["hits"]
    assert {hit["chat_id"] for hit in hits} == {chats["Bread with yeast"]}


def test_a_chat_is_exported_by_id_by_its_beginning_and_by_title(
    machine: Machine, chats: dict[str, str], tmp_path: Path
) -> None:
    chat_id = chats["Bread with yeast"]
    printed = machine.potluck("export", chat_id).stdout
    assert printed.startswith("# Bread with yeast\n\n## You\n\nBread with yeast\n\n## echo\n")
    file = tmp_path / "bread.md"
    assert machine.potluck("export", "bread", "-o", str(file)).returncode == 0
    assert file.read_text() == printed
    as_json = json.loads(machine.potluck("export", chat_id[:8], "--format", "json").stdout)
    contents = [message["content"] for message in as_json["messages"]]
    assert contents == ["Bread with yeast", "You said: Bread with yeast"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["export", "nothing of the kind"], "No chat's title holds 'nothing of the kind'"),
        (["export", "with"], "'with' fits several chats: "),
        (["export", "bread", "-o", "/proc/nowhere/x"], "There is no folder /proc/nowhere: make it"),
        (["export", "bread", "-o", "/proc/x"], "/proc/x cannot be written"),
        (["chats", "--limit", "0"], "--limit cannot be 0; it is 1 or more."),
    ],
)
def test_what_cannot_be_exported_is_said_in_a_sentence(
    machine: Machine, chats: dict[str, str], arguments: list[str], words: str
) -> None:
    assert chats
    refused = machine.potluck(*arguments)
    assert refused.returncode == 1
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr
