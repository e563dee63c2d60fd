"""What is told to machines from a screen, each after a question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from textual.binding import BindingType
from textual.screen import Screen

from potluck_tui.instructions import Instruction
from potluck_tui.keys import BELOW, MODEL_ORDERS, ORDERS
from potluck_tui.orders import Drain, Load, Order, Pin, Remove, Unload
from potluck_tui.pool import Health, LoadedView, ModelView, NodeView
from potluck_tui.screens.dialogs import Choose, Confirm
from potluck_tui.screens.live import Live
from potluck_tui.session import Session
from potluck_tui.widgets.text_below import TextBelow
from potluck_tui.words import size

_LOOKS_ON = "This terminal only looks on (read-only)."


class OrderingScreen(Screen[None], Live):
    """A screen from which machines are told something.

    Args:
        session: What is known.
        do: Carries out instructions.
        read_only: Machines are told nothing.
    """

    def __init__(
        self,
        session: Session,
        do: Callable[[Sequence[Instruction]], None],
        *,
        read_only: bool,
    ) -> None:
        super().__init__()
        self._session = session
        self._do = do
        self._read_only = read_only

    async def choose(
        self, question: str, rows: Sequence[str], orders: Sequence[Order], none: str
    ) -> None:
        """Give one of some orders: that which is taken from a list, or the only one.

        Args:
            question: Above the list.
            rows: The orders in words.
            orders: What there is to choose from.
            none: What to say where that is nothing.
        """
        if self._read_only or not orders:
            self.notify(_LOOKS_ON if self._read_only else none, severity="warning", markup=False)
        elif len(orders) == 1:
            await self.confirm(orders[0])
        else:

            def take(number: int | None) -> None:
                if number is not None:
                    self._do([orders[number]])

            await self.app.push_screen(Choose(question, rows), take)

    async def confirm(self, order: Order, then: Callable[[], object] = lambda: None) -> None:
        """Give an order, if the reader says yes; then do what comes next on the screen."""
        if self._read_only:
            self.notify(_LOOKS_ON, severity="warning", markup=False)
            return

        def give(yes: bool | None) -> None:
            if yes:
                self._do([order])
                then()

        await self.app.push_screen(Confirm(order.question), give)


class MachineOrdersScreen(OrderingScreen):
    """A screen that has a machine to act on."""

    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in ORDERS]

    @property
    def chosen(self) -> NodeView | None:
        """The machine to act on."""
        raise NotImplementedError

    async def action_drain(self) -> None:
        """Drain the machine, or have it take work again."""
        if node := self.chosen:
            draining = node.health is not Health.DRAINING
            await self.confirm(Drain(node.address, node.name, draining))

    async def action_remove(self) -> None:
        """Remove the machine from the pool."""
        if node := self.chosen:
            await self.confirm(Remove(node.address, node.name))

    async def action_load(self) -> None:
        """Load one of the machine's models."""
        node = self.chosen
        if node is None:
            return
        there = {model.label for model in node.loaded}
        usable = [
            model
            for model in self._session.pool.models
            if model.usable and node.name in model.node_names
        ]
        models = [model for model in usable if model.label not in there]
        none = "has no model that could be loaded" if not usable else "has all its models in memory"
        await self.choose(
            f"Load on {node.name}, where {_free(node)} are free:",
            _aligned([(model.label, size(model.memory_needed_bytes)) for model in models]),
            [Load(model.label, node.address, node.name) for model in models],
            f"{node.name} {none}.",
        )

    async def action_unload(self) -> None:
        """Unload one of the machine's models."""
        await self._of_loaded(
            "Unload from", lambda node, model: Unload(model.label, node.address, node.name)
        )

    async def action_pin(self) -> None:
        """Pin one of the machine's models, or no longer."""
        await self._of_loaded(
            "Pin in memory, or no longer, on",
            lambda node, model: Pin(model.label, node.address, node.name, not model.pinned),
        )

    async def _of_loaded(self, words: str, order: Callable[[NodeView, LoadedView], Order]) -> None:
        node = self.chosen
        if node is None:
            return
        await self.choose(
            f"{words} {node.name}:",
            _aligned([(model.label, _held(model)) for model in node.loaded]),
            [order(node, model) for model in node.loaded],
            f"{node.name} has no model in memory.",
        )


class ExplainingScreen(OrderingScreen):
    """A screen with a table, and below it a text on what is under the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in BELOW]

    def __init__(
        self,
        session: Session,
        do: Callable[[Sequence[Instruction]], None],
        *,
        read_only: bool,
    ) -> None:
        super().__init__(session, do, read_only=read_only)
        self.below = TextBelow()

    def action_scroll_below(self, pages: int) -> None:
        """Scroll the text; the cursor stays."""
        self.below.scroll_pages(pages)


class ModelOrdersScreen(ExplainingScreen):
    """A screen that has a model to act on."""

    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in MODEL_ORDERS]

    @property
    def chosen(self) -> ModelView | None:
        """The model to act on."""
        raise NotImplementedError

    async def action_load(self) -> None:
        """Load the model where it fits best, or on a machine that has it."""
        model = self.chosen
        if model is None:
            return
        if not model.usable:
            self._say_why_not(model)
            return
        where = [name for name in model.node_names if name not in model.loaded_on]
        orders = [Load(model.label, name, name) for name in where]
        if len(orders) > 1:
            orders = [Load(model.label), *orders]
        names = [order.name for order in orders]
        none = "It is in memory wherever it is."
        await self.choose(f"Load {model.label} on:", names, orders, none)

    async def action_unload(self) -> None:
        """Unload the model."""
        if (model := self.chosen) is not None:
            orders = [Unload(model.label, name, name) for name in model.loaded_on]
            none = "It is not in memory."
            await self.choose(f"Unload {model.label} from:", model.loaded_on, orders, none)

    def action_use(self) -> None:
        """Answer the chat with it."""
        model = self.chosen
        if model is not None and model.usable:
            self._do(self._session.conversation.choose(model=model.label))
            self.notify(f"{model.label} answers this chat from now on.", markup=False)
        elif model is not None:
            self._say_why_not(model)

    def _say_why_not(self, model: ModelView) -> None:
        self.notify(model.problem or "No machine can run it.", markup=False)


def _aligned(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Return names, each with what is said of it, in two columns."""
    cells = max((cell_len(name) for name, _ in rows), default=0)
    return [f"{set_cell_size(name, cells)}  {words}" for name, words in rows]


def _free(node: NodeView) -> str:
    return size(node.main_device.free_bytes) if node.main_device else "0 B"


def _held(model: LoadedView) -> str:
    return f"{size(model.memory_bytes)}{', pinned' if model.pinned else ''}"
