"""`/v1/chat/completions` and `/v1/completions`: texts, whole or as they come."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from whet.engine.continuous import Request as Asked
from whet.engine.generate import Sampling
from whet.server.clients import in_reading_thread, unless_gone
from whet.server.gate import read_body
from whet.server.prompts import Prompt, conversation, plain, room
from whet.server.refusals import Refusal
from whet.server.schema import ChatMessage, ChatRequest, CompletionRequest, Writing, parse
from whet.server.served import Served
from whet.server.service import GONE, Ticket, answer, item_of, service_of, ticket_of
from whet.server.shapes import ChatShape, CompletionShape, Shape, Whole
from whet.server.text import TextStream
from whet.server.worker import Piece, Text
from whet.types import Message, Role

COLDEST = 1e-4
"""A temperature below this is 0: the likeliest token is drawn all the same, and dividing by it may overflow."""
NARROWEST = 1e-9
"""A top_p below this leaves the likeliest token, as 0 is meant to."""
USUAL_COMPLETION = 16
"""OpenAI's own limit of a completion where none is asked for."""


async def chat(request: Request) -> Response:
    """Answer a conversation."""
    asked = parse(await read_body(request, service_of(request)), ChatRequest)
    return await conversed(request, asked, [asked.messages])


async def conversed(request: Request, asked: ChatRequest, conversations: Sequence[Sequence[ChatMessage]]) -> Response:
    """Answer conversations: a choice for each. Raises Refusal."""
    service, ticket = service_of(request), ticket_of(request)
    served = service.shelf.get(asked.model)
    if not served.chats:
        hint = "/v1/classify" if served.labels else "/v1/completions" if served.writes else "/v1/embeddings"
        raise Refusal(
            400, f"'{asked.model}' was not trained to answer. Ask it at {hint}.", param="model", code="unsupported_model"
        )
    if asked.top_logprobs and not asked.logprobs:
        raise Refusal(400, "'top_logprobs' needs 'logprobs': true.", param="top_logprobs", code="invalid_value")
    prompts = await in_reading_thread(request, lambda: [_conversation(served, messages) for messages in conversations])
    shape = ChatShape(_head("chatcmpl", ticket, asked, served), served.reader.decode, bool(asked.logprobs))
    return await _write(request, asked, served, prompts, asked.limit, asked.top_logprobs or 0, shape)


async def complete(request: Request) -> Response:
    """Go on with texts."""
    return await completed(request, parse(await read_body(request, service_of(request)), CompletionRequest))


async def completed(request: Request, asked: CompletionRequest) -> Response:
    """Return the answer of `/v1/completions`. Raises Refusal."""
    service, ticket = service_of(request), ticket_of(request)
    served = service.shelf.get(asked.model)
    if not served.writes:
        raise Refusal(
            400, f"'{asked.model}' does not write texts. Ask it at /v1/classify.", param="model", code="unsupported_model"
        )
    prompts = await in_reading_thread(request, lambda: [plain(served, prompt) for prompt in asked.prompts])
    shape = CompletionShape(_head("cmpl", ticket, asked, served), served.reader.decode, asked.logprobs is not None)
    return await _write(request, asked, served, prompts, asked.limit or USUAL_COMPLETION, asked.logprobs or 0, shape)


def _conversation(served: Served, messages: Sequence[ChatMessage]) -> Prompt:
    return conversation(served, [Message(_role(turn.role), served.clean(turn.text)) for turn in messages])


def _role(role: str) -> Role:
    return "system" if role == "developer" else role  # type: ignore[return-value]


def _head(prefix: str, ticket: Ticket, asked: Writing, served: Served) -> dict[str, Any]:
    return {
        "id": f"{prefix}-{ticket.id}",
        "created": int(time.time()),
        "model": asked.model,
        "system_fingerprint": f"whet-{served.fingerprint[:12]}",
    }


async def _write(
    request: Request, asked: Writing, served: Served, prompts: Sequence[Prompt], limit: int | None, num_top: int, shape: Shape
) -> Response:
    service, ticket = service_of(request), ticket_of(request)
    rooms = [room(served, len(prompt.ids), limit, service.limits.max_new_tokens, shape.asks) for prompt in prompts]
    record = ticket.open(shape.endpoint, asked.model, served)
    record.prompt_tokens = sum(len(prompt.ids) for prompt in prompts)
    record.items += [item_of(served, prompt.text, len(prompt.ids), asked.metadata) for prompt in prompts]
    told: asyncio.Queue[tuple[int, Piece | Refusal]] = asyncio.Queue()
    sampling, stops = _sampling(asked), served.stops
    jobs = []
    for index, (prompt, most) in enumerate(zip(prompts, rooms, strict=True)):
        wanted = Asked(f"{ticket.id}-{index}", prompt.ids, most, stops, sampling, num_top)
        stream = TextStream(_decoder(served, prompt.tail), asked.stops, strip=shape.strips)
        jobs.append(Text(served, wanted, stream, _teller(told, index)))
    service.worker.submit(jobs)
    wholes = [Whole(item) for item in record.items]
    answering = Answering(ticket, shape, wholes, told, lambda: service.worker.cancel(jobs))
    if asked.stream:
        return Streaming(answering, asked.with_usage)
    return await answering.whole(request.receive)


