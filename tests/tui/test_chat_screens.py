"""Pictures of what chatting looks like, at the design size and at a large one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types
from tui.fake_scheduler import COMPLETE
from tui.stage import LARGE, SMALL, StagedApp, until

Compare = Callable[..., bool]
Size = tuple[int, int]

SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "200x50"])
LLAMA = "llama-3.1-8b-instruct:Q4_K_M"
QWEN = "qwen2.5-32b-instruct:Q5_K_M"
THOUGHT = "<think>They ask for a name. Short, and easy to call at night.</think>"
CODE = "\n\n```python\ndef call(name: str) -> str:\n    return name.upper()\n```\n"
STOPPED = types.End(reason=types.END_REASON_STOPPED)


def question(text: str, **more: object) -> pb.StoredMessage:
    message = pb.StoredMessage(message_id="u1", role=types.ROLE_USER, content=text, shown=True)
    message.MergeFrom(pb.StoredMessage(**more))  # type: ignore[arg-type]
    return message


def answer(text: str, *, end: types.End = COMPLETE, **more: object) -> pb.StoredMessage:
    message = pb.StoredMessage(
        message_id="a1",
        parent_message_id="u1",
        role=types.ROLE_ASSISTANT,
        content=text,
        generation_id="g1",
        model=LLAMA,
        explanation=types.Explanation(summary="studio: in memory, 1 of 4 slots busy"),
        shown=True,
        end=end,
    )
    message.MergeFrom(pb.StoredMessage(**more))  # type: ignore[arg-type]
    return message


def add_chat(app: StagedApp, *messages: pb.StoredMessage, **more: object) -> None:
    chat = app.scheduler.add_chat("c1", "A name for a cat")
    chat.chat.MergeFrom(pb.Chat(revision=1, model=LLAMA, **more))  # type: ignore[arg-type]
    chat.messages.extend(messages)


def pictured(app: StagedApp, compare: Compare, size: Size, keys: list[str], shown: str) -> bool:
    """Press keys once the chat is there; compare the screen that then shows a text."""

    async def stage(pilot: Pilot[None]) -> None:
        await until(
            pilot,
            lambda: bool(app.session.conversation.turns) and not app.session.conversation.busy,
        )
        await until(pilot, lambda: len(app.session.presets) == len(app.scheduler.presets))
        # Textual does not draw a screen that a dialog covers: it has to be there before the keys.
        await until(pilot, lambda: any(app.rows()))
        await until(pilot, lambda: size == SMALL or app.shows("nodes ready"))
        for key in keys:  # each is drawn before the next: see above
            await pilot.press(key)
            await pilot.pause()
        await until(pilot, lambda: app.shows(shown))
        await until(pilot, lambda: size == SMALL or app.shows("nodes ready"))

    return compare(app, terminal_size=size, run_before=stage)


@SIZES
def test_branches(app: StagedApp, snap_compare: Compare, size: Size) -> None:
    add_chat(
        app,
        question("A name for a black cat?", sibling_ids=["u0", "u1", "u2"]),
        answer(THOUGHT + "**Mia**, since it is short:" + CODE, sibling_ids=["a0", "a1"]),
        question("And for a dog?", message_id="u3", parent_message_id="a1"),
        answer("**Rex**, or", message_id="a3", parent_message_id="u3", end=STOPPED),
    )
    assert pictured(app, snap_compare, size, ["tab", "up", "up"], "▌ ‹2/2›")


@SIZES
def test_thoughts(app: StagedApp, snap_compare: Compare, size: Size) -> None:
    end = types.End(
        reason=types.END_REASON_END_OF_TURN, usage=types.Usage(thought_seconds=3.4, queue_seconds=2)
    )
    seam = pb.Seam(text_offset=75, to_node="attic", reason="studio fell silent", exact=True)
    add_chat(app, question("A name?"), answer(THOUGHT + "**Mia**.", end=end, seams=[seam]))
    assert pictured(app, snap_compare, size, ["tab", "space"], "▾ thought for 3.4 s")


@SIZES
def test_side_by_side(app: StagedApp, snap_compare: Compare, size: Size) -> None:
    ids = ["a1", "a2"]
    add_chat(
        app,
        question("A name for a black cat?"),
        answer("**Mia**, since it is short:" + CODE, sibling_ids=ids),
        answer(
            THOUGHT + "Call it:\n\n- *Nox*\n- Ink, which is what it looks like on a white sheet",
            message_id="a2",
            generation_id="g2",
            model=QWEN,
            sibling_ids=ids,
            beside_message_id="a1",
        ),
        beside_model=QWEN,
    )
    app.scheduler.chats["c1"].messages[-1].shown = False
    assert pictured(app, snap_compare, size, ["tab"], "▌ ‹1/2›")


@SIZES
def test_files_and_a_long_question(app: StagedApp, snap_compare: Compare, size: Size) -> None:
    files = [pb.Attachment(name="src/main.py", content="print(1)\n" * 99)]
    lines = "\n".join(f"line {number} of what was pasted" for number in range(40))
    add_chat(
        app,
        question("What does @src/main.py do?", attachments=files),
        answer("It prints."),
        question(lines, message_id="u2", parent_message_id="a1"),
        answer("It counts.", message_id="a2", parent_message_id="u2"),
    )
    assert pictured(app, snap_compare, size, [], "▸ 29 more lines")


@SIZES
def test_search(app: StagedApp, snap_compare: Compare, size: Size) -> None:
    parts = [
        ("…", False),
        ("Mia", True),
        (", since it is short and easy to call. And then ", False),
    ]
    app.scheduler.hits = [
        pb.SearchHit(chat_id="c2", chat_title="Mia's diary"),
        pb.SearchHit(
            chat_id="c1",
            chat_title="A name for a cat",
            message_id="a1",
            snippet=[pb.SnippetPart(text=text, match=match) for text, match in parts],
        ),
    ]
    add_chat(app, question("A name?"), answer("**Mia**, since it is short."))
    assert pictured(app, snap_compare, size, ["ctrl+f", *"mia"], "2 hits")


@SIZES
def test_hit_in_place(app: StagedApp, snap_compare: Compare, size: Size) -> None:
    app.scheduler.hits = [
        pb.SearchHit(chat_id="c1", chat_title="A name", message_id=name) for name in ("a1", "u1")
    ]
    add_chat(app, question("Mia or Tom?"), answer("**Mia**, since it is short.\n\n" + CODE * 4))
    assert pictured(app, snap_compare, size, ["ctrl+f", *"mia", "enter"], "hit 1 of 2: n, N")


@SIZES
def test_options(app: StagedApp, snap_compare: Compare, size: Size) -> None:
    preset = pb.Preset(
        name="precise",
        sampling=types.Sampling(temperature=0.2, stop=["END", "\n\n"]),
        thinking=False,
    )
    app.scheduler.presets = [preset]
    add_chat(app, question("A name?"), answer("Mia."), preset=preset, system_prompt="Be brief.")
    assert pictured(app, snap_compare, size, ["ctrl+s"], "‹ off ›")


@SIZES
def test_editing_with_a_file(
    app: StagedApp,
    snap_compare: Compare,
    size: Size,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "names.txt").write_text("Mia\nTom\n")
    monkeypatch.chdir(tmp_path)
    add_chat(app, question("One of @names.txt?"), answer("Mia."))
    assert pictured(app, snap_compare, size, ["tab", "e"], "with names.txt (8 B)")


@SIZES
def test_which_code_block(app: StagedApp, snap_compare: Compare, size: Size) -> None:
    add_chat(app, question("How?"), answer("So:" + CODE + "or\n\n```\necho mia\n```\n"))
    assert pictured(app, snap_compare, size, ["tab", "Y"], "2 echo mia")


@SIZES
def test_list_of_deleted(app: StagedApp, snap_compare: Compare, size: Size) -> None:
    add_chat(app, question("A name?"), answer("Mia."))
    app.scheduler.add_chat("c2", "Backups with restic", ("q", "a"))
    app.scheduler.deleted["c2"] = app.scheduler.chats.pop("c2")
    keys = ["ctrl+o", "tab", "tab"]
    assert pictured(app, snap_compare, size, keys, "Backups with restic")


@SIZES
def test_help_of_messages(app: StagedApp, snap_compare: Compare, size: Size) -> None:
    add_chat(app, question("A name?"), answer("Mia."))
    assert pictured(app, snap_compare, size, ["tab", "question_mark"], "Keys: messages")


@SIZES
def test_open_code_block(app: StagedApp, snap_compare: Compare, size: Size) -> None:
    async def stage(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: app.session.connected is True)
        await pilot.press("a", "enter")
        await until(pilot, lambda: bool(app.session.conversation.under_way))
        code = "".join(f"def step_{n}() -> int:\n    return {n}\n\n" for n in range(30))
        await app.scheduler.last_answer.write(f"So:\n\n```python\n{code}")
        await until(pilot, lambda: app.shows("return 29"))
        await until(pilot, lambda: len(app.session.library.chats) == 1)

    assert snap_compare(app, terminal_size=size, run_before=stage)


def test_narrow(app: StagedApp, snap_compare: Compare) -> None:
    text = "漢字 👍 שלום e\u0301\u0323 " + "x" * 60
    add_chat(app, question(text), answer(f"{text}\n\n| a | b |\n|---|---|\n| {'y' * 30} | z |\n"))
    assert pictured(app, snap_compare, (40, 16), [], "z")
