"""What screens have in common that show what the session knows."""

from __future__ import annotations

import time
from collections.abc import Callable

from textual.screen import Screen
from textual.timer import Timer

from potluck_tui.session import Session

SSH_SECONDS = 2.0
"""Over ssh, news of the pool is drawn at most this often."""


class Live:
    """A screen that is told whenever the session knows something else."""

    def show_news(self, session: Session) -> None:
        """Show what is known now; parts that did not change are not drawn."""
        raise NotImplementedError


class Pace:
    """When a screen draws news of the pool: at once, or over ssh a while after the last time.

    Args:
        screen: What draws. While another is above it nothing is drawn, since Textual would draw
            the whole terminal for it; when it is shown again it draws all.
        draw: Draws what is known then.
        ssh: The terminal is at the other end of an ssh connection.
    """

    def __init__(self, screen: Screen[None], draw: Callable[[], None], *, ssh: bool) -> None:
        self._screen = screen
        self._draw = draw
        self._ssh = ssh
        self._drawn_seconds = 0.0
        self._later: Timer | None = None

    def news(self) -> None:
        """Draw soon."""
        if self._screen.app.screen is not self._screen:
            return
        wait = self._drawn_seconds + SSH_SECONDS - time.monotonic() if self._ssh else 0.0
        if wait <= 0:
            self._draw()
        elif self._later is None:
            self._later = self._screen.set_timer(wait, self._draw)

    def drawn(self) -> None:
        """Note that all news is on the screen."""
        if self._later is not None:
            self._later.stop()
            self._later = None
        self._drawn_seconds = time.monotonic()
