"""Network namespaces joined by a bridge: machines on one network, without machines. Needs root."""

from __future__ import annotations

import contextlib
import subprocess
import uuid
from collections.abc import Iterator


def ip(*arguments: str) -> None:
    """Run `ip`."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def hosts_on_a_bridge(count: int) -> Iterator[list[str]]:
    """Yield names of namespaces; the first has the address 10.77.0.1, and so on."""
    mark = uuid.uuid4().hex[:5]
    bridge, names = f"pl{mark}b", [f"pl{mark}{number}" for number in range(1, count + 1)]
    with contextlib.ExitStack() as clean_up:
        ip("link", "add", bridge, "type", "bridge", "mcast_snooping", "0")
        clean_up.callback(ip, "link", "del", bridge)
        ip("link", "set", bridge, "up")
        for number, name in enumerate(names, 1):
            ip("netns", "add", name)
            clean_up.callback(ip, "netns", "del", name)
            inside, outside = f"{name}i", outer_end(name)
            ip("link", "add", outside, "type", "veth", "peer", "name", inside)
            ip("link", "set", outside, "master", bridge)
            ip("link", "set", outside, "up")
            ip("link", "set", inside, "netns", name)
            ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", inside)
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", inside, "up")
            ip("-n", name, "route", "add", "224.0.0.0/4", "dev", inside)
        yield names


def outer_end(host: str) -> str:
    """Return the end of a host's cable that is at the bridge."""
    return f"{host}o"


def plug(host: str, *, connected: bool) -> None:
    """Plug a host's cable in, or pull it."""
    ip("link", "set", outer_end(host), "up" if connected else "down")


def throttle(host: str, rate: str) -> None:
    """Let a host send no faster than a rate in the words of `tc`, such as "1gbit"."""
    device = ["tc", "-n", host, "qdisc", "add", "dev", f"{host}i"]
    limit = ["root", "tbf", "rate", rate, "burst", "1mb", "latency", "50ms"]
    subprocess.run([*device, *limit], check=True)
