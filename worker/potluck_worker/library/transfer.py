"""Fetching one file over HTTP: in pieces, over several connections, resumed after any break.

The file grows in a `.part` beside a note of what of each piece is there. A broken connection goes
on from the byte where it broke; after the death of the process, what was noted is kept, and at most
`NOTE_BYTES` are fetched again. What is there is hashed while the rest comes, so a file is whole and
right, or is not there.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import Any

from potluck_proto.errors import DiskFull, HubError, PotluckError
from potluck_proto.plain import plain
from potluck_worker.library.http_get import get
from potluck_worker.library.remote import RemoteFile

PIECE_BYTES = 128 * 2**20
READ_BYTES = 2**19
NOTE_BYTES = 8 * 2**20
CONNECTIONS = 4

TRIES = 6
"""Times in a row that a piece may bring nothing before the fetch is given up."""

RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 30.0
SILENCE_SECONDS = 30.0
"""A connection that brings nothing for so long is broken."""

REPORT_SECONDS = 0.25

REASON = "X-Error-Code"
"""The header in which the hub says why it refuses."""


@dataclass(slots=True)
class Piece:
    """A range of a file."""

    start: int
    end: int
    done: int = 0
    """Bytes of it that are there."""


class NoRanges(Exception):
    """The server sends the whole file, whatever part is asked for."""


class Transfer:
    """Fetches one file.

    Args:
        url: Where the file is; redirects are followed.
        headers: For the request, such as a token; those are not sent on to another host.
        file: What is to come.
        target: Where to; it is there when it is whole.
        report: Called with the bytes that are there, some times a second.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        file: RemoteFile,
        target: Path,
        report: Callable[[int], None],
    ) -> None:
        self._url = url
        self._headers = dict(headers) | {"Accept-Encoding": "identity"}
        self._file = file
        self._target = target
        self._part = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.note")
        self._report = report
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._pieces = self._noted() or self._fresh()

    @property
    def done_bytes(self) -> int:
        """Bytes that are there."""
        return sum(piece.done for piece in self._pieces)

    def run(self) -> None:
        """Fetch the file.

        Raises:
            HubError: It cannot be fetched, or what came is not what was promised.
            DiskFull: The disk is full.
        """
        for _ in range(TRIES):
            try:
                self._fetch()
                break
            except NoRanges:
                # Where it breaks it can only begin anew.
                self._pieces = [Piece(0, self._file.size_bytes)]
                self._failure = None
        else:
            raise HubError(
                f"{self._file.name} broke off {TRIES} times, and the server cannot send the rest "
                "alone. Try again on a better connection."
            )
        self._note.unlink(missing_ok=True)
        self._part.replace(self._target)

    def _fresh(self) -> list[Piece]:
        size = self._file.size_bytes
        starts = range(0, size, PIECE_BYTES) if size else [0]
        return [Piece(start, min(start + PIECE_BYTES, size)) for start in starts]

    def _noted(self) -> list[Piece] | None:
        """Return the pieces of an earlier fetch of the same file, if its note holds."""
        try:
            note = json.loads(self._note.read_text())
            pieces = [Piece(*map(int, piece)) for piece in note["pieces"]]
            there = self._part.stat().st_size
        except (OSError, ValueError, KeyError, TypeError):
            return None
        edges = [0, *(piece.end for piece in pieces)]
        holds = note.get("file") == self._identity and edges[-1] == self._file.size_bytes
        holds = holds and [piece.start for piece in pieces] == edges[:-1]
        holds = holds and all(0 <= piece.done <= piece.end - piece.start for piece in pieces)
        last = max((piece.start + piece.done for piece in pieces if piece.done), default=0)
        return pieces if holds and there >= last else None

    @property
    def _identity(self) -> list[Any]:
        return [self._file.name, self._file.size_bytes, self._file.sha256, self._file.git_sha1]

    def _fetch(self) -> None:
        """Fetch what is missing, hash what is there, and compare."""
        descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            waiting = deque(p for p in self._pieces if p.done < p.end - p.start)
            with ThreadPoolExecutor(CONNECTIONS) as pool:
                for _ in range(min(CONNECTIONS, len(waiting))):
                    pool.submit(self._work, waiting, descriptor)
                try:
                    digest = self._hash(descriptor)
                except BaseException as error:
                    self._fail(error)  # the others stop at their next bytes
                    raise
        finally:
            os.close(descriptor)
        expected = self._file.sha256 or self._file.git_sha1
        if expected and digest != expected:
            self._part.unlink()
            self._note.unlink(missing_ok=True)
            raise HubError(
                f"{self._file.name} came damaged: its hash is {digest[:16]}…, and the hub promises "
                f"{expected[:16]}…. Nothing of it is kept; fetch it again."
            )

    def _work(self, waiting: deque[Piece], descriptor: int) -> None:
        """Fetch pieces while there are some."""
        try:
            while self._failure is None:
                try:
                    piece = waiting.popleft()
                except IndexError:
                    return
                self._fetch_piece(piece, descriptor)
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def _fetch_piece(self, piece: Piece, descriptor: int) -> None:
        """Fetch a piece, over as many connections as it takes."""
        tries = 0
        while piece.done < piece.end - piece.start and self._failure is None:
            before, wait_seconds = piece.done, 0.0
            try:
                wait_seconds = self._request(piece, descriptor)
                reason = "the connection ended early"
            except (OSError, HTTPException) as error:
                reason = _words(error)
            tries = 0 if piece.done > before else tries + 1
            if tries >= TRIES:
                raise HubError(
                    f"{self._file.name} stopped at {self.done_bytes:,} of "
                    f"{self._file.size_bytes:,} bytes, and {TRIES} tries brought no more: "
                    f"{reason}. What came is kept; ask again to go on."
                )
            if tries:
                pause = min(RETRY_SECONDS * 2 ** (tries - 1), LONGEST_RETRY_SECONDS)
                self._pause(max(pause, wait_seconds))

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + min(seconds, LONGEST_RETRY_SECONDS)
        with self._changed:
            while self._failure is None and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)

    def _request(self, piece: Piece, descriptor: int) -> float:
        """Make one request for the rest of a piece; return seconds that it is asked to wait."""
        start = piece.start + piece.done
        headers = self._headers | {"Range": f"bytes={start}-{piece.end - 1}"}
        with get(self._url, headers, SILENCE_SECONDS) as answer:
            if answer.status == 429 or answer.status >= 500:
                return _retry_after(answer.headers)
            self._check(answer, start)
            while self._failure is None and (left := piece.end - piece.start - piece.done):
                data = answer.read1(min(left, READ_BYTES))
                if not data:
                    break
                self._keep(piece, data, descriptor)
        return 0.0

    def _check(self, answer: HTTPResponse, start: int) -> None:
        """Raise where an answer is not the part that was asked for."""
        status, size = answer.status, self._file.size_bytes
        said = answer.headers.get("Content-Range", "")
        if status == 206 and said.startswith(f"bytes {start}-"):
            total = said.rpartition("/")[2]
            if total in ("*", str(size)):
                return
            raise _changed(self._file.name, total, size)
        if status == 200:
            total = answer.headers.get("Content-Length", str(size))
            if total != str(size):
                raise _changed(self._file.name, total, size)
            if start or len(self._pieces) > 1:
                raise NoRanges
            return
        if status == 416:
            raise _changed(self._file.name, said.rpartition("/")[2] or "other", size)
        raise refusal(status, self._file.name, answer.headers.get(REASON, ""))

    def _keep(self, piece: Piece, data: bytes, descriptor: int) -> None:
        """Write what came of a piece."""
        offset = piece.start + piece.done
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(descriptor, view, offset)
                view, offset = view[written:], offset + written
        except OSError as error:
            raise DiskFull(
                f"{self._part} cannot be written: {error.strerror}, at {self.done_bytes:,} of "
                f"{self._file.size_bytes:,} bytes. What came is kept; make room and ask again."
            ) from error
        with self._changed:
            piece.done += len(data)
            self._changed.notify_all()

    def _hash(self, descriptor: int) -> str:
        """Hash the file as it comes, note what is there, and report; return the hash."""
        digest = hashlib.sha256()
        if not self._file.sha256 and self._file.git_sha1:
            digest = hashlib.sha1(f"blob {self._file.size_bytes}\0".encode(), usedforsecurity=False)
        hashed, noted, reported = 0, self.done_bytes, 0.0
        while hashed < self._file.size_bytes:
            with self._changed:
                if self._failure is not None:
                    self._write_note()
                    raise self._failure
                if (ready := self._beginning()) == hashed:
                    self._changed.wait(REPORT_SECONDS)
            if ready > hashed:
                data = os.pread(descriptor, min(READ_BYTES, ready - hashed), hashed)
                digest.update(data)
                hashed += len(data)
            if self.done_bytes - noted >= NOTE_BYTES:
                self._write_note()
                noted = self.done_bytes
            if time.monotonic() - reported >= REPORT_SECONDS:
                self._report(self.done_bytes)
                reported = time.monotonic()
        return digest.hexdigest()

    def _beginning(self) -> int:
        """Return how much of the file is there without a gap from its start."""
        for piece in self._pieces:
            if piece.done < piece.end - piece.start:
                return piece.start + piece.done
        return self._file.size_bytes

    def _write_note(self) -> None:
        pieces = [[piece.start, piece.end, piece.done] for piece in self._pieces]
        draft = self._note.with_suffix(".new")
        try:
            draft.write_text(json.dumps({"file": self._identity, "pieces": pieces}))
            draft.replace(self._note)
        except OSError:
            # On a full disk the part is kept without its latest note, and some is fetched again.
            draft.unlink(missing_ok=True)


