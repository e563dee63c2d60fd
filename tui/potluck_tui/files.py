"""Files of this machine: those that go with a prompt, and those that are written for the reader.

A prompt names a file as `@path`, or `@"path"` where it has spaces. What names no file is text, as
in an address or a decorator.
"""

from __future__ import annotations

import codecs
import os
import re
import stat
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path

from potluck_proto.errors import BadRequest
from potluck_tui.views import AttachedFile
from potluck_tui.words import size

FILE_LIMIT_BYTES = 2**20
"""What a prompt may have in all; the scheduler counts the text and all files together."""

FILES_LIMIT = 20
ENTRIES_LOOKED_AT = 2000
"""A folder with more is completed from these."""

_MENTION = re.compile(r'(?<!\S)@(?:"([^"\n]+)"|([^\s"]+))')
_UNFINISHED = re.compile(r'(?<!\S)@(?:"([^"\n]*)|([^\s"]*))$')
_PUNCTUATION = ".,;:!?)]}'"


def here() -> Path:
    """Return the folder where relative paths start."""
    try:
        return Path.cwd()
    except OSError:  # it was deleted
        return Path.home()


def mentions(text: str) -> list[str]:
    """Return what a text names with `@`, each once."""
    return list(dict.fromkeys(quoted or bare for quoted, bare in _MENTION.findall(text)))


def attached(
    text: str, folders: Sequence[Path], known: Sequence[AttachedFile] = ()
) -> list[AttachedFile]:
    """Return the files that a text names.

    Args:
        text: A prompt.
        folders: Where a relative path starts, the first that has it.
        known: Files that are here already, under their names.

    Raises:
        BadRequest: A file is too large, not text, or cannot be read; or there are too many.
    """
    named = _named(text, folders, known)
    if len(named) > FILES_LIMIT:
        raise BadRequest(f"The prompt names {len(named)} files; {FILES_LIMIT} can go with it.")
    return [
        file if isinstance(file, AttachedFile) else read(file, name) for name, file in named.items()
    ]


def described(text: str, folders: Sequence[Path], known: Sequence[AttachedFile] = ()) -> str:
    """Return in words which files a text names, without reading them (see `attached`)."""
    words = []
    for name, file in _named(text, folders, known).items():
        try:
            count = file.size_bytes if isinstance(file, AttachedFile) else file.stat().st_size
        except OSError as error:
            words.append(f"{name}: {error.strerror}")
        else:
            room = "" if count <= FILE_LIMIT_BYTES else f", too large: {size(FILE_LIMIT_BYTES)} fit"
            words.append(f"{name} ({size(count)}{room})")
    return ", ".join(words)


def missing(
    text: str,
    folders: Sequence[Path],
    known: Sequence[AttachedFile] = (),
    typing: str | None = None,
) -> list[str]:
    """Return what a text names that is no file (see `attached`) and looks like the path of one.

    So does a name under which there is a folder, a pipe or a device.

    Args:
        text: A prompt.
        folders: Where a relative path starts.
        known: Files that are here already.
        typing: What somebody is typing still.
    """
    found = _named(text, folders, known)
    return [
        mention
        for mention in mentions(text)
        if mention != typing
        and not {mention, mention.rstrip(_PUNCTUATION)} & found.keys()
        and (
            re.search(r"[./]", mention.rstrip(_PUNCTUATION))
            or _first(mention, folders, Path.exists) is not None
        )
    ]


def _named(
    text: str, folders: Sequence[Path], known: Sequence[AttachedFile]
) -> dict[str, AttachedFile | Path]:
    """Return what a text names, by the name: a file that is known, else one on the disk."""
    by_name = {file.name: file for file in known}
    found: dict[str, AttachedFile | Path] = {}
    for mention in mentions(text):
        for name in (mention, mention.rstrip(_PUNCTUATION)):
            file = by_name.get(name) or find(name, folders)
            if file is not None:
                found[name] = file
                break
    return found


