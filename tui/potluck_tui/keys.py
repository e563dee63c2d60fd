"""Which keys do what, place by place: the one table that bindings, hints and help are made from.

Only keys that a plain terminal delivers: ctrl with a letter and function keys. Not ctrl+m, ctrl+i
and ctrl+[, which are Enter, Tab and Esc; not ctrl+tab or ctrl+shift, which rarely arrive; not
ctrl+b and ctrl+a, which tmux and screen take.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from textual.binding import Binding

Keymap = Mapping[str, str]
"""Other keys for some ids: as in `Key.keys`."""

_SIGNS = {"question_mark": "?", "slash": "/", "colon": ":", "ctrl+underscore": "ctrl+_"}
"""Keys that Textual calls by the name of their sign."""


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
        return ", ".join(map(_shown, self.keys.split(",")))

    @property
    def short(self) -> str:
        """The first of them as the line of hints shows it."""
        first = self.shown.split(", ")[0]
        return first.replace("ctrl+", "^").replace("escape", "esc")

    def on(self, keymap: Keymap) -> Key:
        """Return it as the reader has bound it."""
        return replace(self, keys=keymap.get(self.id, self.keys))

    def binding(self, where: str = "") -> Binding:
        """Return the binding for Textual.

        Args:
            where: Whose action it is, as `screen`; empty for the widget that has the binding.
        """
        action = f"{where}.{self.action}" if where else self.action
        return Binding(self.keys, action, self.words, id=self.id, show=False)


CHAT = (
    Key("chat.new", "ctrl+n", "new_chat", "New chat", "new"),
    Key("chat.list", "ctrl+o,f2", "toggle_chats", "List of chats", "chats"),
    Key("chat.search", "ctrl+f", "search", "Search all chats", "search"),
    Key("chat.read", "tab", "read", "To the messages, to act on them", "messages"),
    Key("chat.model", "ctrl+p,f3", "pick_model", "Pick the model, or two side by side", "model"),
    Key("chat.options", "ctrl+s,f7", "options", "System prompt and sampling of this chat"),
    Key("chat.nodes", "ctrl+t,f4", "show_nodes", "Machines of the pool", "pool"),
    Key("chat.copy", "ctrl+g,f5", "copy_answer", "Grab (copy) the last answer"),
    Key("chat.rename", "ctrl+r,f6", "rename_chat", "Rename this chat"),
    Key("chat.delete", "f8", "delete_chat", "Delete this chat"),
    Key("chat.restore", "f9", "restore_chat", "Take back the chat that was deleted last"),
    Key("chat.escape", "escape", "escape", "Twice: stop the answer. Once: back to the prompt"),
    Key("chat.page_up", "pageup", "page(-1)", "Scroll up"),
    Key("chat.page_down", "pagedown", "page(1)", "Scroll down"),
    Key("chat.home", "ctrl+home", "to_start", "To the start"),
    Key("chat.end", "ctrl+end", "to_end", "To the end, and follow it"),
)

EVERYWHERE = (
    Key("app.help", "f1", "help", "Keys of this place", "help"),
    Key("app.quit", "ctrl+q", "leave", "Leave; answers go on without you", "quit"),
    Key("app.palette", "ctrl+l,f10,colon", "palette", "Do or go to anything, by typing", "go to"),
    Key("app.models", "f12", "show_models", "Models of the pool: what is and fits where"),
    Key("app.suspend", "ctrl+z", "put_aside", "To the shell, until its `fg`"),
)

UNDO = Key("prompt.undo", "ctrl+underscore", "undo", "Undo the last change of the text")

PROMPT = (
    Key("prompt.send", "enter", "send", "Send; while an answer comes, the prompt waits its turn"),
    Key("prompt.newline", "ctrl+j,shift+enter,alt+enter", "newline", "New line"),
    Key("prompt.complete", "tab", "complete", "After @: complete the name of a file to attach"),
    Key("prompt.up", "up", "up", "First line: take back a waiting prompt, or recall a sent one"),
    Key("prompt.down", "down", "down", "Last line: the prompt after it"),
    UNDO,
)

TRANSCRIPT = (
    Key("message.before", "up", "select(-1)", "Message before", "message"),
    Key("message.after", "down", "select(1)", "Message after"),
    Key("message.left", "left", "screen.switch_branch(-1)", "Branch to the left"),
    Key("message.right", "right", "screen.switch_branch(1)", "Branch to the right"),
    Key("message.copy", "y", "screen.copy_message", "Copy the message", "copy"),
    Key("message.copy_code", "Y", "screen.copy_code", "Copy a code block of it", "code"),
    Key("message.copy_link", "l", "screen.copy_link", "Copy a link of it"),
    Key("message.fold", "space", "fold", "Unfold thoughts, files, long questions", "unfold"),
    Key("message.take", "enter", "screen.take_answer", "Side by side: go on from this answer"),
    Key("message.edit", "e", "screen.edit_message", "Write the question anew: a branch", "edit"),
    Key("message.again", "r", "screen.regenerate", "Answer again: another branch", "again"),
    Key("message.again_by", "R", "screen.regenerate_by", "Answer again, by whom you pick"),
    Key("message.beside", "b", "screen.answer_beside", "Another model's answer beside it"),
    Key("message.go_on", "c", "screen.continue_answer", "Go on with an answer that was cut"),
    Key("message.export", "x", "screen.export_chat('md')", "Write the chat to a Markdown file"),
    Key(
        "message.export_json",
        "X",
        "screen.export_chat('json')",
        "Write it, all branches, to a JSON file",
    ),
    Key("message.hit_after", "n", "screen.show_hit(1)", "Next hit of the search"),
    Key("message.hit_before", "N", "screen.show_hit(-1)", "Hit before"),
    Key("message.line_up", "k", "scroll_up", "Line up"),
    Key("message.line_down", "j", "scroll_down", "Line down"),
    Key("message.prompt", "tab", "screen.escape", "Back to the prompt", "prompt"),
    Key("message.help", "question_mark", "app.help", "Keys of this place", "help"),
)

CHAT_LIST = (
    Key("chats.open", "enter", "select", "Open the chat", "open"),
    Key("chats.search", "slash", "screen.search", "Search all chats", "search"),
    Key("chats.pin", "p", "pin", "Pin it, or no longer", "pin"),
    Key("chats.archive", "a", "archive", "Put it into the archive, or take it back", "archive"),
    Key("chats.rename", "r", "rename", "Rename it", "rename"),
    Key("chats.delete", "d,delete", "delete", "Delete it; it can be restored", "delete"),
    Key("chats.restore", "u", "restore", "Take back a deleted one", "undelete"),
    Key("chats.export", "x", "export('md')", "Write it to a Markdown file"),
    Key("chats.export_json", "X", "export('json')", "Write it, all branches, to a JSON file"),
    Key("chats.shelf", "tab", "next_shelf", "Chats, archived, deleted: the next of them", "shelf"),
    Key("chats.up", "k", "cursor_up", "Up"),
    Key("chats.down", "j", "cursor_down", "Down"),
    Key("chats.help", "question_mark", "app.help", "Keys of this place", "help"),
)

ROWS = (
    Key("rows.up", "up,k", "move(-1)", "Up"),
    Key("rows.down", "down,j", "move(1)", "Down"),
    Key("rows.page_up", "pageup", "page(-1)", "A screen up"),
    Key("rows.page_down", "pagedown", "page(1)", "A screen down"),
    Key("rows.first", "home,g", "move(-1000000)", "First"),
    Key("rows.last", "end,G", "move(1000000)", "Last"),
)

BELOW = (
    Key("below.down", "space", "scroll_below(1)", "Scroll the text below the table"),
    Key("below.up", "b", "scroll_below(-1)", "Scroll it back"),
)

ORDERS = (
    Key("orders.load", "a", "load", "Load a model there", "load"),
    Key("orders.unload", "u", "unload", "Unload a model", "unload"),
    Key("orders.pin", "p", "pin", "Pin a model in memory, or no longer", "pin"),
    Key("orders.drain", "d", "drain", "Drain the machine, or have it take work again", "drain"),
    Key("orders.remove", "x", "remove", "Remove the machine from the pool"),
)

NODES = (
    Key("nodes.details", "enter", "details", "All about this machine", "details"),
    Key("nodes.filter", "slash", "filter", "Filter by words; !word is without it", "filter"),
    Key("nodes.sort", "o", "sort", "Sort by the next figure", "sort"),
    Key("nodes.faults", "z", "faults", "Only those with a fault, or all", "faults"),
    Key("nodes.logs", "l", "logs", "Logs of this machine and its models"),
    Key("nodes.models", "tab,m", "models", "Models of the pool", "models"),
    Key("nodes.invite", "i", "app.invite", "Invite a machine into this pool", "invite"),
    Key("nodes.join", "J", "app.join", "Have this machine join another pool"),
    Key("nodes.help", "question_mark", "app.help", "Keys of this place"),
    Key("nodes.close", "escape,q", "close", "Back to the chat"),
)

MACHINE = (
    Key("machine.logs", "l", "logs", "Logs of this machine and its models", "logs"),
    Key("machine.help", "question_mark", "app.help", "Keys of this place"),
    Key("machine.close", "escape,q", "close", "Back to the machines", "back"),
)

POOL_MODELS = (
    Key("pool_models.details", "enter", "details", "All about this model, explained", "explain"),
    Key("pool_models.find", "f", "find", "Find a model and fetch it", "find"),
    Key("pool_models.recommended", "r", "recommended", "What would run well here", "advice"),
    Key("pool_models.stop", "x", "stop_fetch", "Stop a fetch, or forget one that failed"),
    Key("pool_models.filter", "slash", "filter", "Filter by words", "filter"),
    Key("pool_models.nodes", "tab", "nodes", "Machines of the pool", "machines"),
    Key("pool_models.help", "question_mark", "app.help", "Keys of this place"),
    Key("pool_models.close", "escape,q", "close", "Back", "back"),
)

MODEL_ORDERS = (
    Key("model.use", "c", "use", "Use it in this chat", "chat"),
    Key("model.load", "a", "load", "Load it where it fits best", "load"),
    Key("model.unload", "u", "unload", "Unload it", "unload"),
)

MODEL = (
    Key("model.help", "question_mark", "app.help", "Keys of this place"),
    Key("model.close", "escape,q,enter", "close", "Back to the models", "back"),
)

FIND = (
    Key("find.take", "enter", "take", "List what a repository has; fetch a model", "take"),
    Key("find.type", "tab,slash", "type", "To the line, and from it to what was found", "line"),
    Key("find.recommended", "r", "recommended", "What would run well here", "advice"),
    Key("find.help", "question_mark", "app.help", "Keys of this place"),
    Key("find.close", "escape,q", "close", "Back", "back"),
)

LOGS = (
    Key("logs.next", "tab,right", "next_log(1)", "Next log of this machine", "next log"),
    Key("logs.previous", "shift+tab,left", "next_log(-1)", "Previous log of this machine"),
    Key("logs.help", "question_mark", "app.help", "Keys of this place"),
    Key("logs.close", "escape,q,l", "close", "Back", "back"),
)

LOGS_HELP = (
    ("up, down", "Scroll by a line"),
    ("pageup, pagedown", "Scroll by a page"),
    ("home, end", "To the oldest line, and to the newest, which is followed"),
)

MODELS = (
    Key("models.use", "enter", "use", "Use this model from the next prompt on", "use"),
    Key(
        "models.beside", "tab", "use_beside", "Ask it as well, side by side; or no longer", "beside"
    ),
    Key("models.up", "up", "move(-1)", "Up"),
    Key("models.down", "down", "move(1)", "Down"),
    Key("models.close", "escape", "close", "Back, changing nothing", "back"),
)

SEARCH = (
    Key("search.show", "enter", "show", "Show it where it stands", "show"),
    Key("search.up", "up", "move(-1)", "Up"),
    Key("search.down", "down", "move(1)", "Down"),
    Key("search.close", "escape", "close", "Back", "back"),
)

OPTIONS = (
    Key("options.use", "enter", "use", "Answer this chat like this", "use"),
    Key(
        "options.newline",
        "ctrl+j,shift+enter,alt+enter",
        "newline",
        "In the system prompt: a new line",
        "line",
    ),
    Key("options.next", "ctrl+n", "other_preset(1)", "The next preset", "next preset"),
    Key("options.before", "ctrl+p", "other_preset(-1)", "The preset before"),
    Key("options.keep", "ctrl+s", "keep", "Keep this as a preset, by its name", "keep preset"),
    Key("options.forget", "ctrl+r", "forget", "Forget the preset of this name", "forget"),
    UNDO,
    Key("options.close", "escape", "close", "Back, changing nothing", "back"),
)

CHOICES = (
    Key("choices.up", "up", "move(-1)", "Up"),
    Key("choices.down", "down", "move(1)", "Down"),
    Key("choices.take", "enter", "take", "Take it; so does its number", "take"),
    Key("choices.close", "escape", "close", "Back", "back"),
)


PALETTE = (
    Key("palette.take", "enter", "take", "Do it, or go there", "take"),
    Key("palette.up", "up", "move(-1)", "Up"),
    Key("palette.down", "down", "move(1)", "Down"),
    Key("palette.close", "escape", "close", "Back", "back"),
)

ASK = (Key("ask.close", "escape", "close", "Back, changing nothing", "back"),)

DETAILS = (Key("details.close", "escape,q,enter,f1,question_mark", "close", "Back", "back"),)

CONFIRM = (
    Key("confirm.yes", "y", "answer(True)", "Do it", "yes"),
    Key("confirm.no", "escape,n", "answer(False)", "Leave it", "no"),
)

INVITE = (
    Key("invite.worker", "w", "invite('worker')", "Invite a worker", "worker"),
    Key("invite.client", "c", "invite('client')", "Invite a client", "client"),
    Key("invite.copy", "y", "copy", "Copy the line", "copy"),
    Key("invite.close", "escape,q", "dismiss", "Back", "back"),
)

JOIN = (Key("join.close", "escape", "dismiss", "Back", "back"),)

Table = tuple[Key, ...]

PLACES: dict[str, tuple[Table, ...]] = {
    "chat": (PROMPT, CHAT, EVERYWHERE),
    "messages": (TRANSCRIPT, CHAT[-4:], EVERYWHERE),
    "list of chats": (CHAT_LIST, EVERYWHERE),
    "machines": (NODES, ORDERS, ROWS, EVERYWHERE),
    "machine": (MACHINE, ORDERS, EVERYWHERE),
    "models": (POOL_MODELS, MODEL_ORDERS, ROWS, BELOW, EVERYWHERE),
    "model": (MODEL, MODEL_ORDERS, ROWS, BELOW, EVERYWHERE),
    "find a model": (FIND, ROWS, BELOW, EVERYWHERE),
    "logs": (LOGS, EVERYWHERE),
    "model picker": (MODELS, EVERYWHERE),
    "search": (SEARCH, EVERYWHERE),
    "options of a chat": (OPTIONS, EVERYWHERE),
    "choice": (CHOICES, EVERYWHERE),
    "question": (CONFIRM,),
    "line of text": (ASK,),
    "page": (DETAILS,),
    "palette": (PALETTE,),
    "invitation": (INVITE,),
    "joining": (JOIN,),
}
"""The places, and the tables of keys that count there."""


_chosen: dict[str, str] = {}


def choose(keymap: Keymap) -> None:
    """Have `press` name keys as a reader has bound them. A process has one reader."""
    _chosen.clear()
    _chosen.update(keymap)


def press(key_id: str) -> str:
    """Return the key that does something, for a sentence."""
    key = next(k for tables in PLACES.values() for table in tables for k in table if k.id == key_id)
    return key.on(_chosen).shown.split(", ")[0].replace("escape", "esc")


def twice(key_id: str) -> str:
    """Return a key that is pressed twice, for the beginning of a sentence."""
    key = press(key_id).capitalize()
    return f"{key} {key}"


def hints(*tables: Table) -> list[Key]:
    """Return the keys of some tables that have a word for the line of hints."""
    return [key for table in tables for key in table if key.hint]


def help_rows(place: str, keymap: Keymap) -> list[tuple[str, ...]]:
    """Return the help of a place: keys, what they do, and their ids."""
    return [(key.on(keymap).shown, key.words, key.id) for table in PLACES[place] for key in table]


def _shown(name: str) -> str:
    return _SIGNS.get(name, name)