def _sampling(asked: Writing) -> Sampling:
    temperature = asked.temperature if asked.temperature is not None and asked.temperature >= COLDEST else 0.0
    top_p = 1.0 if asked.top_p is None else max(asked.top_p, NARROWEST)
    return Sampling(temperature, top_p, secrets.randbits(31) if asked.seed is None else asked.seed % 2**63)


def _decoder(served: Served, tail: tuple[int, ...]) -> Callable[[list[int]], str]:
    """Return how the working thread turns tokens into text; behind a prompt, as what follows it."""
    tokenizer = served.policy.tokenizer
    before = len(tokenizer.decode(list(tail), skip_special_tokens=True)) if tail else 0
    return lambda ids: str(tokenizer.decode([*tail, *ids], skip_special_tokens=True))[before:]


def _teller(told: asyncio.Queue[tuple[int, Piece | Refusal]], index: int) -> Callable[[Piece | Refusal], None]:
    """Return how the working thread brings something into the event loop."""
    loop = asyncio.get_running_loop()

    def tell(piece: Piece | Refusal) -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it everybody who could listen
            loop.call_soon_threadsafe(told.put_nowait, (index, piece))

    return tell


@dataclass(slots=True)
class Answering:
    """One request's texts on their way."""

    ticket: Ticket
    shape: Shape
    wholes: list[Whole]
    told: asyncio.Queue[tuple[int, Piece | Refusal]]
    forget: Callable[[], None]

    async def pieces(self) -> AsyncIterator[tuple[int, Piece]]:
        """Yield what comes, with the choice it belongs to, until every text has ended. Raises the Refusal that ends one."""
        num_open = len(self.wholes)
        while num_open:
            index, piece = await self.told.get()
            if isinstance(piece, Refusal):
                self.forget()
                raise piece
            self.ticket.note_first()
            self.wholes[index].take(piece)
            num_open -= piece.finish is not None
            yield index, piece

    async def whole(self, receive: Receive) -> Response:
        """Return the whole answer."""
        try:
            await unless_gone(receive, self._gather(), self.forget)
        finally:
            self.note()
        return answer(
            {**self.shape.head(streamed=False), "choices": self.shape.whole(self.wholes), "usage": self.usage()},
        )

    async def _gather(self) -> None:
        async for _ in self.pieces():
            pass

    def usage(self) -> dict[str, int]:
        assert self.ticket.record is not None
        read, written = self.ticket.record.prompt_tokens, sum(one.num_tokens for one in self.wholes)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    def note(self) -> None:
        """Write what became of the texts into the record."""
        assert self.ticket.record is not None
        self.ticket.record.completion_tokens = self.usage()["completion_tokens"]
        for one in self.wholes:
            one.note()


class Streaming(Response):
    """Server-sent events: chunks, and `[DONE]` at the end."""

    def __init__(self, answering: Answering, with_usage: bool) -> None:
        super().__init__(media_type="text/event-stream", headers={"x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._answering = answering
        self._with_usage = with_usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ticket = self._answering.ticket
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await unless_gone(receive, self._send(send), self._answering.forget)
        except ClientDisconnect:
            ticket.status = GONE
        finally:
            self._answering.note()

    async def _send(self, send: Send) -> None:
        try:
            async for chunk in self._chunks():
                await send({"type": "http.response.body", "body": _event(chunk), "more_body": True})
        except Refusal as refusal:  # the head is gone already: the error is an event, and the last one
            self._answering.ticket.status, self._answering.ticket.error = refusal.status, refusal.code
            await send({"type": "http.response.body", "body": _event(refusal.body()), "more_body": False})
            return
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})

    async def _chunks(self) -> AsyncIterator[dict[str, Any]]:
        shape = self._answering.shape
        head = shape.head(streamed=True) | ({"usage": None} if self._with_usage else {})
        for choice in shape.opening():
            yield {**head, "choices": [choice]}
        async for index, piece in self._answering.pieces():
            for choice in shape.chunk(index, piece):
                yield {**head, "choices": [choice]}
        if self._with_usage:
            yield {**head, "choices": [], "usage": self._answering.usage()}


def _event(values: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(values, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n\n"
