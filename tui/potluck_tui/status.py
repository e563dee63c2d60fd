"""The words of the line at the bottom: connection, pool, model, and what happens now."""

from __future__ import annotations

from dataclasses import dataclass

from potluck_tui.keys import press, twice
from potluck_tui.session import Session
from potluck_tui.words import counted

AWAY = "no connection to the scheduler; retrying…"
REFUSED = "no connection to the scheduler: leave, and open it again"


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
    if trouble := _trouble(session):
        return StatusLine(trouble, " · ".join(right), problem=True)
    pool = session.pool
    away = len(pool.nodes) - pool.nodes_ready
    nodes = f"{counted(pool.nodes_ready, 'node')} ready" + (f", {away} not" if away else "")
    left = " · ".join([nodes, _models(session), *_options(session)])
    return StatusLine(left, " · ".join(right), not pool.nodes_ready)


def title_line(session: Session, left: str, right: str) -> StatusLine:
    """Return the line over what is shown of the pool, which is old where the scheduler is away."""
    trouble = _trouble(session)
    return StatusLine(left, trouble or right, problem=bool(trouble))


def _trouble(session: Session) -> str:
    """Return what is wrong with the scheduler, in words; empty where it answers."""
    if session.connected is False:
        return REFUSED if session.refused else AWAY
    if session.silent_seconds:
        return f"no word from the scheduler for {int(session.silent_seconds)} s"
    return ""


def _models(session: Session) -> str:
    chat, model = session.conversation.chat, session.current_model
    if model is not None:
        words = model.label
    elif chat.model:
        words = f"{chat.model} (not in the pool now)"
    else:
        words = "no model"
    return f"{words} and {chat.beside_model}" if chat.beside_model else words


def _options(session: Session) -> list[str]:
    chat = session.conversation.chat
    return [
        words
        for words in (chat.preset.label, "system prompt" if chat.system_prompt else "")
        if words
    ]


def _now(session: Session, following: bool, escape_armed: bool) -> str:
    conversation = session.conversation
    if escape_armed:
        return f"{press('chat.escape').capitalize()} again stops the answer"
    if conversation.editing is not None:
        return f"asking anew, {press('chat.escape')} leaves it"
    if (hits := session.library.hits) and session.library.hit_number >= 0:
        keys = f"{press('message.hit_after')}, {press('message.hit_before')}"
        return f"hit {session.library.hit_number + 1} of {len(hits)}: {keys}"
    waits = f"{len(conversation.queue)} waiting" if conversation.queue else ""
    if conversation.under_way:
        waiting = f", {waits}" if waits else ""
        stops = f"{twice('chat.escape')} stops"
        return f"answering{waiting}, {stops if following else _more_below()}"
    if not following:
        return _more_below()
    return waits or ("opening the chat…" if conversation.loading else "")


def _more_below() -> str:
    return f"more below: {press('chat.end')}"
