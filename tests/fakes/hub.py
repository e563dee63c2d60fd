"""A model hub for tests: real HTTP as the real one speaks it, and as badly as a test wants.

The API answers JSON; `resolve` redirects to another host name on the same machine, as the hub does
to its network of caches, which serves ranges with an ETag. `Trouble` says what goes wrong there.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "c0ffee" * 6 + "abcd"
BLOCK_BYTES = 65536
"""What is sent at once."""


@dataclass
class HubFile:
    """A file of a repository; small ones are in git, others in large storage."""

    content: bytes
    large: bool = True
    sha256: str = ""
    """What the hub promises; by default the truth."""

    @property
    def promised(self) -> str:
        """The hash that metadata names."""
        return self.sha256 or hashlib.sha256(self.content).hexdigest()


@dataclass
class HubRepo:
    """A repository."""

    files: dict[str, HubFile]
    tags: list[str] = field(default_factory=lambda: ["gguf", "license:apache-2.0"])
    parameters: int = 0
    downloads: int = 1000
    gated: bool = False
    token: str = ""
    """Only with this one are its files given."""
    private: bool = False
    """Without the token it is as if it were not there."""


@dataclass
class Trouble:
    """What goes wrong with answers about content.

    Attributes:
        cut_after: Bytes after which each answer's connection is cut; `None` never.
        statuses: Answered instead of content, one after the other.
        no_ranges: Whole files are sent, whatever is asked.
        grown_by: Bytes that the file has become longer.
        retry_after: Sent with statuses.
        slowly: Called before each block is sent.
    """

    cut_after: int | None = None
    statuses: list[int] = field(default_factory=list)
    no_ranges: bool = False
    grown_by: int = 0
    retry_after: str = ""
    slowly: Callable[[int], object] = lambda sent: None


@dataclass
class Request:
    """What somebody asked for."""

    path: str
    host: str
    range: str
    token: str
    sent_bytes: int = 0


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Say nothing of who left."""


