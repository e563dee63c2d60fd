"""The colours of the terminal."""

from __future__ import annotations

from textual.theme import Theme

POTLUCK_DARK = Theme(
    name="potluck-dark",
    primary="#d7875f",
    secondary="#87afaf",
    accent="#d7af5f",
    warning="#d7af5f",
    error="#d75f5f",
    success="#87af5f",
    foreground="#d0d0d0",
    background="#1c1c1c",
    surface="#1c1c1c",
    panel="#262626",
    dark=True,
)
"""Every colour is one of the 256 that a plain xterm has, so it looks the same over ssh."""

POTLUCK_LIGHT = Theme(
    name="potluck-light",
    primary="#875f00",
    secondary="#5f8787",
    accent="#af5f00",
    warning="#af5f00",
    error="#af0000",
    success="#5f8700",
    foreground="#303030",
    background="#eeeeee",
    surface="#eeeeee",
    panel="#dadada",
    dark=False,
)

SIXTEEN_COLOURS = "ansi-dark"
"""The theme of Textual's that uses the palette of the terminal, and no other colour."""
