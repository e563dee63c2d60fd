"""What goes over a network: every frame at an interface, and what zeroconf says in them."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from zeroconf._dns import DNSText
from zeroconf._protocol.incoming import DNSIncoming

ALL_PROTOCOLS = 3
IPV4 = 0x0800
UDP = 17
MDNS_PORT = 5353


class Capture:
    """The frames that were seen."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    @property
    def everything(self) -> bytes:
        """All frames, one after the other."""
        return b"\n".join(self.frames)

    def announced(self) -> list[dict[bytes, bytes]]:
        """Return the TXT records of Potluck that were told, as keys and values."""
        return [
            _entries(answer.text)
            for payload in filter(None, map(_mdns_payload, self.frames))
            for answer in DNSIncoming(payload).answers()
            if isinstance(answer, DNSText) and "_potluck._tcp" in answer.name
        ]


@contextmanager
def captured(interface: str) -> Iterator[Capture]:
    """Capture all that comes by at an interface. Needs root."""
    capture, stop = Capture(), threading.Event()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS)) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**24)
        raw.bind((interface, 0))
        raw.settimeout(0.1)

        def read() -> None:
            while not stop.is_set():
                try:
                    capture.frames.append(raw.recv(65_536))
                except TimeoutError:
                    continue

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield capture
        finally:
            stop.set()
            reader.join()


def _mdns_payload(frame: bytes) -> bytes | None:
    """Return what a frame says over zeroconf, if it does."""
    if len(frame) < 42 or struct.unpack_from(">H", frame, 12)[0] != IPV4 or frame[23] != UDP:
        return None
    start = 14 + (frame[14] & 15) * 4
    _, port = struct.unpack_from(">HH", frame, start)
    return frame[start + 8 :] if port == MDNS_PORT else None


def _entries(text: bytes) -> dict[bytes, bytes]:
    entries, at = {}, 0
    while at < len(text):
        length = text[at]
        key, _, value = text[at + 1 : at + 1 + length].partition(b"=")
        entries[key] = value
        at += 1 + length
    return entries
