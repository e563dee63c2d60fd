from __future__ import annotations

import subprocess
import sys

import pytest

from potluck_tui.preferences import Colours, Notice, Preferences, Switch
from potluck_tui.terminal_profile import ColourSystem, TerminalProfile, apply, detect

SSH = {"SSH_CONNECTION": "192.0.2.1 50000 192.0.2.2 22"}


@pytest.mark.parametrize(
    ("environment", "colours"),
    [
        ({"TERM": "xterm-256color"}, ColourSystem.TWO_HUNDRED_FIFTY_SIX),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, ColourSystem.TRUECOLOR),
        ({"TERM": "xterm-256color", "COLORTERM": "24bit"}, ColourSystem.TRUECOLOR),
        ({"TERM": "xterm-kitty"} | SSH, ColourSystem.TRUECOLOR),
        ({"TERM": "xterm-ghostty"} | SSH, ColourSystem.TRUECOLOR),
        ({"TERM": "alacritty"} | SSH, ColourSystem.TRUECOLOR),
        ({"TERM": "foot-extra"} | SSH, ColourSystem.TRUECOLOR),
        ({"TERM": "wezterm"}, ColourSystem.TRUECOLOR),
        ({"TERM": "xterm-direct"}, ColourSystem.TRUECOLOR),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, ColourSystem.TRUECOLOR),
        (
            {"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"},
            ColourSystem.TWO_HUNDRED_FIFTY_SIX,
        ),
        ({"TERM": "xterm-256color", "VTE_VERSION": "7600"}, ColourSystem.TRUECOLOR),
        ({"TERM": "xterm-256color", "VTE_VERSION": "?"}, ColourSystem.TWO_HUNDRED_FIFTY_SIX),
        ({"TERM": "screen", "TMUX": "/x,1,0"}, ColourSystem.TWO_HUNDRED_FIFTY_SIX),
        ({"TERM": "tmux-256color"}, ColourSystem.TWO_HUNDRED_FIFTY_SIX),
        ({"TERM": "xterm"}, ColourSystem.SIXTEEN),
        ({"TERM": "linux"}, ColourSystem.SIXTEEN),
    ],
)
def test_colours_are_found_out(environment: dict[str, str], colours: ColourSystem) -> None:
    assert detect(environment).colours is colours


@pytest.mark.parametrize("variable", ["SSH_CONNECTION", "SSH_TTY"])
def test_ssh_means_fewer_frames_no_animation_no_mouse_and_patience(variable: str) -> None:
    profile = detect({"TERM": "xterm-256color", variable: "something"})
    assert profile.ssh
    assert not profile.mouse
    assert not profile.animations
    environment: dict[str, str] = {}
    apply(profile, environment)
    assert environment == {
        "TEXTUAL_FPS": "20",
        "TEXTUAL_COLOR_SYSTEM": "256",
        "ESCDELAY": "250",
        "TEXTUAL_ANIMATIONS": "none",
        "TEXTUAL_SMOOTH_SCROLL": "0",
    }


def test_at_home_nothing_is_held_back() -> None:
    profile = detect({"TERM": "xterm-kitty"})
    assert (profile.ssh, profile.mouse, profile.animations) == (False, True, True)
    environment: dict[str, str] = {}
    apply(profile, environment)
    assert "TEXTUAL_ANIMATIONS" not in environment


def test_what_the_reader_prefers_counts_more_than_what_the_terminal_suggests() -> None:
    wanted = Preferences(
        colours=Colours.SIXTEEN, ascii=Switch.OFF, ssh_profile=Switch.ON, notify=Notice.NONE
    )
    profile = detect({"TERM": "xterm-kitty", "LANG": "de_DE.ISO-8859-1"}, wanted)
    assert profile.colours is ColourSystem.SIXTEEN
    assert (profile.ssh, profile.mouse, profile.ascii) == (True, False, False)
    assert profile.notice is Notice.NONE
    at_home = detect({"TERM": "xterm"} | SSH, Preferences(ssh_profile=Switch.OFF))
    assert (at_home.ssh, at_home.mouse) == (False, True)


@pytest.mark.parametrize(
    ("environment", "plain"),
    [
        ({}, False),
        ({"LANG": "C"}, False),
        ({"LANG": "C.UTF-8"}, False),
        ({"LANG": "de_DE.utf8@euro"}, False),
        ({"LANG": "de_DE.ISO-8859-1"}, True),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": "ru_RU.KOI8-R"}, True),
    ],
)
def test_a_locale_of_another_encoding_means_ascii(environment: dict[str, str], plain: bool) -> None:
    assert detect({"TERM": "xterm"} | environment).ascii is plain


def test_what_the_user_has_set_stays() -> None:
    environment = {"TEXTUAL_FPS": "5"}
    apply(TerminalProfile(), environment)
    assert environment["TEXTUAL_FPS"] == "5"


@pytest.mark.parametrize("term", ["", "dumb", "unknown"])
def test_a_terminal_that_cannot_draw_is_refused_in_words(term: str) -> None:
    assert "potluck ask" in detect({"TERM": term}).refusal
    assert not detect({"TERM": "xterm"}).refusal


def test_the_profile_comes_before_textual() -> None:
    script = "import potluck_tui.terminal_profile, sys; print('textual' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert result.stdout.strip() == "False"


def test_the_app_loads_no_engine_and_no_server() -> None:
    script = "import potluck_tui.app, sys; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    forbidden = {
        *("llama_cpp", "vllm", "torch", "numpy", "zeroconf", "sqlite3"),
        *("potluck_scheduler", "potluck_worker"),
    }
    assert not set(result.stdout.split()) & forbidden
