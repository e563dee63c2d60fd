"""`potluck-scheduler`: the scheduler daemon as a process."""

from __future__ import annotations

import argparse
import sys

from potluck_proto import daemon, settings
from potluck_proto.home import Home
from potluck_proto.limits import Limits
from potluck_scheduler.daemon import SchedulerDaemon
from potluck_scheduler.settings import SchedulerSettings


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; every option overrides a setting."""
    parser = argparse.ArgumentParser(
        prog="potluck-scheduler", description="Keep the chats of a Potluck pool, place its answers."
    )
    parser.add_argument(
        "--worker", metavar="ADDRESS", action="append", help="a worker that zeroconf does not find"
    )
    parser.add_argument(
        "--listen", metavar="HOST:PORT", help="where paired clients call, once there are any"
    )
    parser.add_argument(
        "--idle-exit", metavar="SECONDS", type=float, help="end when unused for so long; 0 is never"
    )
    return parser


def main() -> int:
    """Run the daemon; return its exit code."""
    options = build_parser().parse_args()
    given = {
        "workers": options.worker,
        "listen": options.listen,
        "idle_exit_seconds": options.idle_exit,
    }

    async def serve(home: Home) -> None:
        loaded = settings.load(SchedulerSettings, home, "scheduler", given)
        await SchedulerDaemon(home, loaded, settings.load(Limits, home, "limits")).run()

    return daemon.run("scheduler", serve)


if __name__ == "__main__":
    sys.exit(main())
