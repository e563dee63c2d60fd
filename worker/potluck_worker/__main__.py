"""`potluck-worker`: the worker daemon as a process."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from potluck_proto import daemon, settings
from potluck_proto.home import Home
from potluck_proto.limits import Limits
from potluck_worker.daemon import WorkerDaemon
from potluck_worker.settings import WorkerSettings


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; every option overrides a setting."""
    parser = argparse.ArgumentParser(
        prog="potluck-worker", description="Serve this machine's models to a Potluck pool."
    )
    parser.add_argument("--name", help="what people call this machine")
    parser.add_argument(
        "--listen", metavar="HOST:PORT", help="where the pool's scheduler calls, once paired"
    )
    parser.add_argument(
        "--models", metavar="PATH", type=Path, action="append", help="a model file or folder"
    )
    parser.add_argument(
        "--idle-exit", metavar="SECONDS", type=float, help="end when unused for so long; 0 is never"
    )
    return parser


def main() -> int:
    """Run the daemon; return its exit code."""
    options = build_parser().parse_args()
    given = {
        "name": options.name,
        "listen": options.listen,
        "model_paths": options.models,
        "idle_exit_seconds": options.idle_exit,
    }

    async def serve(home: Home) -> None:
        loaded = settings.load(WorkerSettings, home, "worker", given)
        await WorkerDaemon(home, loaded, settings.load(Limits, home, "limits")).run()

    return daemon.run("worker", serve)


if __name__ == "__main__":
    sys.exit(main())
