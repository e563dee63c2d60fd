"""`potluck chats` and `potluck export`: the chats for people and programs."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from potluck_proto.errors import BadRequest, UnknownChat
from potluck_proto.home import Home
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_tui.clean import clean
from potluck_tui.client import PoolClient
from potluck_tui.commands.printing import check_count, print_json, print_table
from potluck_tui.connect import connected
from potluck_tui.export import Format, render
from potluck_tui.files import write_private
from potluck_tui.words import age

CANDIDATES_SHOWN = 5


async def chats(options: argparse.Namespace, home: Home) -> int:
    """List chats, or search them."""
    check_count("--limit", options.limit)
    async with connected(home, options.ssh) as client:
        if options.words:
            return await _search(client, options)
        request = pb.ListChatsRequest(limit=options.limit, shelf=_shelf(options))
        response = await client.call(client.stub.ListChats, request)
    if options.json:
        print_json(response)
        return 0
    if not response.chats:
        print(_none(options), file=sys.stderr)
        return 0
    now = time.time()
    print_table(
        ["ID", "CHANGED", "MESSAGES", "TITLE"], [_row(chat, now) for chat in response.chats]
    )
    if response.next_page_token:
        print(f"\nThere are more; --limit {2 * options.limit} shows the next.")
    return 0


async def _search(client: PoolClient, options: argparse.Namespace) -> int:
    request = pb.SearchChatsRequest(query=" ".join(options.words), limit=options.limit)
    response = await client.call(client.stub.SearchChats, request)
    if options.json:
        print_json(response)
        return 0
    if not response.hits:
        print("No chat has all of these words.", file=sys.stderr)
    for hit in response.hits:
        print(f"{hit.chat_id}  {_line(hit.chat_title)}")
        if snippet := "".join(part.text for part in hit.snippet):
            print(f"{'':16}  {_line(snippet)}")
    return 0 if response.hits else 1


def _none(options: argparse.Namespace) -> str:
    if options.archived or options.deleted:
        return f"No chat is {'archived' if options.archived else 'deleted'}."
    return "There is no chat yet. `potluck` opens the first."


async def export(options: argparse.Namespace, home: Home) -> int:
    """Write a chat as Markdown or JSON."""
    kind = Format(options.format)
    async with connected(home, options.ssh) as client:
        chat_id = await _find(client, options.chat)
        chat = await client.whole_chat(chat_id, all_branches=kind is Format.JSON)
    text = render(chat, kind)
    if options.output is None:
        print(clean(text) if sys.stdout.isatty() else text, end="")
        return 0
    file = Path(options.output)
    try:
        if not file.parent.is_dir():
            raise BadRequest(f"There is no folder {file.parent}: make it first.")
        write_private(file, text)
    except OSError as error:
        raise BadRequest(f"{options.output} cannot be written ({error.strerror}).") from error
    return 0


async def _find(client: PoolClient, name: str) -> str:
    """Return the id of the chat that a person means by an id, its beginning, or a title.

    Raises:
        UnknownChat: There is none.
        BadRequest: There are several.
    """
    found: list[pb.Chat] = []
    for shelf in (pb.SHELF_CURRENT, pb.SHELF_ARCHIVED):
        request = pb.ListChatsRequest(query=name, shelf=shelf, limit=CANDIDATES_SHOWN + 1)
        found += (await client.call(client.stub.ListChats, request)).chats
    exact = [chat for chat in found if name in (chat.chat_id, chat.title)]
    candidates = exact if len(exact) == 1 else found
    if not candidates:
        raise UnknownChat(
            f"No chat's title holds {name!r}, and no id begins with it. `potluck chats` lists them."
        )
    if len(candidates) > 1:
        shown = ", ".join(
            f"{chat.chat_id} ({_line(chat.title)})" for chat in candidates[:CANDIDATES_SHOWN]
        )
        more = " and others" if len(candidates) > CANDIDATES_SHOWN else ""
        raise BadRequest(f"{name!r} fits several chats: {shown}{more}. Name one by its id.")
    return candidates[0].chat_id


def _shelf(options: argparse.Namespace) -> pb.Shelf.ValueType:
    if options.deleted:
        return pb.SHELF_DELETED
    return pb.SHELF_ARCHIVED if options.archived else pb.SHELF_CURRENT


def _row(chat: pb.Chat, now: float) -> list[str]:
    pinned = "* " if chat.pinned else ""
    changed = age(max(0.0, now - chat.updated_unix_seconds))
    return [chat.chat_id, f"{changed} ago", str(chat.message_count), pinned + _line(chat.title)]


def _line(text: str) -> str:
    """Return a text on one line."""
    return " ".join(clean(text).split())
