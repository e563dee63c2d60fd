"""The commands, one module for each kind; `run` is what they share."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable

from potluck_proto.errors import PotluckError
from potluck_proto.home import Home

Command = Callable[[argparse.Namespace, Home], Awaitable[int]]


def run(options: argparse.Namespace) -> int:
    """Run the chosen command; print a failure as one sentence; return the exit code."""
    home = Home.default()
    try:
        if options.command is None:
            return _run_default(options, home)
        return asyncio.run(_run_command(_command(options.command), options, home))
    except PotluckError as error:
        print(f"potluck: {error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run_default(options: argparse.Namespace, home: Home) -> int:
    """Open the terminal UI, or, without a terminal, walk the same path headless."""
    if not sys.stdout.isatty():
        from potluck_tui.commands.ask import introduce

        return asyncio.run(introduce(home))
    from potluck_tui.commands.chat import chat

    return chat(options, home)


async def _run_command(command: Command, options: argparse.Namespace, home: Home) -> int:
    return await command(options, home)


def _command(name: str) -> Command:
    """Return the function of a command, importing only its module."""
    from potluck_tui.commands import ask, chats, daemons, explain, fit, logs, orders, pool

    commands: dict[str, Command] = {
        "ask": ask.ask,
        "explain": explain.explain,
        "chats": chats.chats,
        "export": chats.export,
        "nodes": pool.nodes,
        "models": pool.models,
        "fit": fit.fit,
        "drain": orders.drain,
        "load": orders.load,
        "unload": orders.unload,
        "pin": orders.pin,
        "status": daemons.status,
        "logs": logs.logs,
        "up": daemons.up,
        "down": daemons.down,
    }
    return commands[name]
