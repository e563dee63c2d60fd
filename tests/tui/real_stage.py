"""A terminal on a real scheduler with its store, for tests of what the two do together.

The workers are fakes (see `fakes.worker`), so a test says what answers say and when.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from textual.pilot import Pilot

from fakes.worker import FakeWorker, deltas, describe
from potluck_proto.home import Home
from potluck_proto.network import unix_address
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_scheduler.daemon import SchedulerDaemon
from potluck_scheduler.settings import SchedulerSettings
from potluck_tui.client import PoolClient
from potluck_tui.terminal_profile import TerminalProfile
from tui.stage import SMALL, Screened, until

MODELS = ("echo", "other")


class RealApp(Screened):
    """The app with its own scheduler and a worker, started and ended with it.

    Attributes:
        worker: Answers every prompt with its `script`.
        daemon: The scheduler.
    """

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        self.home.prepare()
        address = unix_address(self.home.scheduler_socket)
        super().__init__(PoolClient(address), self.home, TerminalProfile())
        self.client = PoolClient(address)
        models = [describe(name, context_length=2**20) for name in MODELS]
        self.worker = FakeWorker(name="studio", models=models)
        self.daemon = SchedulerDaemon(self.home, SchedulerSettings(), validate=True)

    async def on_load(self) -> None:
        await self.daemon.start()
        address = await self.worker.serve(self.home.root / "worker.sock")
        await self.client.call(self.client.stub.AddNode, pb.AddNodeRequest(address=address))

    async def on_unmount(self) -> None:
        await super().on_unmount()
        await self.client.close()
        await self.daemon.stop()
        await self.worker.die()

    def will_say(self, *words: str) -> None:
        """Have the next answers say this, a token each."""
        self.worker.script = deltas(list(words))

    async def chat(self, *turns: tuple[str, str], title: str = "") -> str:
        """Make a chat of questions with their answers; return its id."""
        chat_id = ""
        for question, answer in turns:
            self.will_say(answer)
            submit = pb.SubmitRequest(chat_id=chat_id, content=question, model="echo")
            submitted = await self.client.call(self.client.stub.Submit, submit)
            chat_id = submitted.chat_id
            async for event in self.client.attach(submitted.generation_id):
                if event is not None and event.HasField("end"):
                    break
        if title:
            update = pb.UpdateChatRequest(chat_id=chat_id, title=title)
            await self.client.call(self.client.stub.UpdateChat, update)
        return chat_id

    @property
    def shown_texts(self) -> list[str]:
        """What the turns of the shown branch say."""
        return [turn.text for turn in self.session.conversation.turns if turn.shown]


@asynccontextmanager
async def real_stage(
    folder: Path, size: tuple[int, int] = SMALL
) -> AsyncIterator[tuple[RealApp, Pilot[None]]]:
    """Run the app until it has a pool whose worker takes work."""
    app = RealApp(folder)
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda: app.session.pool.nodes_ready == 1)
        yield app, pilot


async def ask(pilot: Pilot[None], app: RealApp, text: str, *answer: str) -> None:
    """Type a question, send it, and wait for its complete answer."""
    app.will_say(*answer)
    app.prompt.insert(text)
    typed = app.prompt.text
    await pilot.press("enter")
    await until(pilot, lambda: typed in app.shown_texts and not app.session.conversation.busy)
    await until(pilot, lambda: app.shown_texts[-1] == "".join(answer))