def refusal(status: int, what: str, reason: str) -> PotluckError:
    """Return what an answer of the hub means that is a refusal.

    Args:
        status: Of the answer.
        what: What was asked for.
        reason: A word, which the hub sends as `REASON`.
    """
    if reason == "RepoNotFound":
        # The hub does not tell strangers which of the two it is.
        return HubError(
            f"{what} is not at the hub, or it is private. Look for the name with `potluck search`; "
            "to read a private one, give a token that may to `potluck login`."
        )
    if reason == "GatedRepo" and status == 401:
        return HubError(
            f"{what} is gated: its terms must be accepted first. Accept them on the hub's page of "
            "the model, and give a token of yours to `potluck login`."
        )
    if status == 401:
        return HubError(
            f"The hub gives {what} to those alone whose token it knows: there is none here, or it "
            "is wrong or was revoked. Give a new one to `potluck login`."
        )
    if status == 403:
        return HubError(
            f"The hub refuses {what} (403): your token is not enough. Accept its terms on the "
            "hub's page of the model, where its maker may have to let you in, then ask again."
        )
    if status == 404:
        return HubError(f"The hub has no {what}. Look for it with `potluck search`.")
    return HubError(f"The hub answers {status} to a request for {what}. Try again later.")


def _words(error: Exception) -> str:
    """Return why a connection failed; urllib wraps what the system says."""
    return plain(getattr(error, "reason", error))


def _changed(name: str, said: str, expected: int) -> HubError:
    return HubError(
        f"{name} is {said} bytes long at the hub now, and was {expected:,} a moment ago: it was "
        "changed meanwhile. Ask again."
    )


def _retry_after(headers: HTTPMessage) -> float:
    said = headers.get("Retry-After", "")
    return float(said) if said.isdecimal() else 0.0
