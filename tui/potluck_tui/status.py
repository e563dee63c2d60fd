"""The words of the line at the bottom: connection, pool, model, and what happens now."""

from __future__ import annotations

from dataclasses import dataclass

from potluck_tui.session import Session
from potluck_tui.words import counted


@dataclass(frozen=True, slots=True)
class StatusLine:
    """The line's two ends."""

    left: str
    right: str
    problem: bool = False


def status_line(session: Session, *, ssh: bool, following: bool, escape_armed: bool) -> StatusLine:
    """Return what the line at the bottom says.

    Args:
        session: What is known.
        ssh: The terminal is at the other end of an ssh connection.
        following: The transcript shows its end.
        escape_armed: One more Esc stops the answer.
    """
    right = [
        part for part in (_now(session, following, escape_armed), "ssh" if ssh else "") if part
    ]
    if session.connected is None:
        return StatusLine("connecting…", " · ".join(right))
    if not session.connected:
        return StatusLine(
            "no connection to the scheduler, trying again…", " · ".join(right), problem=True
        )
    pool = session.pool
    away = len(pool.nodes) - pool.nodes_ready
    nodes = f"{counted(pool.nodes_ready, 'node')} ready" + (f", {away} not" if away else "")
    model = session.current_model
    if model is not None:
        model_words = model.label
    elif session.model:
        model_words = f"{session.model} (not in the pool now)"
    else:
        model_words = "no model"
    return StatusLine(f"{nodes} · {model_words}", " · ".join(right), not pool.nodes_ready)


def _now(session: Session, following: bool, escape_armed: bool) -> str:
    if escape_armed:
        return "Esc again stops the answer"
    if not following:
        return "more below: ctrl+end"
    waiting = f", {len(session.queue)} waiting" if session.queue else ""
    if session.answer is not None:
        return f"answering{waiting}, Esc Esc stops"
    if session.loading:
        return "opening the chat…"
    return ""
