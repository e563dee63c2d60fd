"""Keys act in the order in which they were typed, also when a slow link delivers many at once.

Textual hands each key to the widget that has the focus as it comes, and runs what it is bound to
later, after a detour through the app. So a letter typed behind a key that opens a dialog would land
in the prompt, and a prompt that was typed behind `tab` would act on messages.
"""

from __future__ import annotations

from typing import TypeAlias

from textual import events
from textual.dom import DOMNode
from textual.widget import Widget

from potluck_tui.keys import Keymap

Bound: TypeAlias = tuple[str, DOMNode]
"""An action, and whose it is."""


async def run_in_order(widget: Widget, event: events.Key) -> None:
    """Run what a key of a widget is bound to, here or further up, before the next one is looked at.

    A key that was typed after one that moved the focus is passed on to where the focus is. Actions
    that open a dialog wait until it is there.
    """
    target = widget.app.screen.focused
    if target is not None and target is not widget:
        event.stop()
        event.prevent_default()
        target.post_message(events.Key(event.key, event.character))
        return
    bound = _chosen(widget, event.key) or _usual(widget, event.key)
    if bound is not None and await widget.app.run_action(*bound):
        event.stop()
        event.prevent_default()


def _chosen(widget: Widget, key: str) -> Bound | None:
    """Return what the reader bound a key to, here or further up.

    That counts before what a field for text does with the same key, which Textual would prefer.
    """
    keymap: Keymap = getattr(widget.app, "keymap", {})
    if not keymap:
        return None
    for node, bindings in widget.screen._modal_binding_chain:
        for binding in bindings.key_to_bindings.get(key, ()):
            if binding.id in keymap:
                return binding.action, node
    return None


def _usual(widget: Widget, key: str) -> Bound | None:
    active = widget.screen.active_bindings.get(key)
    return (active.binding.action, active.node) if active is not None else None
