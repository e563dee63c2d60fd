"""Other keys for what the tables of `keys` do, as a reader asks for them."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterator, Mapping

from textual.keys import Keys

from potluck_tui.keys import PLACES, Key, Keymap

_MODIFIERS = {"alt", "ctrl", "shift", "super"}
_NAMES = {key.value for key in Keys}
_WHERE_IDS_ARE = "F1 shows them where the terminal is wide."
_ARE_OTHERS = {"ctrl+m": "enter", "ctrl+i": "tab", "ctrl+[": "escape"}
"""What a terminal sends for these cannot be told from other keys."""


def rebound(wanted: Mapping[str, str]) -> tuple[Keymap, tuple[str, ...]]:
    """Return the keys to bind, and a sentence for each wish that cannot be.

    A key may do one thing in one place. Where it would do two, the wish is left out.

    Args:
        wanted: Keys by id, several with commas between them: `"chat.new": "ctrl+e,f12"`.
    """
    known = {key.id: key for tables in PLACES.values() for table in tables for key in table}
    keymap: dict[str, str] = {}
    problems = []
    for name, keys in wanted.items():
        if name not in known:
            near = difflib.get_close_matches(name, known)
            place = name.partition(".")[0] + "."
            nearest = max(near, key=lambda each: each.startswith(place), default="")
            advice = f"did you mean {nearest!r}?" if near else _WHERE_IDS_ARE
            problems.append(f"No key has the id {name!r}; {advice}")
        elif problem := next(filter(None, map(_problem, keys.split(","))), ""):
            problems.append(f"{name} cannot be {keys!r}: {problem}.")
        else:
            keymap[name] = ",".join(key.strip() for key in keys.split(","))
    for name in [*keymap]:
        if (other := _conflict(known[name], keymap)) is not None:
            key, place, words = other
            problems.append(
                f"{name} keeps {known[name].shown}: {key} does something else in the place "
                f"{place!r}, {words}."
            )
            del keymap[name]
    return keymap, tuple(problems)


def _conflict(key: Key, keymap: Keymap) -> tuple[str, str, str] | None:
    """Return a key that does something else as well: the key, where, and what."""
    mine = set(key.on(keymap).keys.split(","))
    for place, other in _beside(key):
        if both := mine & set(other.on(keymap).keys.split(",")):
            return min(both), place, f"{other.id} ({other.words})"
    return None


def _beside(key: Key) -> Iterator[tuple[str, Key]]:
    for place, tables in PLACES.items():
        if any(key in table for table in tables):
            for other in (each for table in tables for each in table):
                if other.id != key.id:
                    yield place, other


def _problem(key: str) -> str:
    """Return why there is no such key, in a clause; empty where there is."""
    name = key.strip()
    if name in _ARE_OTHERS:
        return f"terminals send {_ARE_OTHERS[name]} for {name}"
    *modifiers, last = name.split("+") if name != "+" else [name]
    if last and _MODIFIERS.issuperset(modifiers) and (len(last) == 1 or _is_named(last)):
        return ""
    if "-" in name and not _problem(name.replace("-", "+")):
        return f"write {name.replace('-', '+')}"
    return f"there is no key {name!r}"


def _is_named(name: str) -> bool:
    if name in _NAMES:
        return True
    try:
        unicodedata.lookup(name.replace("_", " ").upper())
    except KeyError:
        return False
    return True
