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
        "--explain", action="store_true", help="say beside each property what it means"
    )
    models.add_argument(
        "--sha256", action="store_true", help="read the files whole for their hashes"
    )
    add = commands.add_parser("add", help="use a model of this machine where it lies")
    add.add_argument("path", metavar="PATH", help="a GGUF file, a checkpoint, or a folder of such")
    remove = commands.add_parser(
        "rm", help="delete a model's files; one that was added is only forgotten"
    )
    remove.add_argument("model", metavar="MODEL", help="NAME or NAME:QUANTIZATION")
    remove.add_argument("--dry-run", action="store_true", help="only say what would go")
    prune = commands.add_parser("prune", help="say what nobody needs on disk, and delete it")
    for command in (remove, prune):
        command.add_argument("--node", default="", metavar="NAME", help="on this machine")
        command.add_argument("-y", "--yes", action="store_true", help="delete without asking")
    template = commands.add_parser("template", help="choose the prompt format of a model by name")
    template.add_argument("model", metavar="MODEL", help="NAME or NAME:QUANTIZATION")
    template.add_argument(
        "template",
        metavar="FORMAT",
        help="completion, chatml, alpaca, vicuna and others; own takes it away again",
    )
    template.add_argument("--node", default="", metavar="NAME", help="on this machine alone")
    search = commands.add_parser("search", help="search the hub, or list what a repository has")
    search.add_argument(
        "words",
        nargs="+",
        metavar="WORDS",
        help="what to look for, with fits, below:8B, quant:Q4_K_M, licence:commercial or "
        "licence:NAME to narrow that; or MAKER/NAME to list what can be fetched of it",
    )
    search.add_argument("-n", "--limit", type=int, default=20, help="how many; 20 by default")
    search.add_argument("--node", default="", metavar="NAME", help="for this machine")
    pull = commands.add_parser("pull", help="fetch a model from the hub")
    pull.add_argument(
        "repository",
        metavar="REPO[:QUANT|FILE]",
        help="MAKER/NAME, with a quantization or a file; without it, the best that probably fits",
    )
    pull.add_argument("--node", default="", metavar="NAME", help="to this machine")
    commands.add_parser("login", help="keep a token of yours for the hub, read from a prompt")
    recommend = commands.add_parser("recommend", help="say which well-known models would run here")
    recommend.add_argument("--context", type=int, metavar="TOKENS", help="of each conversation")
    recommend.add_argument("--use", choices=["chat", "code", "reasoning"], help="only those for it")
    recommend.add_argument("--node", default="", metavar="NAME", help="on this machine alone")
    recommend.add_argument("-n", "--limit", type=int, default=12, help="how many; 12 by default")
    recommend.add_argument(
        "--refresh", action="store_true", help="first ask the hub for sizes, licences, downloads"
    )
    bench = commands.add_parser("bench", help="measure how fast a model is on a machine")
    bench.add_argument("model", metavar="MODEL", help="NAME or NAME:QUANTIZATION")
    bench.add_argument(
        "--node", default="", metavar="NAME", help="on this machine; else where an answer would go"
    )
    primer = commands.add_parser("primer", help="explain what one must know of models")
    primer.add_argument("topic", nargs="*", metavar="TOPIC", help="one alone; without it, all")
    copy = commands.add_parser("copy", help="copy a model from one machine of the pool to another")
    copy.add_argument("model", metavar="MODEL", help="NAME or NAME:QUANTIZATION")
    copy.add_argument("to", metavar="NODE", help="to this machine")
    copy.add_argument(
        "--from", dest="from_node", default="", metavar="NAME", help="from this machine"
    )
    return [models, add, remove, prune, template, search, pull, copy, recommend, bench, primer]
