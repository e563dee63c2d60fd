"""Which keys do what, place by place: the one table that bindings, hints and help are made from.

Only keys that a plain terminal delivers: ctrl with a letter and function keys. Not ctrl+m, ctrl+i
and ctrl+[, which are Enter, Tab and Esc; not ctrl+tab or ctrl+shift, which rarely arrive; not
ctrl+b and ctrl+a, which tmux and screen take.
"""

from __future__ import annotations

from dataclasses import dataclass

from textual.binding import Binding


@dataclass(frozen=True, slots=True)
class Key:
    """What a key does at a place. The id is what a reader binds to another key."""

    id: str
    keys: str
    action: str
    words: str
    hint: str = ""
    """A word for the line of hints; empty leaves it to the help."""

    @property
    def shown(self) -> str:
        """The keys as the help shows them."""
        return self.keys.replace(",", ", ")

    def binding(self) -> Binding:
        """Return the binding for Textual."""
        return Binding(self.keys, self.action, self.words, id=self.id, show=False)


CHAT = (
    Key("chat.new", "ctrl+n", "new_chat", "New chat", "new"),
    Key("chat.list", "ctrl+o,f2", "toggle_chats", "List of chats", "chats"),
    Key("chat.model", "ctrl+p,f3", "pick_model", "Pick the model", "model"),
    Key("chat.nodes", "ctrl+t,f4", "show_nodes", "Machines of the pool", "nodes"),
    Key("chat.copy", "ctrl+g,f5", "copy_answer", "Grab (copy) the last answer", "copy"),
    Key("chat.rename", "ctrl+r,f6", "rename_chat", "Rename this chat"),
    Key("chat.delete", "f8", "delete_chat", "Delete this chat"),
    Key("chat.escape", "escape", "escape", "Twice: stop the answer. Once: back to the prompt"),
    Key("chat.page_up", "pageup", "page(-1)", "Scroll up"),
    Key("chat.page_down", "pagedown", "page(1)", "Scroll down"),
    Key("chat.home", "ctrl+home", "to_start", "To the start"),
    Key("chat.end", "ctrl+end", "to_end", "To the end, and follow it"),
)

EVERYWHERE = (
    Key("app.help", "f1", "help", "Keys of this place", "help"),
    Key("app.quit", "ctrl+q", "leave", "Leave; answers go on without you", "quit"),
)

NODES = (
    Key("nodes.details", "enter", "details", "All about this machine", "details"),
    Key("nodes.logs", "l", "logs", "Logs of this machine and its models", "logs"),
    Key("nodes.invite", "i", "app.invite", "Invite a machine into this pool", "invite"),
    Key("nodes.join", "j", "app.join", "Have this machine join another pool"),
    Key("nodes.help", "question_mark", "app.help", "Keys of this place"),
    Key("nodes.close", "escape,q", "close", "Back to the chat", "back"),
)

LOGS = (
    Key("logs.next", "tab,right", "next_log(1)", "Next log of this machine", "next log"),
    Key("logs.previous", "shift+tab,left", "next_log(-1)", "Previous log of this machine"),
    Key("logs.help", "question_mark", "app.help", "Keys of this place"),
    Key("logs.close", "escape,q,l", "close", "Back to the machines", "back"),
)

LOGS_HELP = (
    ("up, down", "Scroll by a line"),
    ("pageup, pagedown", "Scroll by a page"),
    ("home, end", "To the oldest line, and to the newest, which is followed"),
)

MODELS = (
    Key("models.use", "enter", "use", "Use this model from the next prompt on", "use"),
    Key("models.up", "up", "move(-1)", "Up"),
    Key("models.down", "down", "move(1)", "Down"),
    Key("models.close", "escape", "close", "Back, changing nothing", "back"),
)

PROMPT_HELP = (
    ("enter", "Send; while an answer comes, the prompt waits its turn"),
    ("ctrl+j", "New line"),
    ("up", "In an empty prompt: take back a waiting prompt, or recall a sent one"),
)

CHAT_LIST_HINTS = (("enter", "open"), ("r", "rename"), ("d", "delete"), ("esc", "back"))

CHAT_LIST_HELP = (
    ("enter", "Open the chat"),
    ("r", "Rename it"),
    ("d", "Delete it"),
)


def hints(*tables: tuple[Key, ...]) -> list[tuple[str, str]]:
    """Return the hints of some tables: first key, in short, and word."""
    return [
        (key.keys.split(",")[0].replace("ctrl+", "^").replace("escape", "esc"), key.hint)
        for table in tables
        for key in table
        if key.hint
    ]


def help_rows(*tables: tuple[Key, ...]) -> list[tuple[str, str]]:
    """Return the help of some tables: keys and what they do."""
    return [
        (key.shown.replace("question_mark", "?"), key.words) for table in tables for key in table
    ]
