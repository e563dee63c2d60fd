"""`potluck ask`, and what `potluck` does without a terminal."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable
from typing import TextIO

from potluck_proto.errors import BadRequest, PotluckError, from_proto
from potluck_proto.home import Home
from potluck_proto.ids import new_id
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from potluck_tui.clean import clean
from potluck_tui.client import PoolClient, user_at_host
from potluck_tui.connect import running_pool
from potluck_tui.keeping import kept_running

STARTER_MODEL = "potluck-starter"
INTRODUCTION = "Why should I run a language model at home?"


async def ask(options: argparse.Namespace, home: Home) -> int:
    """Ask one question. The answer goes to stdout, where it came from to stderr."""
    request = pb.SubmitRequest(
        request_id=new_id(),
        content=_read_prompt(options.prompt),
        model=options.model,
        system_prompt=options.system,
        sampling=_sampling(options),
        tags=options.tag,
        no_move=options.no_move,
        client=f"ask:{user_at_host()}",
    )
    async with running_pool(home, options.ssh) as client, kept_running(home, options.ssh, _say):
        if options.json:
            answer = await _stream(client, request, lambda _: None)
            print(json.dumps(answer.to_json()))
        else:
            answer = await _stream(client, request, _writer())
            _print_origin(answer, sys.stderr)
            if note := await _base_note(client, answer.explanation):
                print(f"[{note}]", file=sys.stderr)
    return answer.exit_code()


async def _base_note(client: PoolClient, explanation: types.Explanation) -> str:
    """Return what to know of the model that answered, where it was not made to answer."""
    response = await client.call(client.stub.ListModels, pb.ListModelsRequest())
    for model in response.models:
        said = model.description
        is_it = (said.name, said.quantization) == (explanation.model, explanation.quantization)
        if is_it and said.tuning == types.TUNING_BASE and not said.has_chat_template:
            return clean(said.note)
    return ""


async def introduce(options: argparse.Namespace, home: Home) -> int:
    """Walk the whole path without a terminal: one question to the starter model, to stdout."""
    print("No terminal here, so this is one question to the starter model; `potluck ask` asks any.")
    print(f"\n> {INTRODUCTION}\n", flush=True)
    request = pb.SubmitRequest(request_id=new_id(), content=INTRODUCTION, model=STARTER_MODEL)
    async with running_pool(home, options.ssh) as client:
        answer = await _stream(client, request, _writer())
    _print_origin(answer, sys.stdout)
    return answer.exit_code()


class Answer:
    """An answer as it comes: its text, where it was placed, where it moved, how it ended."""

    def __init__(self) -> None:
        self.submitted = pb.SubmitResponse()
        self.text = ""
        self.explanation = types.Explanation()
        self.seams: list[pb.Seam] = []
        self.end = types.End()

    def take(self, event: pb.SubmitResponse | pb.AnswerEvent) -> str:
        """Take one event; return the text that it adds."""
        if isinstance(event, pb.SubmitResponse):
            self.submitted = event
            return ""
        match event.WhichOneof("event"):
            case "head":
                self.explanation = event.head.explanation
                self.seams = list(event.head.seams)
            case "placed":
                self.explanation = event.placed
            case "seam":
                self.seams.append(event.seam)
            case "end":
                self.end = event.end
            case "delta":
                self.text += event.delta.text
                return event.delta.text
        return ""

    def exit_code(self) -> int:
        """Return 0 for an answer, however it ended, and 1 for a failure, which is printed."""
        if self.end.reason != types.END_REASON_FAILED:
            return 0
        print(f"potluck: {clean(from_proto(self.end.error).message)}", file=sys.stderr)
        return 1

    def to_json(self) -> dict[str, object]:
        """Return the answer as plain data."""
        return {
            "chat_id": self.submitted.chat_id,
            "answer": self.text,
            "model": self.explanation.model,
            "quantization": self.explanation.quantization,
            "node": self.explanation.node_name,
            "reason": self.explanation.summary,
            "moves": [
                {
                    "after_characters": seam.text_offset,
                    "from_node": seam.from_node,
                    "to_node": seam.to_node,
                    "reason": seam.reason,
                    "exact": seam.exact,
                }
                for seam in self.seams
            ],
            "end": types.EndReason.Name(self.end.reason).removeprefix("END_REASON_").lower(),
            "prompt_tokens": self.end.usage.prompt_tokens,
            "completion_tokens": self.end.usage.completion_tokens,
            "time_to_first_token_seconds": self.end.usage.time_to_first_token_seconds,
            "tokens_per_second": self.end.usage.tokens_per_second,
            "error": self.end.error.message or None,
        }


async def _stream(
    client: PoolClient, request: pb.SubmitRequest, write: Callable[[str], None]
) -> Answer:
    """Submit, and follow the answer to its end. Ctrl+C stops the answer, as it ends this viewer."""
    answer = Answer()
    try:
        async for event in client.ask(request):
            if event is not None and (text := answer.take(event)):
                write(text)
    except asyncio.CancelledError:
        with contextlib.suppress(PotluckError):
            stop = pb.StopRequest(generation_id=answer.submitted.generation_id)
            await client.call(client.stub.Stop, stop, timeout_seconds=1.0)
        raise
    if answer.text and not answer.text.endswith("\n"):
        write("\n")
    return answer


def _say(sentence: str) -> None:
    print(f"potluck: {clean(sentence)}", file=sys.stderr)


def _writer() -> Callable[[str], None]:
    """Return a function that writes to stdout at once; a reader that left is a detached viewer."""
    to_terminal = sys.stdout.isatty()

    def write(text: str) -> None:
        try:
            sys.stdout.write(clean(text) if to_terminal else text)
            sys.stdout.flush()
        except BrokenPipeError:
            # The answer goes on in the scheduler. Python would fail again when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return write


def _print_origin(answer: Answer, file: TextIO) -> None:
    """Print where an answer came from and why, if it came from anywhere, and where it moved."""
    explanation, usage = answer.explanation, answer.end.usage
    if not answer.text:
        return
    model = ":".join(filter(None, (explanation.model, explanation.quantization)))
    speed = f"{usage.completion_tokens} tokens, {usage.tokens_per_second:.0f} tokens/s"
    first = f"first after {usage.time_to_first_token_seconds:.2f} s"
    reason = f"{explanation.node_name}; {explanation.summary}"
    print(clean(f"\n[{model} on {reason}; {speed}, {first}]"), file=file)
    for seam in answer.seams:
        how = "" if seam.exact else ", from its text alone"
        place = f"[went on at {seam.to_node} after {seam.text_offset} characters"
        print(clean(f"{place}: {seam.reason}{how}]"), file=file)
    if answer.end.HasField("not_stored"):
        print(clean(f"[not stored: {answer.end.not_stored.message}]"), file=file)


def _read_prompt(words: list[str]) -> str:
    """Return the words given and, where it is piped, what stands in standard input."""
    parts = [" ".join(words)] if words else []
    if not sys.stdin.isatty():
        parts.append(sys.stdin.buffer.read().decode(errors="replace").strip())
    prompt = "\n\n".join(filter(None, parts))
    if not prompt:
        raise BadRequest('There is no question. Write one, as in: potluck ask "What is a GGUF?"')
    return prompt


def _sampling(options: argparse.Namespace) -> types.Sampling:
    """Return what was set, with the rest left to the model."""
    sampling = types.Sampling()
    for name in ("temperature", "seed", "max_tokens"):
        value = getattr(options, name)
        if value is None:
            continue
        option = f"--{name.replace('_', '-')}"
        if value < 0:
            raise BadRequest(f"{option} cannot be {value}; it is 0 or more.")
        try:
            setattr(sampling, name, value)
        except ValueError:
            raise BadRequest(f"{option} cannot be {value}, which is too large.") from None
    return sampling
