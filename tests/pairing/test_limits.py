from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pairing.conftest import House, ask, running_house
from potluck_proto.errors import LimitReached, SettingsError
from potluck_proto.home import Home
from potluck_proto.identity import Identity, Role
from potluck_proto.limits import Limits
from potluck_proto.settings import load
from potluck_proto.v1 import scheduler_pb2 as pb


@contextlib.asynccontextmanager
async def limited(folder: Path, **limits: float) -> AsyncIterator[House]:
    """Run a house with other limits than usual, and a worker in it."""
    async with running_house(folder, Limits.model_validate(limits)) as house:
        await house.paired_worker()
        yield house


async def submit(house: House, request: pb.SubmitRequest) -> pb.SubmitResponse:
    return await house.owner.call(house.owner.stub.Submit, request)


async def until_refused(house: House, reason: str) -> None:
    """Wait until the scheduler shows that it turned somebody away."""
    async for _ in house.owner.watch_pool():
        if any(reason in refusal.reason for refusal in (await house.listed()).refusals):
            return


def port(house: House) -> int:
    """Return where clients come in."""
    return house.daemon._doors.port_number


async def connect(number: int, source: str = "127.0.0.1") -> socket.socket:
    """Connect, and say nothing."""
    connection = socket.socket()
    connection.setblocking(False)
    connection.bind((source, 0))
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", number))
    return connection


async def ended(connection: socket.socket) -> None:
    """Wait until the other side ends a connection."""
    with contextlib.closing(connection), contextlib.suppress(ConnectionError):
        while await asyncio.get_running_loop().sock_recv(connection, 4096):
            pass


async def test_who_says_nothing_is_cut_off_in_time(short_tmp: Path) -> None:
    async with limited(short_tmp, handshake_seconds=0.2) as house:
        await house.paired_client()
        await ended(await connect(port(house)))
        await until_refused(house, "it did not say who it is in time")


async def test_the_oldest_of_too_many_who_say_nothing_goes(short_tmp: Path) -> None:
    async with limited(short_tmp, handshakes=4) as house:
        client = await house.paired_client()
        silent = [await connect(port(house), f"127.0.0.{n}") for n in range(10, 18)]
        await asyncio.gather(*map(ended, silent[:4]))
        assert await ask(client) == "Hello from attic."
        for connection in silent[4:]:
            connection.close()


async def test_an_address_that_opens_too_many_connections_gets_no_more(short_tmp: Path) -> None:
    async with limited(short_tmp, connections_per_second=5) as house:
        client = await house.paired_client()
        flood = [await connect(port(house), "127.0.0.9") for _ in range(40)]
        await asyncio.gather(*map(ended, flood[15:]))
        await until_refused(house, "it opens connections too fast")
        assert await ask(client) == "Hello from attic."
        for connection in flood:
            connection.close()


def paired_identity(house: House, name: str) -> Identity:
    """Return what a client that joined shows."""
    return Identity.read(house.machine(name).identity_file(Role.CLIENT))


async def test_a_client_has_so_many_connections(short_tmp: Path) -> None:
    async with limited(short_tmp, connections_per_client=2) as house:
        await house.paired_client("couch")
        context = paired_identity(house, "couch").client_context()
        opened = [
            await asyncio.open_connection("127.0.0.1", port(house), ssl=context) for _ in range(3)
        ]
        said = b"".join(await asyncio.gather(*(read_some(reader) for reader, _ in opened)))
        assert b"couch has 2 connections already" in said
        for _, writer in opened:
            writer.transport.abort()


async def read_some(reader: asyncio.StreamReader) -> bytes:
    """Return the first that comes."""
    with contextlib.suppress(OSError, ssl.SSLError):
        return await reader.read(4096)
    return b""


async def test_a_prompt_a_chat_and_its_settings_have_a_size(short_tmp: Path) -> None:
    sizes = {"prompt_bytes": 100, "chat_bytes": 250, "chat_settings_bytes": 50}
    async with limited(short_tmp, **sizes) as house:
        with pytest.raises(LimitReached, match=r"101 bytes; the limit is 100 .*prompt_bytes"):
            await submit(house, pb.SubmitRequest(content="x" * 101))
        file = pb.Attachment(name="a.txt", content="x" * 60)
        with pytest.raises(LimitReached, match="120 bytes"):
            await submit(house, pb.SubmitRequest(content="x" * 60, attachments=[file]))
        with pytest.raises(LimitReached, match="chat_settings_bytes"):
            await submit(house, pb.SubmitRequest(content="x", system_prompt="x" * 51))
        chat_id = (await submit(house, pb.SubmitRequest(content="x" * 90))).chat_id
        with pytest.raises(LimitReached, match="chat_settings_bytes"):
            await house.owner.call(
                house.owner.stub.UpdateChat, pb.UpdateChatRequest(chat_id=chat_id, title="x" * 51)
            )
        with pytest.raises(LimitReached, match=r"limit is 250 .*Start a new one"):
            while True:
                await until_answered(house)
                await submit(house, pb.SubmitRequest(chat_id=chat_id, content="x" * 90))


async def until_answered(house: House) -> None:
    """Wait until no answer is under way."""
    async for pool in house.owner.watch_pool():
        if pool is not None and not pool.active:
            return


async def test_those_who_wait_take_turns_by_what_their_certificates_say(house: House) -> None:
    slow = house.machine("attic").models / "slow.fake.toml"
    slow.write_text('text = "one two three"\nstep_seconds = 30')
    await house.paired_worker()
    client = await house.paired_client("couch")
    request = pb.SubmitRequest(content="Hi", model="slow", client="somebody else")
    await client.call(client.stub.Submit, request)
    (answer,) = house.daemon.generations.active()
    (couch,) = (m for m in house.daemon.pairing.members if m.name == "couch")
    assert answer.submission.asked.client == couch.membership


def test_limits_are_settings(short_tmp: Path) -> None:
    home = Home(short_tmp)
    home.settings_file.write_text("[limits]\nprompt_bytes = 5\n")
    assert load(Limits, home, "limits").prompt_bytes == 5
    home.settings_file.write_text("[limits]\nprompt_byte = 5\n")
    with pytest.raises(SettingsError, match="did you mean 'prompt_bytes'"):
        load(Limits, home, "limits")
