"""`potluck up`, `potluck down` and `potluck status`: the daemons of this machine."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from potluck_proto import network
from potluck_proto.daemon import running_instance
from potluck_proto.errors import BadRequest, PotluckError
from potluck_proto.home import Home
from potluck_proto.identity import Role
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_tui import launch
from potluck_tui.client import PoolClient
from potluck_tui.joining import remembered_address
from potluck_tui.launch import DAEMONS
from potluck_tui.words import counted, duration


async def up(options: argparse.Namespace, home: Home) -> int:
    """Start what does not run; it stays until `potluck down`."""
    chosen = [name for name in DAEMONS if options.only in (None, name)]
    if options.listen and "worker" not in chosen:
        raise BadRequest("--listen is for the worker; a scheduler's is in the settings.")
    if options.listen:
        network.split_host_port(options.listen, network.WORKER_PORT)
    if options.idle_exit < 0:
        raise BadRequest(f"--idle-exit cannot be {options.idle_exit}; 0 is never.")
    arguments = {"scheduler": (), "worker": ("--listen", options.listen) if options.listen else ()}
    home.prepare()
    started: dict[str, list[str]] = {}
    for name in chosen:
        running = running_instance(home, name)
        if running is None:
            idle = ("--idle-exit", str(options.idle_exit))
            daemon = launch.Daemon(name, (*idle, *arguments[name]))
            started[name] = await launch.start(daemon, home)
        elif arguments[name]:
            raise BadRequest(
                f"The {name} runs already (process {running['process_id']}), with other options. "
                "Stop it first with `potluck down`."
            )
        else:
            started[name] = []
    if options.json:
        sockets = {"worker": home.worker_socket, "scheduler": home.scheduler_socket}
        report = {
            name: {"started": bool(at), "addresses": at, "socket": str(sockets[name])}
            for name, at in started.items()
        }
        print(json.dumps(report))
    else:
        for name, at in started.items():
            print(f"{name}: started at {' '.join(at)}" if at else f"{name}: runs already")
    return 0


async def down(options: argparse.Namespace, home: Home) -> int:
    """Stop what runs. Chats are kept; answers under way end."""
    report = {name: await launch.stop(home, name) or "did not run" for name in DAEMONS}
    if options.json:
        print(json.dumps(report))
    else:
        for name, state in report.items():
            print(f"{name}: {state}")
    return 0


async def status(options: argparse.Namespace, home: Home) -> int:
    """Say what runs for this home."""
    report: dict[str, object] = {"home": str(home.root)}
    for name in DAEMONS:
        instance = running_instance(home, name)
        report[name] = instance and {
            "process_id": instance["process_id"],
            "version": instance["version"],
            "uptime_seconds": round(time.time() - instance["started_unix_seconds"], 1),
        }
    if report["scheduler"]:
        report["pool"] = await _pool(home)
    if home.identity_file(Role.CLIENT).exists():
        report["client_of"] = remembered_address(home)
    if options.json:
        print(json.dumps(report))
        return 0
    print(f"home: {home.root}")
    if at := report.get("client_of"):
        print(f"client of the pool at {at}; what runs here is another")
    for name in DAEMONS:
        found = report[name]
        print(f"{name}: " + (_in_words(found) if isinstance(found, dict) else "does not run"))
    pool = report.get("pool")
    if isinstance(pool, dict):
        print(f"pool: {_pool_in_words(pool)}")
    return 0


def _in_words(instance: dict[str, Any]) -> str:
    return (
        f"runs as process {instance['process_id']} for {duration(instance['uptime_seconds'])}, "
        f"version {instance['version']}"
    )


def _pool_in_words(pool: dict[str, Any]) -> str:
    """Return what the scheduler says of itself, and what is wrong with it."""
    problem = pool.get("problem", "")
    if "chats" not in pool:
        return str(problem)
    counts = [
        f"{counted(pool['nodes_ready'], 'node')} ready",
        counted(pool["chats"], "chat"),
        f"{counted(pool['answers_under_way'], 'answer')} under way",
        counted(pool["viewers"], "viewer"),
    ]
    return ", ".join(counts) + (f". {problem}" if problem else "")


async def _pool(home: Home) -> dict[str, object]:
    """Return the scheduler's own view, or why it has none."""
    client = PoolClient(network.unix_address(home.scheduler_socket))
    try:
        answer = await client.call(client.stub.GetStatus, pb.GetStatusRequest())
    except PotluckError as error:
        return {"problem": error.message}
    finally:
        await client.close()
    return {
        "nodes_ready": answer.nodes_ready,
        "chats": answer.chats,
        "answers_under_way": answer.active_generations,
        "viewers": answer.viewers,
        **({"problem": answer.problem} if answer.problem else {}),
    }
