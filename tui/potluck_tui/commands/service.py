"""`potluck service`: the daemons as services of this user."""

from __future__ import annotations

import argparse
import json

from potluck_proto.home import Home
from potluck_tui import launch
from potluck_tui.launch import DAEMONS
from potluck_tui.services import services


async def install(options: argparse.Namespace, home: Home) -> int:
    """Have the daemons start with this machine, in place of those that run in the background."""
    home.prepare()
    ours = services(home)
    ours.check()
    for name in _chosen(options):
        await launch.stop(home, name)
        path = ours.install(name)
        await launch.until_running(home, name)
        print(f"{name}: installed as {path}, and started")
    if advice := ours.advice():
        print(advice)
    return 0


async def remove(options: argparse.Namespace, home: Home) -> int:
    """Stop the services, and start them no more."""
    ours = services(home)
    ours.check()
    for name in _chosen(options):
        print(f"{name}: {'removed' if ours.remove(name) else 'was not installed'}")
    return 0


async def status(options: argparse.Namespace, home: Home) -> int:
    """Say what is installed, and whether it runs."""
    ours = services(home)
    states = {name: ours.state(name) for name in _chosen(options)}
    if options.json:
        print(json.dumps(states))
        return 0
    for name, state in states.items():
        print(f"{name}: {state}")
    return 0


def _chosen(options: argparse.Namespace) -> list[str]:
    return [name for name in DAEMONS if options.only in (None, name)]
