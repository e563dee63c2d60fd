"""Keys act in the order in which they were typed, also when a slow link delivers many at once.

Textual hands each key to the widget that has the focus as it comes, and runs what it is bound to
later, after a detour through the app. So a letter typed behind a key that opens a dialog would land
in the prompt, and a prompt that was typed behind `tab` would act on messages.
"""

from __future__ import annotations

from textual import events
from textual.widget import Widget


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
    active = widget.screen.active_bindings.get(event.key)
    if active is not None and await widget.app.run_action(active.binding.action, active.node):
        event.stop()
        event.prevent_default()