def find(name: str, folders: Sequence[Path]) -> Path | None:
    """Return the file that a name means, `None` where it means none."""
    return _first(name, folders, Path.is_file)


def _first(name: str, folders: Sequence[Path], is_meant: Callable[[Path], bool]) -> Path | None:
    """Return the first place of a name that is as it must be."""
    if not name:
        return None
    try:
        path = Path(name).expanduser()
        return next((place for f in folders if is_meant(place := f / path)), None)
    except (OSError, RuntimeError, ValueError):  # too long, no such user, a zero byte
        return None


def read(path: Path, name: str) -> AttachedFile:
    """Return a text file. Raises `BadRequest`."""
    try:
        # Not to hang where a pipe has taken the file's place.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BadRequest(f"{name} is not a file.")
            content = file.read(FILE_LIMIT_BYTES + 1)
    except OSError as error:
        raise BadRequest(f"{name} cannot be read ({error.strerror}).") from error
    if len(content) > FILE_LIMIT_BYTES:
        raise BadRequest(
            f"{name} has {size(status.st_size)}; a prompt with its files has room for "
            f"{size(FILE_LIMIT_BYTES)}."
        )
    return AttachedFile(name, _text(content, name))


def _text(content: bytes, name: str) -> str:
    marked = content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    encoding, shown = ("utf-16", "UTF-16") if marked else ("utf-8-sig", "UTF-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise BadRequest(
            f"{name} is not text: byte {error.start + 1:,} of {len(content):,} is not {shown}."
        ) from None
    if "\0" in text:
        raise BadRequest(f"{name} is not text: it has a zero byte at {text.index(chr(0)) + 1:,}.")
    return text


def unfinished(before_cursor: str) -> str | None:
    """Return the path that is being typed behind an `@`, `None` where none is."""
    match = _UNFINISHED.search(before_cursor)
    return None if match is None else (match[1] if match[1] is not None else match[2])


def completions(typed: str, folders: Sequence[Path]) -> list[str]:
    """Return the paths that begin as what is typed, by name; folders end with a slash."""
    head, slash, beginning = typed.rpartition("/")
    found: set[str] = set()
    for folder in folders:
        try:
            with os.scandir(folder / Path(f"{head}{slash}").expanduser()) as entries:
                for number, entry in enumerate(entries):
                    if number == ENTRIES_LOOKED_AT:
                        break
                    hidden = entry.name.startswith(".") and not beginning.startswith(".")
                    if entry.name.startswith(beginning) and not hidden:
                        found.add(f"{head}{slash}{entry.name}{'/' if entry.is_dir() else ''}")
        except (OSError, RuntimeError, ValueError):
            continue
    return sorted(found)


def common_beginning(paths: Sequence[str]) -> str:
    """Return what all paths begin with."""
    first, last = min(paths), max(paths)
    same = sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    )
    return first[:same]


def as_mention(path: str, *, whole: bool = True) -> str:
    """Return a path as a prompt names it, ready to go on typing.

    Args:
        path: A folder ends with a slash, and stays open for what is in it.
        whole: It is not just the beginning of one.
    """
    spaced = any(character.isspace() for character in path)
    opening, closing = ('@"', '" ') if spaced else ("@", " ")
    return opening + path + (closing if whole and not path.endswith("/") else "")


def forget_pasted(folder: Path, before_unix_seconds: float) -> None:
    """Delete pasted texts that are older than that: they were sent long ago, or never will be."""
    for path in folder.glob("pasted-*.txt"):
        try:
            if path.stat().st_mtime < before_unix_seconds:
                path.unlink()
        except OSError:
            continue


def keep_pasted(text: str, folder: Path) -> str:
    """Write a long pasted text to a file of a folder; return its name. Raises `OSError`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    number = 1
    while True:
        name = f"pasted-{number}.txt"
        try:
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            number += 1
            continue
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        return name


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, in a folder that is made where it is missing.

    Raises `OSError`.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