class FakeHub:
    """The server; use it as a context manager.

    Args:
        tls: It speaks HTTPS with this.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.repos: dict[str, HubRepo] = {}
        self.revoked = ""
        """A token that is no longer known."""
        self.renamed: dict[str, str] = {}
        self.elsewhere = ""
        self.trouble = Trouble()
        self.requests: list[Request] = []
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._scheme = "http"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
            self._scheme = "https"

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT is for it."""
        return f"{self._scheme}://localhost:{self.port}"

    @property
    def content_requests(self) -> list[Request]:
        """What was asked of the network of caches."""
        return [request for request in self.requests if request.path.startswith("/cdn/")]

    @property
    def sent_bytes(self) -> int:
        """Bytes of content that went out."""
        return sum(request.sent_bytes for request in self.content_requests)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def describe(self, name: str) -> dict[str, Any]:
        """Return a repository as the API does."""
        repo = self.repos[name]
        siblings = []
        for path, file in repo.files.items():
            content = file.content
            entry: dict[str, Any] = {"rfilename": path, "size": len(content)}
            entry["blobId"] = hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()
            if file.large:
                lfs = {"sha256": file.promised, "size": len(content), "pointerSize": 134}
                entry["lfs"] = lfs
            siblings.append(entry)
        described: dict[str, Any] = {
            "id": name,
            "modelId": name,
            "sha": COMMIT,
            "tags": repo.tags,
            "downloads": repo.downloads,
            "likes": 7,
            "gated": "manual" if repo.gated else False,
            "siblings": siblings,
        }
        if repo.parameters:
            gguf = {"total": repo.parameters, "architecture": "llama", "context_length": 2048}
            described["gguf"] = gguf
        return described


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            host = self.headers.get("Host", "")
            request = Request(parts.path, host, self.headers.get("Range", ""), token)
            hub.requests.append(request)
            path = unquote(parts.path).strip("/").split("/")
            if token and token == hub.revoked:
                said = "Invalid credentials in Authorization header"
                self._answer(401, {"X-Error-Message": said})
            elif path[:2] == ["api", "models"]:
                self._api("/".join(path[2:4]), parse_qs(parts.query), token)
            elif path[:1] == ["cdn"]:
                self._content(request, "/".join(path[1:3]), "/".join(path[3:]))
            elif len(path) > 4 and path[2] == "resolve":
                self._resolve("/".join(path[:2]), "/".join(path[4:]), token)
            else:
                self._answer(404)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _api(self, name: str, query: dict[str, list[str]], token: str) -> None:
            if not name:
                word = query.get("search", [""])[0].lower()
                found = [hub.describe(n) for n in hub.repos if word in n.lower()]
                for each in found:
                    each["siblings"] = [{"rfilename": s["rfilename"]} for s in each["siblings"]]
                self._json(found[: int(query["limit"][0])])
            elif name not in hub.repos or not self._sees(hub.repos[name], token):
                # The real hub does not say whether a repository is private or not there.
                headers = {"X-Error-Code": "RepoNotFound"}
                self._answer(404 if token else 401, headers)
            else:
                self._json(hub.describe(name))

        @staticmethod
        def _sees(repo: HubRepo, token: str) -> bool:
            return not repo.private or token == repo.token

        def _resolve(self, name: str, file: str, token: str) -> None:
            repo = hub.repos.get(name)
            if name in hub.renamed:
                there = self.path.replace(name, hub.renamed[name], 1)
                self._answer(307, {"Location": there})
            elif repo is None or file not in repo.files:
                self._answer(404, {"X-Error-Code": "EntryNotFound"})
            elif repo.token and token != repo.token:
                self._answer(403 if token else 401, {"X-Error-Code": "GatedRepo"})
            else:
                found = repo.files[file]
                place = (
                    hub.elsewhere or f"http://127.0.0.1:{hub.port}/cdn/{name}/{file}?Signature=x"
                )
                self._answer(
                    302,
                    {
                        "Location": place,
                        "X-Repo-Commit": COMMIT,
                        "X-Linked-Size": str(len(found.content)),
                        "X-Linked-Etag": f'"{found.promised}"',
                        "X-Xet-Hash": found.promised,
                    },
                )

        def _content(self, request: Request, name: str, file: str) -> None:
            trouble = hub.trouble
            if trouble.statuses:
                after = {"Retry-After": trouble.retry_after} if trouble.retry_after else {}
                self._answer(trouble.statuses.pop(0), after)
                return
            found = hub.repos[name].files[file]
            content = memoryview(
                found.content + b"x" * trouble.grown_by if trouble.grown_by else found.content
            )
            start, end, status = 0, len(content) - 1, 200
            headers = {"ETag": f'"{found.promised}"', "Accept-Ranges": "bytes"}
            if request.range and not trouble.no_ranges:
                first, _, last = request.range.removeprefix("bytes=").partition("-")
                start, end, status = int(first), min(int(last or end), end), 206
                headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(end + 1 - start))
            self.end_headers()
            self._send(request, content[start : end + 1])

        def _send(self, request: Request, content: memoryview) -> None:
            cut = hub.trouble.cut_after
            if cut is not None and cut < len(content):
                content, self.close_connection = content[:cut], True
            try:
                for offset in range(0, len(content), BLOCK_BYTES):
                    hub.trouble.slowly(request.sent_bytes)
                    block = content[offset : offset + BLOCK_BYTES]
                    # Counted first: who has it all may look at once.
                    request.sent_bytes += len(block)
                    self.wfile.write(block)
            except OSError:
                self.close_connection = True

        def _json(self, value: object) -> None:
            self._answer(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

        def _answer(
            self, status: int, headers: dict[str, str] | None = None, body: bytes = b""
        ) -> None:
            self.send_response(status, HTTPStatus(status).phrase)
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
