"""What screens have in common that show what the session knows."""

from __future__ import annotations

from potluck_tui.session import Session


class Live:
    """A screen that is told whenever the session knows something else."""

    def show_news(self, session: Session) -> None:
        """Show what is known now; parts that did not change are not drawn."""
        raise NotImplementedError
