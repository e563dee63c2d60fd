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
