"""What the system says of a failure, as part of a sentence for people."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"\[Errno -?\d+\] ")


def plain(error: Exception | str) -> str:
    """Return the words of a failure, without the number that Python puts before the system's."""
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return _NUMBER.sub("", said)
