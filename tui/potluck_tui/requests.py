"""The session's requests as calls of the scheduler, and their outcomes as events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import assert_never

from potluck_proto.errors import PotluckError, UnknownChat, Unreachable
from potluck_proto.ids import ChatId, GenerationId, MessageId, new_id
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_tui import events, export, orders
from potluck_tui import instructions as do
from potluck_tui.clean import clean
from potluck_tui.client import PoolClient, user_at_host
from potluck_tui.events import Event
from potluck_tui.export import Format
from potluck_tui.files import write_private
from potluck_tui.fit_lines import node_lines
from potluck_tui.instructions import Request
from potluck_tui.machine import DECISIONS_ASKED, DecisionView
from potluck_tui.model_facts import Fact, facts
from potluck_tui.preset import Preset
from potluck_tui.views import SHELVES, ChatSummary, Hit, Question, Turn

SEARCH_HITS = 100
FIT_SECONDS = 100.0
"""An engine reads a large file for its sizes."""
DESCRIBE_SECONDS = 40.0
PROMPTS_ASKED = 200

_FAILURES: dict[type[Request], str] = {
    do.StopAnswer: "The answer was not stopped.",
    do.UpdateChat: "The chat was not changed.",
    do.DeleteChat: "The chat was not deleted.",
    do.RestoreChat: "The chat was not restored.",
    do.SearchChats: "The search failed.",
    do.SavePreset: "The preset was not saved.",
    do.DeletePreset: "The preset was not deleted.",
    do.ExportChat: "The chat was not written.",
    orders.Drain: "The machine was not told.",
    orders.Load: "The model was not loaded.",
    orders.Unload: "The model was not unloaded.",
    orders.Pin: "The model was not pinned.",
    orders.Remove: "The machine was not removed.",
    orders.StopFetch: "The fetch was not stopped.",
}
"""What did not work. What is missing here is read again by itself when the scheduler is back, and
the status line says that it is away.
"""


class Requests:
    """Makes calls, each independent of the others; every failure becomes an event in words.

    Args:
        client: The connection.
        exports: The folder for chats that are written to files.
        now_unix_seconds: The clock on the wall.
    """

    def __init__(
        self, client: PoolClient, exports: Path, now_unix_seconds: Callable[[], float]
    ) -> None:
        self._client = client
        self._exports = exports
        self._now = now_unix_seconds
        self._request_ids: dict[tuple[ChatId, Question], str] = {}
        self._fetches: set[str] = set()
        """Models that are fetched from here and were not stopped from here."""

    async def carry_out(self, request: Request) -> Sequence[Event]:
        """Do what was asked; return what came of it."""
        try:
            return await self._call(request)
        except PotluckError as error:
            failure = _FAILURES.get(type(request))
            said = events.RequestFailed(f"{failure} {clean(error.message)}")
            if isinstance(request, do.SearchChats):
                return [events.SearchSeen(request.query, ()), said]
            return [said] if failure else []

    async def _call(  # noqa: PLR0911, PLR0912 - a table
        self, request: Request
    ) -> Sequence[Event]:
        stub, call = self._client.stub, self._client.call
        match request:
            case do.ListChats():
                return await self._list_chats(request)
            case do.FetchChat():
                return await self._fetch_chat(request)
            case do.Submit():
                return await self._submit(request)
            case do.Regenerate() | do.ContinueAnswer() | do.SelectBranch():
                return await self._change_branch(request)
            case do.StopAnswer(generation_id):
                await call(stub.Stop, pb.StopRequest(generation_id=generation_id))
                return []
            case do.UpdateChat():
                await call(stub.UpdateChat, _update(request))
                return []
            case do.DeleteChat(chat_id):
                await call(stub.DeleteChat, pb.DeleteChatRequest(chat_id=chat_id))
                return [events.ChatDeleted(chat_id)]
            case do.RestoreChat(chat_id):
                await call(stub.RestoreChat, pb.RestoreChatRequest(chat_id=chat_id))
                return [events.ChatRestored(chat_id)]
            case do.SearchChats(query):
                search = pb.SearchChatsRequest(query=query, limit=SEARCH_HITS)
                found = await call(stub.SearchChats, search)
                return [events.SearchSeen(query, tuple(map(Hit.from_proto, found.hits)))]
            case do.ListPrompts():
                asked = await call(stub.ListPrompts, pb.ListPromptsRequest(limit=PROMPTS_ASKED))
                return [events.PromptsSeen(tuple(map(clean, reversed(asked.prompts))))]
            case do.ListPresets():
                return await self._list_presets()
            case do.SavePreset(preset):
                await call(stub.SavePreset, pb.SavePresetRequest(preset=preset.to_proto()))
                return await self._list_presets()
            case do.DeletePreset(name):
                await call(stub.DeletePreset, pb.DeletePresetRequest(name=name))
                return await self._list_presets()
            case do.ExportChat(chat_id, kind):
                return await self._export(chat_id, kind)
            case do.FitModel():
                return await self._fit(request)
            case do.ListDecisions():
                return await self._list_decisions(request)
            case do.DescribeModel():
                return await self._describe(request)
            case do.Recommend() | do.SearchHub() | do.ListRepository():
                return await self._ask_hub(request)
            case orders.Load():
                return [events.OrderDone(await request.carry_out(self._client))]
            case orders.Drain() | orders.Unload() | orders.Pin() | orders.Remove():
                await request.carry_out(self._client)
                return [events.OrderDone(request)]
            case orders.Fetch():
                return await self._fetch(request)
            case orders.StopFetch():
                return await self._stop_fetch(request)
            case _:
                assert_never(request)

    async def _list_chats(self, request: do.ListChats) -> Sequence[Event]:
        shelf = SHELVES[request.shelf]
        response = await self._client.call(
            self._client.stub.ListChats,
            pb.ListChatsRequest(shelf=shelf, limit=request.limit, page_token=request.page_token),
        )
        chats = tuple(map(ChatSummary.from_proto, response.chats))
        return [
            events.ChatsSeen(
                chats, self._now(), request.shelf, request.page_token, response.next_page_token
            )
        ]

    async def _fetch_chat(self, request: do.FetchChat) -> Sequence[Event]:
        chat_id = request.chat_id
        try:
            response = await self._client.whole_chat(chat_id, request.known_revision)
        except PotluckError as error:
            gone = isinstance(error, UnknownChat)
            return [events.ChatGone(chat_id, clean(error.message), deleted=gone)]
        if response.unchanged:
            return []
        turns = tuple(map(Turn.from_proto, response.messages))
        return [events.ChatSeen(ChatSummary.from_proto(response.chat), turns)]

    async def _submit(self, submit: do.Submit) -> Sequence[Event]:
        # A prompt that is sent again after a failure has the same id, so that it is stored once
        # also where the scheduler took it and only its response was lost.
        key = (submit.chat.chat_id, submit.question)
        request = _submission(submit)
        request.request_id = self._request_ids.setdefault(key, new_id())
        try:
            response = await self._client.call(self._client.stub.Submit, request)
        except PotluckError as error:
            chat_id, words = submit.chat.chat_id, clean(error.message)
            lost = isinstance(error, Unreachable)
            return [events.SubmitFailed(submit.visit, chat_id, submit.question, words, lost)]
        del self._request_ids[key]
        return [
            events.Submitted(
                visit=submit.visit,
                question=submit.question,
                chat_id=ChatId(response.chat_id),
                user_message_id=MessageId(response.user_message_id),
                answer_message_id=MessageId(response.answer_message_id),
                generation_id=GenerationId(response.generation_id),
                revision=response.revision,
            )
        ]

    async def _change_branch(
        self, request: do.Regenerate | do.ContinueAnswer | do.SelectBranch
    ) -> Sequence[Event]:
        stub, call = self._client.stub, self._client.call
        chat_id, message_id = request.chat_id, request.message_id
        try:
            match request:
                case do.Regenerate(_, _, model, node, beside):
                    regenerate = pb.RegenerateRequest(
                        chat_id=chat_id,
                        message_id=message_id,
                        model=model,
                        nodes=[node] if node else [],
                        beside=beside,
                    )
                    await call(stub.Regenerate, regenerate)
                case do.ContinueAnswer():
                    go_on = pb.ContinueRequest(chat_id=chat_id, answer_message_id=message_id)
                    await call(stub.Continue, go_on)
                case do.SelectBranch():
                    select = pb.SelectBranchRequest(chat_id=chat_id, message_id=message_id)
                    await call(stub.SelectBranch, select)
        except PotluckError as error:
            return [events.BranchNotChanged(chat_id, clean(error.message))]
        return [events.BranchChanged(chat_id)]

    async def _list_presets(self) -> Sequence[Event]:
        response = await self._client.call(self._client.stub.ListPresets, pb.ListPresetsRequest())
        return [events.PresetsSeen(tuple(map(Preset.from_proto, response.presets)))]

    async def _list_decisions(self, request: do.ListDecisions) -> Sequence[Event]:
        response = await self._client.call(
            self._client.stub.ListDecisions,
            pb.ListDecisionsRequest(node=request.address, limit=DECISIONS_ASKED),
        )
        views = (DecisionView.from_proto(each, request.node_id) for each in response.decisions)
        return [events.DecisionsSeen(request.address, tuple(filter(None, views)))]

    async def _fit(self, request: do.FitModel) -> Sequence[Event]:
        fit = pb.FitModelRequest(model=request.label)
        try:
            response = await self._client.call(self._client.stub.FitModel, fit, FIT_SECONDS)
        except PotluckError as error:
            return [events.FitSeen(request.label, (clean(error.message),))]
        pages = ("\n".join(node_lines(node)) for node in response.nodes)
        return [events.FitSeen(request.label, tuple("\n\n".join(pages).split("\n")))]

    async def _describe(self, request: do.DescribeModel) -> Sequence[Event]:
        describe = pb.DescribeModelRequest(model=request.label)
        try:
            response = await self._client.call(
                self._client.stub.DescribeModel, describe, DESCRIBE_SECONDS
            )
        except PotluckError as error:
            return [events.FactsSeen(request.label, (Fact("problem", clean(error.message)),))]
        return [events.FactsSeen(request.label, tuple(facts(response.detail)))]

    async def _ask_hub(self, request: do.HubRequest) -> Sequence[Event]:
        from potluck_tui import hub_pages

        try:
            page = await hub_pages.ask(request, self._client)
        except PotluckError as error:
            return [events.HubAnswered(request, None, clean(error.message))]
        return [events.HubAnswered(request, page)]

    async def _fetch(self, order: orders.Fetch) -> Sequence[Event]:
        self._fetches.add(order.model)
        try:
            await order.carry_out(self._client)
        except PotluckError as error:
            if order.model not in self._fetches:  # it was stopped here
                return []
            return [events.FetchFailed(order, f"The model was not fetched. {clean(error.message)}")]
        finally:
            self._fetches.discard(order.model)
        return [events.OrderDone(order)]

    async def _stop_fetch(self, order: orders.StopFetch) -> Sequence[Event]:
        followed = order.model in self._fetches
        self._fetches.discard(order.model)
        try:
            await order.carry_out(self._client)
        except PotluckError:
            if followed:
                self._fetches.add(order.model)
            raise
        return [events.OrderDone(order)]

    async def _export(self, chat_id: ChatId, kind: Format) -> Sequence[Event]:
        response = await self._client.whole_chat(chat_id, all_branches=kind is Format.JSON)
        path = self._exports / export.file_name(response.chat, kind)
        text = export.render(response, kind)
        try:
            await asyncio.to_thread(write_private, path, text)
        except OSError as error:
            return [events.RequestFailed(f"{path} cannot be written ({error.strerror}).")]
        return [events.Exported(str(path))]


def _submission(submit: do.Submit) -> pb.SubmitRequest:
    chat, question = submit.chat, submit.question
    request = pb.SubmitRequest(
        chat_id=chat.chat_id,
        content=question.text,
        model=chat.model,
        client=f"chat:{user_at_host()}",
        attachments=[pb.Attachment(name=f.name, content=f.content) for f in question.files],
    )
    if not chat.chat_id:
        request.system_prompt = chat.system_prompt
        request.preset.CopyFrom(chat.preset.to_proto())
        request.beside_model = chat.beside_model
    if submit.parent_id is not None:
        request.parent_message_id = submit.parent_id
    return request


def _update(update: do.UpdateChat) -> pb.UpdateChatRequest:
    request = pb.UpdateChatRequest(
        chat_id=update.chat_id,
        title=update.title,
        model=update.model,
        pinned=update.pinned,
        archived=update.archived,
        system_prompt=update.system_prompt,
        beside_model=update.beside_model,
    )
    if update.preset is not None:
        request.preset.CopyFrom(update.preset.to_proto())
    return request
