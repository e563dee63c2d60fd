"""The user's token for the model hub: in the keyring of this account where one works, else a file.

The keyring is reached by the library `keyring`, an extra. Without it, on a machine without a
keyring, or where that one is locked or broken, the token is in a file that nobody else can read.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any

from potluck_proto.home import Home, write_private

log = logging.getLogger(__name__)

SERVICE = "potluck"
RECOMMENDED = 1.0
"""The priority from which a backend of the library keeps secrets well."""


def keep(home: Home, token: str) -> str:
    """Keep a token in the place of any other; return where it is, in words."""
    forget(home)
    if (keyring := _keyring()) is not None:
        try:
            keyring.set_password(SERVICE, str(home.root), token)
            if keyring.get_password(SERVICE, str(home.root)) == token:
                return "the keyring of this account"
        except Exception as error:
            _note(error)
    write_private(home.hub_token, token.encode())
    return str(home.hub_token)


def read(home: Home) -> str:
    """Return the token that is kept; empty where none is."""
    try:
        return home.hub_token.read_text().strip()
    except OSError:
        pass
    if (keyring := _keyring()) is not None:
        try:
            return str(keyring.get_password(SERVICE, str(home.root)) or "")
        except Exception as error:
            _note(error)
    return ""


def forget(home: Home) -> None:
    """Delete the token, wherever it is."""
    home.hub_token.unlink(missing_ok=True)
    if (keyring := _keyring()) is not None:
        try:
            if keyring.get_password(SERVICE, str(home.root)) is not None:
                keyring.delete_password(SERVICE, str(home.root))
        except Exception as error:
            _note(error)


def _keyring() -> Any | None:
    """Return the keyring's backend; none where none is worth using."""
    try:
        backend = import_module("keyring").get_keyring()
        works = backend.priority >= RECOMMENDED
    except ImportError:
        return None
    except Exception as error:
        _note(error)
        return None
    return backend if works else None


def _note(error: Exception) -> None:
    """Note that the keyring fails; its backends raise whatever the libraries below them do."""
    log.info("the keyring cannot be used: %s", type(error).__name__)
