"""What an empty chat says: what answers here, and how to have something better answer."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from potluck_tui.keys import press
from potluck_tui.pool import PoolView
from potluck_tui.words import context, size

EXAMPLES = (
    "How do I use a model of my own?",
    "How much memory does a model need?",
    "What is quantization?",
)


def welcome(
    pool: PoolView, chosen: str, models_folder: Path, connected: bool | None
) -> RenderableType:
    """Return the text of an empty chat.

    Args:
        pool: What there is.
        chosen: The model chosen for the chat; empty means the default.
        models_folder: Where the user puts model files.
        connected: Whether the scheduler answers; `None` before it is known.
    """
    lines = [Text("Potluck", style="bold"), Text("")]
    model = pool.model(chosen)
    if not connected:
        waiting = "The scheduler is away; this heals by itself." if connected is False else ""
        return Group(*lines, Text(waiting, style="yellow"))
    models = press("app.models")
    by_hand = (
        Text(f"  {models_folder}", style="cyan"),
        Text(f"It appears by itself; {press('chat.model')} picks it."),
    )
    if not pool.nodes_ready:
        nodes = press("chat.nodes")
        lines += [
            Text(f"No machine of the pool is ready yet. {nodes} shows what each one says."),
            Text("A prompt that you send now waits for the first one."),
        ]
    elif model is None:
        find = press("pool_models.find")
        lines += [
            Text(
                f"No model is here yet. {models} and then {find} finds one; or put a GGUF file into"
            ),
            *by_hand,
        ]
    elif model.starter:
        advice = press("pool_models.recommended")
        lines += [
            Text(
                f"The starter model answers here. It is tiny ({size(model.file_bytes)}) and knows "
                "only about running models at home and about Potluck: fine for a first try, "
                "useless for anything else."
            ),
            Text(""),
            Text(
                f"To talk with a real model, press {models} and then {advice}: that says which "
                "would run here, how fast and how well, and fetches one. Or put a GGUF file into"
            ),
            *by_hand,
            Text(""),
            Text("Meanwhile, ask for example", style="dim"),
            *(Text(f"  {question}") for question in EXAMPLES),
        ]
    else:
        where = ", ".join(model.loaded_on or model.node_names)
        lines += [
            Text.assemble((model.label, "bold"), f" answers here, on {where}."),
            Text(
                f"It reads {context(model.context_length or model.training_context_length)} tokens "
                f"of conversation. {press('chat.model')} picks another model.",
                style="dim",
            ),
        ]
    return Group(*lines)
