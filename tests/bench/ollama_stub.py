"""A stand-in for Ollama: one model, which says set texts at a set pace, by either of its APIs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from typing import Any

MODEL = "tiny:latest"
DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "1B",
    "quantization_level": "Q4_K_M",
}
LISTED = {
    "name": MODEL,
    "model": MODEL,
    "modified_at": "2026-01-01T00:00:00Z",
    "size": 1000,
    "digest": "0" * 64,
    "details": DETAILS,
}
SHOWN = {
    "modelfile": "",
    "parameters": "",
    "template": "{{ .Prompt }}",
    "details": DETAILS,
    "model_info": {"general.architecture": "llama", "llama.context_length": 8192},
    "capabilities": ["completion"],
}
DURATIONS = {
    "total_duration": 10**9,
    "load_duration": 10**6,
    "prompt_eval_count": 1,
    "prompt_eval_duration": 10**6,
    "eval_duration": 10**9,
}
"""In nanoseconds; some programs divide by them."""

GETS: dict[str, object] = {
    "/api/tags": {"models": [LISTED]},
    "/api/ps": {"models": []},
    "/api/version": {"version": "0.13.0"},
    "/v1/models": {
        "object": "list",
        "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "stub"}],
    },
}


@contextmanager
def serving(answers: Sequence[Sequence[str]], pieces_per_second: float) -> Iterator[str]:
    """Yield the address of a server that answers so the first question of a chat, the second..."""

    class Handler(_Handler):
        script = answers
        pace = pieces_per_second

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: Sequence[Sequence[str]] = ()
    pace = 1.0

    def handle(self) -> None:
        with suppress(ConnectionError):  # who asked was ended
            super().handle()

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._say({})

    def do_GET(self) -> None:
        self._say(GETS.get(self.path.partition("?")[0], {}))

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
        if self.path.startswith("/api/chat"):
            self._chat(self._answer_to(asked), asked.get("stream", True))
        elif self.path.startswith("/v1/chat/completions"):
            self._completions(self._answer_to(asked), asked.get("stream", False))
        else:
            self._say(SHOWN if self.path.startswith("/api/show") else {})

    def _answer_to(self, asked: dict[str, Any]) -> Sequence[str]:
        questions = sum(message["role"] == "user" for message in asked["messages"])
        return self.script[questions - 1]

    def _chat(self, answer: Sequence[str], stream: bool) -> None:
        def message(text: str, **more: object) -> dict[str, Any]:
            said = {"role": "assistant", "content": text}
            return {"model": MODEL, "created_at": LISTED["modified_at"], "message": said, **more}

        if not stream:
            self._say(message("A title", done=True))
            return
        self._begin("application/x-ndjson")
        for piece in self._paced(answer):
            self._chunk(json.dumps(message(piece, done=False)) + "\n")
        end = {"done": True, "done_reason": "stop", "eval_count": len(answer), **DURATIONS}
        self._chunk(json.dumps(message("", **end)) + "\n")
        self._chunk("")

    def _completions(self, answer: Sequence[str], stream: bool) -> None:
        base = {"id": "stub", "created": 1, "model": MODEL}
        if not stream:
            message = {"role": "assistant", "content": "A title"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            self._say({**base, "object": "chat.completion", "choices": [choice], "usage": usage})
            return
        self._begin("text/event-stream")
        for piece in chain(self._paced(answer), (None,)):
            delta = {} if piece is None else {"role": "assistant", "content": piece}
            choice = {
                "index": 0,
                "delta": delta,
                "finish_reason": "stop" if piece is None else None,
            }
            event = {**base, "object": "chat.completion.chunk", "choices": [choice]}
            self._chunk(f"data: {json.dumps(event)}\n\n")
        self._chunk("data: [DONE]\n\n")
        self._chunk("")

    def _paced(self, answer: Sequence[str]) -> Iterator[str]:
        started = time.monotonic()
        for number, piece in enumerate(answer):
            time.sleep(max(0.0, started + number / self.pace - time.monotonic()))
            yield piece

    def _say(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _begin(self, content_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _chunk(self, text: str) -> None:
        body = text.encode()
        self.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
        self.wfile.flush()
