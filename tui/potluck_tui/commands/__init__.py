"""The commands, one module for each kind; `run` is what they share."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module

from potluck_proto.errors import PotluckError
from potluck_proto.home import Home
from potluck_tui.clean import clean

Command = Callable[[argparse.Namespace, Home], Awaitable[int]]

COMMANDS = {
    "ask": "ask.ask",
    "explain": "explain.explain",
    "chats": "chats.chats",
    "export": "chats.export",
    "nodes": "pool.nodes",
    "nodes add": "pairing.add",
    "nodes remove": "pairing.remove",
    "invite": "pairing.invite",
    "join": "pairing.join",
    "leave": "pairing.leave",
    "service install": "service.install",
    "service remove": "service.remove",
    "service status": "service.status",
    "install": "setting_up.install",
    "models": "pool.models",
    "primer": "primer.primer",
    "recommend": "recommend.recommend",
    "search": "hub.search",
    "pull": "hub.pull",
    "copy": "hub.copy",
    "login": "hub.login",
    "add": "adding.add",
    "rm": "removal.remove",
    "prune": "removal.prune",
    "template": "template.template",
    "fit": "fit.fit",
    "bench": "bench.bench",
    "drain": "orders.drain",
    "load": "orders.load",
    "unload": "orders.unload",
    "pin": "orders.pin",
    "status": "daemons.status",
    "logs": "logs.logs",
    "up": "daemons.up",
    "down": "daemons.down",
}
"""Where the function of each command is: `module.function`."""


def run(options: argparse.Namespace) -> int:
    """Run the chosen command; print a failure as one sentence; return the exit code."""
    home = Home.default()
    try:
        if options.command is None:
            return _run_default(options, home)
        name = " ".join(filter(None, (options.command, getattr(options, "subcommand", None))))
        return asyncio.run(_run_command(_command(name), options, home))
    except PotluckError as error:
        print(f"potluck: {clean(error.message)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read it has left. Python would fail again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run_default(options: argparse.Namespace, home: Home) -> int:
    """Open the terminal UI, or, without a terminal, walk the same path headless."""
    if not sys.stdout.isatty():
        from potluck_tui.commands.ask import introduce

        return asyncio.run(introduce(options, home))
    from potluck_tui.commands.chat import chat

    return chat(options, home)


async def _run_command(command: Command, options: argparse.Namespace, home: Home) -> int:
    code = await command(options, home)
    sys.stdout.flush()
    return code


def _command(name: str) -> Command:
    """Return the function of a command, importing only its module."""
    module, function = COMMANDS[name].split(".")
    command: Command = getattr(import_module(f"potluck_tui.commands.{module}"), function)
    return command
