"""Numbers and names as a person reads them."""

from __future__ import annotations

from potluck_tui.clean import clean

COLUMNS = 80
"""How wide text on the command line is, as on the narrowest of usual terminals."""

NO_MACHINE = "No machine has joined. `potluck up` starts a worker on this one."

_KIBI = 1024


def size(count_bytes: int) -> str:
    """Return a size in at most eight characters, to 9,999 GiB: `812 B`, `12 MiB`, `4.7 GiB`."""
    value = float(count_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 999.5 or unit == "GiB":
            digits = 1 if unit == "GiB" and value < 99.5 else 0
            return f"{value:.{digits}f} {unit}"
        value /= _KIBI
    raise AssertionError("unreachable")


def count(number: int) -> str:
    """Return a count in at most five characters: `512`, `32K`, `1.2M`, `8.0B`."""
    value = float(number)
    for unit in ("", "K", "M", "B"):
        if value < 999.5 or unit == "B":
            return f"{value:.1f}{unit}" if unit and value < 9.95 else f"{value:.0f}{unit}"
        value /= 1000
    raise AssertionError("unreachable")


def context(tokens: int) -> str:
    """Return a context length, which comes in powers of two: `512`, `8K`, `128K`."""
    return f"{tokens // _KIBI}K" if tokens >= _KIBI else str(tokens) if tokens else "?"


def age(seconds: float) -> str:
    """Return how long ago something was: `0.4s`, `12s`, `5m`, `3h`, `2d`."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    for limit, divisor, unit in ((60, 1, "s"), (3600, 60, "m"), (86400, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.0f}{unit}"
    return f"{seconds / 86400:.0f}d"


def duration(seconds: float) -> str:
    """Return about how long something takes: `4 s`, `3 min`, `2 h`."""
    for limit, divisor, unit in ((99.5, 1, "s"), (5400, 60, "min")):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 3600:.0f} h"


def counted(number: int, noun: str) -> str:
    """Return `1 node`, `2 nodes`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def label(name: str, quantization: str) -> str:
    """Return what a person types to mean exactly one model: `name:quantization`, cleaned."""
    return clean(f"{name}:{quantization}" if quantization else name)
