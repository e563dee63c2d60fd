"""`potluck-scheduler`: the scheduler daemon as a process."""

from __future__ import annotations

import argparse
import asyncio
import sys

from potluck_proto import daemon, settings
from potluck_proto.errors import PotluckError
from potluck_proto.home import Home
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
        "--insecure-lan",
        action="store_true",
        default=None,
        help="use workers on other machines, without encryption or a password",
    )
    parser.add_argument(
        "--idle-exit", metavar="SECONDS", type=float, help="end when unused for so long; 0 is never"
    )
    return parser


def main() -> int:
    """Run the daemon; return 0, or 1 with one sentence on stderr."""
    options = build_parser().parse_args()
    home = Home.default()
    try:
        home.prepare()
        given = {
            "workers": options.worker,
            "insecure_lan": options.insecure_lan,
            "idle_exit_seconds": options.idle_exit,
        }
        loaded = settings.load(SchedulerSettings, home, "scheduler", given)
        with daemon.single_instance(home, "scheduler"):
            daemon.configure_logging(home, "scheduler")
            asyncio.run(_serve(home, loaded))
    except PotluckError as error:
        print(f"potluck-scheduler: {error.message}", file=sys.stderr)
        return 1
    return 0


async def _serve(home: Home, loaded: SchedulerSettings) -> None:
    await SchedulerDaemon(home, loaded).run()


if __name__ == "__main__":
    sys.exit(main())
