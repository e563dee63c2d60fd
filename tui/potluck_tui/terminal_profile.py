"""What this terminal can do, found out before Textual is imported.

Textual reads its environment once, at import. So the profile is a pure function of the environment,
and `apply` writes it into the environment while that still counts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from enum import StrEnum

from potluck_tui.notices import suited
from potluck_tui.preferences import Colours, Notice, Preferences, Switch

LOCAL_FRAMES_PER_SECOND = 60
SSH_FRAMES_PER_SECOND = 20
"""More frames than a link with 200 ms of lag can show are bytes that delay the next key."""

LOCAL_ESCAPE_DELAY_MILLISECONDS = 100
SSH_ESCAPE_DELAY_MILLISECONDS = 250
"""A slow link splits an arrow key; its first byte alone must not be taken for Escape."""


class ColourSystem(StrEnum):
    """How many colours a terminal shows, in the words of `TEXTUAL_COLOR_SYSTEM`."""

    SIXTEEN = "standard"
    TWO_HUNDRED_FIFTY_SIX = "256"
    TRUECOLOR = "truecolor"


_TRUECOLOR_TERMS = (
    "alacritty",
    "contour",
    "foot",
    "iterm2",
    "rio",
    "wezterm",
    "xterm-ghostty",
    "xterm-kitty",
)
"""Beginnings of TERM. ssh carries TERM but not COLORTERM, so TERM must tell."""

_TRUECOLOR_PROGRAMS = {"ghostty", "hyper", "iterm.app", "rio", "tabby", "vscode", "wezterm"}
"""TERM_PROGRAM, in lower case. Apple's Terminal is missing on purpose."""


@dataclass(frozen=True, slots=True)
class TerminalProfile:
    """How to speak to this terminal."""

    ssh: bool = False
    """The terminal is at the other end of an ssh connection."""
    tmux: bool = False
    """There is a tmux in between."""
    colours: ColourSystem = ColourSystem.TWO_HUNDRED_FIFTY_SIX
    frames_per_second: int = LOCAL_FRAMES_PER_SECOND
    escape_delay_milliseconds: int = LOCAL_ESCAPE_DELAY_MILLISECONDS
    animations: bool = True
    mouse: bool = True
    """Off over ssh: a terminal that reports the mouse sends bytes for every move."""
    ascii: bool = False
    """Draw with ASCII alone."""
    notice: Notice = Notice.BELL
    """How the end of a long answer is told to whoever looks elsewhere."""
    refusal: str = ""
    """Why no screen can be drawn here, in a sentence; empty where one can."""


def detect(
    environment: Mapping[str, str], preferences: Preferences | None = None
) -> TerminalProfile:
    """Return the profile of the terminal that an environment describes.

    Args:
        environment: The variables.
        preferences: What the reader has chosen instead of what these suggest.
    """
    wanted = preferences or Preferences()
    ssh = _chosen(
        wanted.ssh_profile, environment.get("SSH_CONNECTION") or environment.get("SSH_TTY")
    )
    return TerminalProfile(
        ssh=ssh,
        tmux=bool(environment.get("TMUX")),
        colours=_CHOSEN_COLOURS.get(wanted.colours) or _colours(environment),
        frames_per_second=SSH_FRAMES_PER_SECOND if ssh else LOCAL_FRAMES_PER_SECOND,
        escape_delay_milliseconds=(
            SSH_ESCAPE_DELAY_MILLISECONDS if ssh else LOCAL_ESCAPE_DELAY_MILLISECONDS
        ),
        animations=not ssh,
        mouse=not ssh,
        ascii=_chosen(wanted.ascii, not _speaks_unicode(environment)),
        notice=suited(wanted.notify, environment),
        refusal=_refusal(environment),
    )


def apply(profile: TerminalProfile, environment: MutableMapping[str, str] = os.environ) -> None:
    """Write a profile where Textual reads it; what the user has set there stays."""
    settings = {
        "TEXTUAL_FPS": str(profile.frames_per_second),
        "TEXTUAL_COLOR_SYSTEM": profile.colours.value,
        "ESCDELAY": str(profile.escape_delay_milliseconds),
    }
    if not profile.animations:
        settings |= {"TEXTUAL_ANIMATIONS": "none", "TEXTUAL_SMOOTH_SCROLL": "0"}
    for name, value in settings.items():
        environment.setdefault(name, value)


_CHOSEN_COLOURS = {
    Colours.SIXTEEN: ColourSystem.SIXTEEN,
    Colours.TWO_HUNDRED_FIFTY_SIX: ColourSystem.TWO_HUNDRED_FIFTY_SIX,
    Colours.TRUECOLOR: ColourSystem.TRUECOLOR,
}


def _chosen(switch: Switch, suggested: object) -> bool:
    return bool(suggested) if switch is Switch.AUTO else switch is Switch.ON


def _speaks_unicode(environment: Mapping[str, str]) -> bool:
    """Say whether the locale names no other encoding; one that says nothing is no reason."""
    variables = ("LC_ALL", "LC_CTYPE", "LANG")
    locale = next((environment[name] for name in variables if environment.get(name)), "")
    encoding = locale.partition("@")[0].partition(".")[2].lower().replace("-", "")
    return encoding in {"", "utf8"}


def _colours(environment: Mapping[str, str]) -> ColourSystem:
    term = environment.get("TERM", "").lower()
    if environment.get("COLORTERM", "").lower() in {"truecolor", "24bit"}:
        return ColourSystem.TRUECOLOR
    if term.startswith(_TRUECOLOR_TERMS) or term.endswith("-direct"):
        return ColourSystem.TRUECOLOR
    if environment.get("TERM_PROGRAM", "").lower() in _TRUECOLOR_PROGRAMS:
        return ColourSystem.TRUECOLOR
    # Windows Terminal and recent terminals on VTE name themselves by variables of their own.
    if environment.get("WT_SESSION") or _number(environment.get("VTE_VERSION")) >= 3600:
        return ColourSystem.TRUECOLOR
    if "256color" in term or environment.get("TMUX") or term.startswith("tmux"):
        return ColourSystem.TWO_HUNDRED_FIFTY_SIX
    return ColourSystem.SIXTEEN


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else 0


def _refusal(environment: Mapping[str, str]) -> str:
    term = environment.get("TERM", "")
    if term in {"", "dumb", "unknown"}:
        shown = f"TERM is {term}" if term else "TERM is not set"
        return (
            f"This terminal cannot place text on its screen ({shown}). "
            'Use `potluck ask "..."` here, or open a full terminal.'
        )
    return ""
