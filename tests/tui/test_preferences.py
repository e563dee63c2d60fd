from __future__ import annotations

from pathlib import Path

import pytest

from potluck_tui.preferences import Colours, Notice, Preferences, Switch, read

WRONG = [
    ("theme = 3", "terminal.theme cannot be 3; it must be a text."),
    ("colours = 8", "terminal.colours cannot be 8; it is one of auto, 16, 256, truecolor."),
    ('ascii = "perhaps"', "terminal.ascii cannot be 'perhaps'; it is one of auto, on, off."),
    ('read_only = "yes"', "terminal.read_only cannot be 'yes'; it must be true or false."),
    ("notify_after_seconds = -1", "it must be a number of seconds, 0 or more."),
    ("notify_after_seconds = true", "it must be a number of seconds, 0 or more."),
    ('keys = "vim"', "it must be a table of ids and keys"),
    ('keys = {"chat.new" = 3}', "it must be a table of ids and keys"),
    ("colors = 16", "there is no option terminal.colors; did you mean 'colours'?"),
    ("zoom = 2", "there is no option terminal.zoom; known: theme, colours, ascii"),
]


def written(folder: Path, table: str) -> Path:
    file = folder / "settings.toml"
    file.write_text(f"[terminal]\n{table}\n")
    return file


def test_no_file_is_no_problem(tmp_path: Path) -> None:
    found = read(tmp_path / "settings.toml")
    assert found.preferences == Preferences()
    assert not found.problems


def test_every_option_can_be_chosen(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        'theme = "nord"\ncolours = 256\nascii = true\nssh_profile = "off"\nread_only = true\n'
        'notify = "osc9"\nnotify_after_seconds = 3\n[terminal.keys]\n"chat.new" = "ctrl+e"',
    )
    found = read(file)
    assert not found.problems
    assert found.preferences == Preferences(
        theme="nord",
        colours=Colours.TWO_HUNDRED_FIFTY_SIX,
        ascii=Switch.ON,
        ssh_profile=Switch.OFF,
        read_only=True,
        notify=Notice.OSC9,
        notify_after_seconds=3.0,
        keys={"chat.new": "ctrl+e"},
    )


@pytest.mark.parametrize(("table", "words"), WRONG, ids=[table for table, _ in WRONG])
def test_what_cannot_be_is_said_and_the_rest_taken(tmp_path: Path, table: str, words: str) -> None:
    found = read(written(tmp_path, f'notify = "none"\n{table}'))
    assert found.preferences == Preferences(notify=Notice.NONE)
    (problem,) = found.problems
    assert words in problem


@pytest.mark.parametrize("content", ["[terminal = 3", "\xff", "terminal = 3"])
def test_a_broken_file_means_the_defaults_and_a_sentence_that_says_where(
    tmp_path: Path, content: str
) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(b"theme = 1\n" + content.encode("latin-1"))
    found = read(file)
    assert found.preferences == Preferences()
    (problem,) = found.problems
    assert "settings.toml" in problem
    assert ("line 2, column 11), in `[terminal = 3`." in problem) == (content == "[terminal = 3")


def test_a_mistake_is_said_with_its_line_where_that_is_seen_easily(tmp_path: Path) -> None:
    (problem,) = read(written(tmp_path, "\nasci = true")).problems
    assert (
        "settings.toml, line 3: there is no option terminal.asci; did you mean 'ascii'?" in problem
    )
    (problem,) = read(written(tmp_path, "theme = 'nord'\ncolours = 8")).problems
    assert "settings.toml, line 3: terminal.colours cannot be 8" in problem
    file = tmp_path / "settings.toml"
    file.write_text("terminal.asci = true\n")
    (problem,) = read(file).problems
    assert "settings.toml: there is no option terminal.asci" in problem
