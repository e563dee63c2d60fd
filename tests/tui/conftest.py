"""Fixtures of the terminal's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from tui import samples
from tui.stage import StagedApp, make_stage

# Drawing is slow on a busy machine, and its speed is measured elsewhere.
settings.register_profile("terminal", deadline=None)
settings.load_profile("terminal")


@pytest.fixture
def app(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> StagedApp:
    """An app on a house with machines and without chats."""
    monkeypatch.delenv("TMUX", raising=False)
    staged = make_stage(short_tmp)
    staged.scheduler.pool = samples.house()
    return staged
