"""The part of the command line that is about files of models."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_library_commands(commands: Commands) -> list[argparse.ArgumentParser]:
    """Add the commands; return those that can print JSON."""
    models = commands.add_parser("models", help="list the models of the pool, or describe one")
    models.add_argument(
        "model",
        nargs="?",
        default="",
        metavar="MODEL",
        help="say all that is known of this one, NAME or NAME:QUANTIZATION",
    )
    models.add_argument("--node", default="", metavar="NAME", help="as this machine has it")
    models.add_argument(
        "--sha256", action="store_true", help="read the files whole for their hashes"
    )
    remove = commands.add_parser("rm", help="delete a model's files")
    remove.add_argument("model", metavar="MODEL", help="NAME or NAME:QUANTIZATION")
    remove.add_argument("--dry-run", action="store_true", help="only say what would go")
    prune = commands.add_parser("prune", help="say what nobody needs on disk, and delete it")
    for command in (remove, prune):
        command.add_argument("--node", default="", metavar="NAME", help="on this machine")
        command.add_argument("-y", "--yes", action="store_true", help="delete without asking")
    return [models, remove, prune]
