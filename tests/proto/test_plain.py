from __future__ import annotations

import pytest

from potluck_proto.plain import plain


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Permission denied", "/x"), "Permission denied"),
        (OSError("a message alone"), "a message alone"),
        (TimeoutError(), "TimeoutError"),
        ("[Errno -2] Name or service not known", "Name or service not known"),
        ("All tries failed: [Errno 111] refused", "All tries failed: refused"),
    ],
)
def test_a_failure_is_said_without_the_number_of_the_system(
    error: Exception | str, words: str
) -> None:
    assert plain(error) == words
