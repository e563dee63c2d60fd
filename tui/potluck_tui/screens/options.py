"""How a chat is answered: its system prompt, and how tokens are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static, TextArea

from potluck_proto.errors import BadRequest
from potluck_tui.instructions import DeletePreset, Instruction, SavePreset
from potluck_tui.keys import EVERYWHERE, OPTIONS, UNDO, hints, press
from potluck_tui.preset import NUMBERS, STOP_SEPARATOR, THINKING, Preset, check_name
from potluck_tui.screens.live import Live
from potluck_tui.session import Session
from potluck_tui.widgets.bars import KeyHints
from potluck_tui.widgets.keys_in_order import run_in_order
from potluck_tui.widgets.line import Line

_OF_THE_TEXT = {"options.newline", UNDO.id}
"""Keys that count in the system prompt alone."""


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What the dialog sets."""

    system_prompt: str
    preset: Preset


class Cycle(Static, can_focus=True):
    """One of a few words; left, right and space go from one to the next."""

    PLACE = "options of a chat"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,space", "step(1)", "Next", id="cycle.next", show=False),
        Binding("left", "step(-1)", "Before", id="cycle.before", show=False),
    ]

    def __init__(self, words: Sequence[str], *, widget_id: str) -> None:
        super().__init__(id=widget_id, markup=False)
        self._words = list(words)
        self.value = self._words[0]

    def choose(self, word: str) -> None:
        """Show one of the words."""
        self.value = word
        self.update(f"‹ {word} ›")

    async def _on_key(self, event: events.Key) -> None:
        await run_in_order(self, event)

    def action_step(self, step: int) -> None:
        """Go to another word."""
        at = self._words.index(self.value) + step
        self.choose(self._words[at % len(self._words)])


class SystemPrompt(TextArea):
    """A text of several lines. As in the prompt of the chat, Enter takes it."""

    PLACE = "options of a chat"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(key.binding("" if key.id in _OF_THE_TEXT else "screen") for key in OPTIONS),
        *(key.binding("app") for key in EVERYWHERE if key.id == "app.suspend"),
    ]

    def __init__(self, text: str) -> None:
        super().__init__(text, id="system", compact=True, soft_wrap=True)
        self.cursor_blink = False
        self.move_cursor(self.document.end)

    def action_newline(self) -> None:
        """Start a new line."""
        self.insert("\n")

    async def _on_key(self, event: events.Key) -> None:
        await run_in_order(self, event)


class OptionsScreen(ModalScreen[ChatOptions | None], Live):
    """Closes with the options of the chat, or `None`.

    Args:
        current: What the chat has now.
        presets: Those that have a name; `show_news` brings later ones.
        do: Carries out instructions.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        key.binding() for key in OPTIONS if key.id not in _OF_THE_TEXT
    ]

    def __init__(
        self,
        current: ChatOptions,
        presets: Sequence[Preset],
        do: Callable[[list[Instruction]], None],
    ) -> None:
        super().__init__()
        self._current = current
        self._presets = presets
        self._do = do
        self._base = current.preset

    def compose(self) -> ComposeResult:
        """Build the fields."""
        with Vertical(classes="dialog -wide-dialog", id="options"):
            yield Static("How this chat is answered", classes="title", markup=False)
            yield Static("System prompt", classes="name", markup=False)
            yield SystemPrompt(self._current.system_prompt)
            yield from self._field("name", "Preset", "a new name keeps these values")
            for number in NUMBERS:
                yield from self._field(number.name, number.words, number.hint)
            separator = STOP_SEPARATOR.strip()
            yield from self._field("stop", "Stop", f"texts, with {separator} between them")
            with Horizontal(classes="field"):
                yield Static("Thinking", classes="name", markup=False)
                yield Cycle(list(THINKING), widget_id="thinking")
            yield Static("", id="options-problem", markup=False)
            yield KeyHints(
                [*hints(OPTIONS[-1:], OPTIONS[:-1]), ("tab", "next field")], widget_id="hints"
            )

    @staticmethod
    def _field(name: str, words: str, hint: str) -> ComposeResult:
        with Horizontal(classes="field"):
            yield Static(words, classes="name", markup=False)
            placeholder = "as the model says" if name != "name" else ""
            yield Line(placeholder=placeholder, widget_id=name)
            yield Static(hint, classes="hint", markup=False)

    def on_mount(self) -> None:
        """Show what the chat has."""
        self._show(self._current.preset)
        self.set_focus(self.query_one(SystemPrompt))

    def show_news(self, session: Session) -> None:
        """Take the presets that there are now."""
        self._presets = session.presets

    def _show(self, preset: Preset) -> None:
        self._base = preset
        self.query_one("#name", Input).value = preset.name
        for name, text in preset.fields().items():
            self.query_one(f"#{name}", Input).value = text
        word = next(word for word, value in THINKING.items() if value == preset.thinking)
        self.query_one(Cycle).choose(word)
        self._say("")

    def _read(self) -> Preset:
        """Return what stands in the fields. Raises `BadRequest`."""
        names = [*(number.name for number in NUMBERS), "stop"]
        texts = {name: self.query_one(f"#{name}", Input).value for name in names}
        name = self.query_one("#name", Input).value
        name = check_name(name) if name.strip() else ""
        return replace(self._base, name=name).read(texts, THINKING[self.query_one(Cycle).value])

    def _say(self, words: str) -> None:
        self.query_one("#options-problem", Static).update(words)

    @on(Input.Submitted)
    def action_use(self) -> None:
        """Close with what stands in the fields."""
        try:
            preset = self._read()
        except BadRequest as error:
            self._say(error.message)
            return
        known = next((known for known in self._presets if known.name == preset.name), None)
        if preset.name and known is None:
            self._do([SavePreset(preset)])
        elif known not in (None, preset):
            # Other values than the preset's are for this chat alone.
            preset = replace(preset, name="")
        self.dismiss(ChatOptions(self.query_one(TextArea).text.strip(), preset))

    def action_other_preset(self, step: int) -> None:
        """Put the values of the next preset into the fields; before the first, those of none."""
        known = [Preset(), *self._presets]
        name = self.query_one("#name", Input).value.strip()
        at = next((n for n, preset in enumerate(known) if preset.name == name), 0)
        if len(known) == 1:
            keep = press("options.keep")
            self._say(
                f"No preset is kept yet: give these values a name, and keep them with {keep}."
            )
        else:
            self._show(known[(at + step) % len(known)])

    def action_keep(self) -> None:
        """Keep what stands in the fields as a preset."""
        try:
            preset = self._read()
            check_name(preset.name)
        except BadRequest as error:
            self._say(error.message)
            return
        self._presets = [*(p for p in self._presets if p.name != preset.name), preset]
        self._do([SavePreset(preset)])
        self._say(f"“{preset.name}” is kept; enter uses it for this chat.")

    def action_forget(self) -> None:
        """Forget the preset of this name; the values stay in the fields."""
        name = self.query_one("#name", Input).value.strip()
        if any(preset.name == name for preset in self._presets):
            self._presets = [preset for preset in self._presets if preset.name != name]
            self._do([DeletePreset(name)])
            self.query_one("#name", Input).value = ""
            self._say(f"“{name}” is forgotten; chats that use it keep its values.")
        else:
            self._say("There is no preset of this name.")

    def action_close(self) -> None:
        """Close, changing nothing."""
        self.dismiss(None)
