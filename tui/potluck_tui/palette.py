"""What can be done or gone to from where the reader is, found by typing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from potluck_proto.ids import ChatId
from potluck_tui.export import Format
from potluck_tui.session import Session


@dataclass(frozen=True, slots=True)
class RunAction:
    """Do what a key does, by the key's id."""

    key_id: str


@dataclass(frozen=True, slots=True)
class OpenChat:
    """Show a chat."""

    chat_id: ChatId


@dataclass(frozen=True, slots=True)
class OpenMachine:
    """Show a machine."""

    address: str


@dataclass(frozen=True, slots=True)
class UseModel:
    """Answer the chat with a model."""

    label: str


@dataclass(frozen=True, slots=True)
class UseTheme:
    """Draw in other colours."""

    name: str


@dataclass(frozen=True, slots=True)
class WriteChat:
    """Write the chat that is shown to a file."""

    kind: Format


Target = RunAction | WriteChat | OpenChat | OpenMachine | UseModel | UseTheme


@dataclass(frozen=True, slots=True)
class Entry:
    """A row: what is typed to find it, and what it is."""

    words: str
    target: Target
    keys: str = ""
    """What does the same at once."""


def places(session: Session, themes: Iterable[str]) -> list[Entry]:
    """Return where one can go from anywhere: machines, models, chats; and the themes."""
    written = [
        Entry("Write this chat to a Markdown file", WriteChat(Format.MARKDOWN)),
        Entry("Write this chat, all branches, to a JSON file", WriteChat(Format.JSON)),
    ]
    return [
        *(written if session.conversation.chat_id else []),
        *(Entry(f"machine {n.name}", OpenMachine(n.address)) for n in session.pool.nodes),
        *(Entry(f"model {m.label}", UseModel(m.label)) for m in session.pool.models if m.usable),
        *(Entry(f"chat {c.title}", OpenChat(c.chat_id)) for c in session.library.chats),
        *(Entry(f"theme {name}", UseTheme(name)) for name in sorted(themes)),
    ]


def matching(entries: Sequence[Entry], typed: str) -> list[Entry]:
    """Return the entries that hold every word typed; those that begin so come first."""
    words = typed.lower().split()
    found = [entry for entry in entries if all(word in entry.words.lower() for word in words)]
    beginning = typed.strip().lower()
    return sorted(found, key=lambda entry: not entry.words.lower().startswith(beginning))
