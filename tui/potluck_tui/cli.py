"""The `potluck` command.

Only what parsing needs is imported here: `potluck --help` is quick because gRPC and Textual are
imported by the command that uses them.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from typing import TypeAlias

from potluck_tui.library_parser import add_library_commands

DESCRIPTION = """\
Pool the machines of your house to run language models, and chat with them from
a terminal.

Without a command: opens the chat, and starts a scheduler and a worker on this
machine in the background where none run. Answers go on when you close it.\
"""

EPILOG = """\
All state lives in one folder, which POTLUCK_HOME names (default:
~/.local/share/potluck). Put GGUF files into its folder `models` to use them.\
"""


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="potluck",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    parser.add_argument(
        "--ssh-profile",
        action="store_true",
        help="draw the chat as for a slow connection; on by itself under ssh",
    )
    parser.add_argument(
        "--read-only",
        action="store_true",
        help="have the chat tell machines nothing: no loading, draining or removing",
    )
    parser.add_argument(
        "--ssh",
        default="",
        metavar="USER@HOST",
        help="use the pool of another machine, through your own ssh",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    groups = (_add_asking, _add_pool, _add_here, _add_pairing)
    for command in (command for add in groups for command in add(commands)):
        command.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _add_asking(commands: Commands) -> list[argparse.ArgumentParser]:
    """Add what is for questions and chats; return those commands that can print JSON."""
    ask = commands.add_parser("ask", help="ask one question, stream the answer to stdout")
    ask.add_argument(
        "prompt",
        nargs="*",
        metavar="PROMPT",
        help="the question; standard input is added when piped",
    )
    ask.add_argument("-m", "--model", default="", help="NAME or NAME:QUANTIZATION")
    ask.add_argument("-s", "--system", default="", help="the system prompt")
    ask.add_argument("-t", "--temperature", type=float, help="0 is always the likeliest token")
    ask.add_argument("--seed", type=int, help="the same seed gives the same answer")
    ask.add_argument("--max-tokens", type=int, help="end the answer after this many tokens")
    ask.add_argument(
        "--no-move",
        action="store_true",
        help="end the answer when its machine is lost, instead of going on at another",
    )

    explain = commands.add_parser("explain", help="say where an answer would go now, and why")
    explain.add_argument(
        "model",
        nargs="?",
        default="",
        metavar="MODEL",
        help="NAME or NAME:QUANTIZATION; without it, the pool's default",
    )
    explain.add_argument("--context", metavar="N", type=int, help="tokens that it must hold")
    for command in (ask, explain):
        command.add_argument(
            "--tag",
            action="append",
            default=[],
            help="only a machine or model with it: node:NAME, licence:commercial, a tag of yours",
        )

    chats = commands.add_parser("chats", help="list the chats, or search them for words")
    chats.add_argument(
        "words",
        nargs="*",
        metavar="WORDS",
        help="search titles and messages for all of them; exits with 1 for none",
    )
    chats.add_argument("-n", "--limit", type=int, default=20, help="how many; 20 by default")
    chats.add_argument("--archived", action="store_true", help="list the archived ones")
    chats.add_argument("--deleted", action="store_true", help="list those that can be restored")
    export = commands.add_parser("export", help="write a chat as Markdown or JSON")
    export.add_argument(
        "chat", metavar="CHAT", help="its id, the beginning of it, or words of its title"
    )
    export.add_argument(
        "--format",
        choices=["md", "json"],
        default="md",
        help="Markdown has the branch that is shown, JSON all branches",
    )
    export.add_argument("-o", "--output", metavar="FILE", help="the file; else it is printed")
    return [ask, explain, chats]


def _add_pool(commands: Commands) -> list[argparse.ArgumentParser]:
    """Add what shows the pool; return those commands that can print JSON."""
    nodes = commands.add_parser("nodes", help="list the machines of the pool, add or remove one")
    of_nodes = nodes.add_subparsers(dest="subcommand", metavar="COMMAND")
    add = of_nodes.add_parser("add", help="use a worker that is not found by itself")
    add.add_argument(
        "address",
        metavar="ADDRESS",
        help="HOST[:PORT] of a paired machine, or ssh://USER@HOST[:PORT]",
    )
    remove = of_nodes.add_parser("remove", help="let a machine in no more, from now on")
    remove.add_argument("node", metavar="NODE", help="its name, id or address")
    library = add_library_commands(commands)
    fit = _add_fit(commands)
    _add_orders(commands)
    status = commands.add_parser("status", help="say what runs on this machine")

    logs = commands.add_parser("logs", help="show a log of the pool")
    logs.add_argument(
        "model",
        nargs="?",
        default="",
        metavar="MODEL",
        help="what the engine of this model printed, NAME or NAME:QUANTIZATION; without it, the "
        "log of the worker",
    )
    logs.add_argument("--node", default="", metavar="NAME", help="of this machine")
    logs.add_argument("--scheduler", action="store_true", help="the log of the scheduler")
    logs.add_argument(
        "-n", "--lines", type=int, default=100, metavar="LINES", help="how many of the last lines"
    )
    logs.add_argument("-f", "--follow", action="store_true", help="go on with new lines")
    return [nodes, add, *library, fit, status, logs]


def _add_here(commands: Commands) -> list[argparse.ArgumentParser]:
    """Add what starts and stops the parts on this machine; return those that can print JSON."""
    up = commands.add_parser("up", help="start the scheduler and a worker on this machine")
    up.add_argument("--only", choices=["worker", "scheduler"], help="start just one of them")
    up.add_argument(
        "--listen", metavar="HOST:PORT", help="where the worker listens for the pool that it joined"
    )
    up.add_argument(
        "--idle-exit",
        metavar="SECONDS",
        type=int,
        default=0,
        help="let it end when unused for so long; 0 is never",
    )
    down = commands.add_parser("down", help="stop what runs on this machine")
    return [up, down]


def _add_pairing(commands: Commands) -> list[argparse.ArgumentParser]:
    """Add what makes machines part of a pool; return those commands that can print JSON."""
    invite = commands.add_parser("invite", help="let another machine join this pool")
    invite.add_argument(
        "--role",
        choices=["worker", "client"],
        default="worker",
        help="a worker runs models for this pool, a client chats with it",
    )
    join = commands.add_parser(
        "join", help="join a pool, with the line of an invitation on standard input or at a prompt"
    )
    commands.add_parser("leave", help="leave the pool that this machine joined")

    service = commands.add_parser("service", help="have the parts start with this machine")
    of_service = service.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)
    for verb, words in (
        ("install", "start them now, and whenever this machine starts"),
        ("remove", "stop them, and start them no more"),
        ("status", "say what is installed and what runs"),
    ):
        of_verb = of_service.add_parser(verb, help=words)
        of_verb.add_argument("--only", choices=["worker", "scheduler"], help="just one of them")
        if verb == "status":
            of_verb.add_argument("--json", action="store_true", help="print JSON")

    setting_up = commands.add_parser("install", help="set Potluck up on another machine")
    setting_up.add_argument(
        "--ssh", metavar="USER@HOST", required=True, help="where, through your own ssh"
    )
    return [invite, join]


def _add_fit(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """Add the command that says what a model takes."""
    fit = commands.add_parser("fit", help="say what memory a model takes, and whether it fits")
    fit.add_argument(
        "model",
        nargs="?",
        default="",
        metavar="MODEL",
        help="NAME or NAME:QUANTIZATION; without it, the pool's default",
    )
    fit.add_argument("--context", type=int, metavar="TOKENS", help="tokens of each conversation")
    fit.add_argument("--slots", type=int, metavar="COUNT", help="conversations at once")
    fit.add_argument("--kv-type", choices=["f16", "q8_0", "q4_0"], help="what the KV cache stores")
    fit.add_argument("--gpu-layers", type=int, metavar="COUNT", help="layers on graphics cards")
    fit.add_argument("--flash-attention", choices=["on", "off"], help="attention in one pass")
    fit.add_argument("--node", default="", metavar="NAME", help="ask this machine alone")
    return fit


def _add_orders(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands that tell machines something."""
    drain = commands.add_parser("drain", help="have a machine take no new work and free its models")
    drain.add_argument("node", metavar="NODE", help="its name, id or address")
    drain.add_argument("--off", action="store_true", help="have it take work again")
    load = commands.add_parser("load", help="load a model, and wait until it is in memory")
    unload = commands.add_parser("unload", help="free the memory of a model")
    pin = commands.add_parser("pin", help="keep a model in memory when others need room")
    for command in (load, unload, pin):
        command.add_argument("model", metavar="MODEL", help="NAME or NAME:QUANTIZATION")
        command.add_argument("--node", default="", metavar="NAME", help="on this machine")
    pin.add_argument("--off", action="store_true", help="let it give way again")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 1 for a failure, 2 for wrong usage, 130 for ^C."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # An answer has any letter; what this place cannot write becomes a question mark.
        sys.stdout.reconfigure(errors="replace")
    options = build_parser().parse_args(arguments)
    if options.version:
        from potluck_proto import __version__

        print(f"potluck {__version__}")
        return 0
    from potluck_tui.commands import run

    return run(options)


if __name__ == "__main__":
    sys.exit(main())
