"""What was typed and not sent, kept in a file of the home."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

from potluck_proto.ids import ChatId


class Drafts:
    """A text by chat; the empty id is the new chat's. The chat that was set last comes last.

    Contract: the file is replaced as a whole, so a reader sees the old drafts or the new ones. Two
    terminals that run at once overwrite each other's drafts; the last one wins.

    Args:
        path: A JSON object. Missing or unreadable means no drafts.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._texts = _read(path)
        self._saved = list(self._texts.items())

    def get(self, chat_id: ChatId) -> str:
        """Return the draft of a chat."""
        return self._texts.get(chat_id, "")

    def put(self, chat_id: ChatId, text: str) -> None:
        """Set the draft of a chat; an empty one is forgotten once another chat's is set."""
        self._texts.pop(chat_id, None)
        self._texts = {each: kept for each, kept in self._texts.items() if kept}
        self._texts[chat_id] = text if text.strip() else ""

    @property
    def unfinished(self) -> ChatId | None:
        """The chat whose draft was set last, `None` where nothing was left in it."""
        chat_id, text = next(reversed(self._texts.items()), (ChatId(""), ""))
        return chat_id if text else None

    def save(self) -> None:
        """Write the drafts if they changed. Raises `OSError` where that cannot be."""
        if list(self._texts.items()) == self._saved:
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._path.with_name(f".{self._path.name}-{secrets.token_hex(4)}")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(self._texts, file, ensure_ascii=False, indent=1)
            temporary.replace(self._path)
        finally:
            temporary.unlink(missing_ok=True)
        self._saved = list(self._texts.items())


def _read(path: Path) -> dict[ChatId, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {ChatId(chat_id): text for chat_id, text in found.items() if isinstance(text, str)}
