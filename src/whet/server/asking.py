"""`/v1/classify`, `/v1/embeddings` and `/v1/feedback`: what is answered in one pass, and what a person says of it later."""

from __future__ import annotations

import asyncio
import base64
import json
import queue
import sqlite3
import struct
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from whet.errors import DataError
from whet.models.load import KINDS
from whet.server.clients import in_reading_thread, unless_gone
from whet.server.gate import read_body
from whet.server.prompts import check_tokens
from whet.server.refusals import Refusal
from whet.server.schema import ClassifyRequest, EmbeddingRequest, FeedbackRequest, parse
from whet.server.served import Served
from whet.server.service import answer, item_of, service_of, ticket_of
from whet.server.worker import Question
from whet.store.log import Feedback, Item
from whet.types import Example, Output


async def classify(request: Request) -> Response:
    """Give texts, or rows with the columns of training, their label, labels or number."""
    return answer(await classified(request, parse(await read_body(request, service_of(request)), ClassifyRequest)))


async def classified(request: Request, asked: ClassifyRequest) -> dict[str, Any]:
    """Return the answer of `/v1/classify`. Raises Refusal."""
    service, ticket = service_of(request), ticket_of(request)
    served = service.shelf.get(asked.model)
    if not served.labels:
        raise Refusal(
            400, f"'{asked.model}' gives no labels. Ask it at /v1/chat/completions.", param="model", code="unsupported_model"
        )
    items = asked.items
    examples, lengths = await in_reading_thread(request, lambda: _examples(served, items))
    record = ticket.open("classify", asked.model, served)
    record.prompt_tokens = sum(min(length, served.max_length) for length in lengths)
    for item, example, length in zip(items, examples, lengths, strict=True):
        row = item if isinstance(item, dict) else {}
        record.items.append(_item(served, example, length, {**(asked.metadata or {}), **row}))
    outputs = await _ask(request, served, "classify", examples, [min(length, served.max_length) for length in lengths])
    threshold = service.abstain_below if asked.abstain_below is None else asked.abstain_below
    found = []
    for index, (output, noted, length) in enumerate(zip(outputs, record.items, lengths, strict=True)):
        _note(output, noted, threshold)
        given = None if noted.abstained else noted.label
        found.append(
            {
                "index": index,
                "label": given if isinstance(given, str) else None,
                "labels": given if isinstance(given, list) else None,
                "value": given if isinstance(given, float) else None,
                "confidence": noted.confidence,
                "abstained": noted.abstained,
                "probabilities": None if output.probabilities is None else dict(output.probabilities),
                "truncated": length > served.max_length,
            }
        )
    head = {"id": f"classify-{ticket.id}", "object": "list", "created": int(time.time()), "model": asked.model}
    usage = {"prompt_tokens": record.prompt_tokens, "total_tokens": record.prompt_tokens}
    return {**head, "system_fingerprint": f"whet-{served.fingerprint[:12]}", "data": found, "usage": usage}


def _examples(served: Served, items: Sequence[str | dict[str, Any]]) -> tuple[list[Example], list[int]]:
    """Return the items as examples, and each one's tokens, uncut."""
    try:
        examples = served.examples(items)
    except DataError as error:
        raise Refusal(400, f"{error}", param="input", code="invalid_value") from None
    texts = [example.text or "" for example in examples]
    pairs = [example.text_pair or "" for example in examples] if any(example.text_pair for example in examples) else None
    return examples, [len(ids) for ids in served.reader(texts, pairs, verbose=False)["input_ids"]]


def _item(served: Served, example: Example, length: int, values: Mapping[str, Any]) -> Item:
    """Return what is logged of an input: the text that the model is shown, which is comparable with the rows it was judged on."""
    text, pair = example.text or "", example.text_pair
    if pair is None:
        return item_of(served, text, length, values)
    item = item_of(served, json.dumps({"text": text, "text_pair": pair}, ensure_ascii=False), length, values)
    item.num_characters = len(text) + len(pair)
    return item


def _note(output: Output, item: Item, threshold: float) -> None:
    """Write what the model said, and whether it is sure enough, into the item."""
    item.label = output.label or output.value if output.labels is None else list(output.labels)
    item.confidence = output.confidence
    item.abstained = item.confidence is not None and item.confidence < threshold


async def embed(request: Request) -> Response:
    """Turn texts into unit vectors."""
    return answer(await embedded(request, parse(await read_body(request, service_of(request)), EmbeddingRequest)))


async def embedded(request: Request, asked: EmbeddingRequest) -> dict[str, Any]:
    """Return the answer of `/v1/embeddings`. Raises Refusal."""
    service, ticket = service_of(request), ticket_of(request)
    served = service.shelf.get(asked.model)
    if not served.embeds:
        raise Refusal(
            400,
            f"'{asked.model}' is {KINDS[served.policy.kind]}, whose states were trained to predict the next token and not to stand for a text. "
            "Serve a run of an encoder for embeddings.",
            param="model",
            code="unsupported_model",
        )
    width = served.policy.width
    if asked.dimensions not in (None, width):
        raise Refusal(
            400, f"'dimensions' is {asked.dimensions}; this model gives {width}.", param="dimensions", code="invalid_value"
        )
    rows, texts = await in_reading_thread(request, lambda: _rows(served, asked.inputs))
    record = ticket.open("embedding", asked.model, served)
    record.prompt_tokens = sum(len(row) for row in rows)
    record.items += [item_of(served, text, len(row), None) for row, text in zip(rows, texts, strict=True)]
    vectors = await _ask(request, served, "embed", rows, [len(row) for row in rows])
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if asked.encoding_format == "base64" else vector}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": record.prompt_tokens, "total_tokens": record.prompt_tokens}
    return {"object": "list", "data": data, "model": asked.model, "usage": usage}


def _rows(served: Served, inputs: Sequence[str | list[int]]) -> tuple[list[list[int]], list[str]]:
    """Return each input as tokens and as text. Raises Refusal where one does not fit."""
    rows, texts = [], []
    for index, one in enumerate(inputs):
        if isinstance(one, str):
            ids: list[int] = served.reader(served.clean(one), verbose=False)["input_ids"]
            rows.append(ids)
            texts.append(one)
        else:
            check_tokens(served, one, "input")
            rows.append(one)
            texts.append(str(served.reader.decode(one)))
        if not rows[-1] or not texts[-1].strip():
            raise Refusal(400, f"input {index} is empty. Leave it out.", param=f"input.{index}", code="invalid_value")
        if len(rows[-1]) > served.policy.context:
            raise Refusal(
                400, f"input {index} has {len(rows[-1])} tokens; this model reads at most {served.policy.context}. Shorten it.",
                param=f"input.{index}", code="context_length_exceeded",
            )  # fmt: skip
    return rows, texts


def _packed(vector: Sequence[float]) -> str:
    """Return a vector as the base64 of little-endian float32, which OpenAI's client asks for by itself."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


async def feedback(request: Request) -> Response:
    """Keep what an answer should have been."""
    service = service_of(request)
    asked = parse(await read_body(request, service), FeedbackRequest)
    if service.log is None:
        raise Refusal(
            400, "this server keeps no request log, so there is nothing to judge. Start it without --no-log.", code="no_log"
        )
    if asked.correction is not None and not service.log.keep_text:
        raise Refusal(
            400, "this server keeps no texts, so a correction in words would be lost. Start it with --log-text, or send a label.",
            param="correction", code="no_text",
        )  # fmt: skip
    kind, truth = next(
        (name, value)
        for name in ("label", "labels", "value", "correction", "right")
        if (value := getattr(asked, name)) is not None
    )
    told = service.log.judge(Feedback(asked.id.rpartition("-")[2], asked.index, kind, truth))
    try:
        known = await asyncio.wait_for(asyncio.wrap_future(told), timeout=10)
    except (sqlite3.Error, queue.Full, TimeoutError, ValueError):
        raise Refusal(503, "the judgement could not be stored. Send it again.", code="not_stored", retry_after_s=5) from None
    if not known:
        raise Refusal(
            404, f"there is no answer '{asked.id[:80]}' with an item {asked.index} in the log. It may have expired.",
            param="id", code="unknown_answer",
        )  # fmt: skip
    service.metrics.feedback.inc()
    return answer({"object": "feedback", "id": asked.id, "index": asked.index, "stored": True})


async def _ask(
    request: Request, served: Served, kind: Literal["classify", "embed"], inputs: Sequence[Any], lengths: Sequence[int]
) -> list[Any]:
    """Return the working thread's answers. Raises Refusal, and ClientDisconnect."""
    service = service_of(request)
    loop = asyncio.get_running_loop()
    told: asyncio.Future[list[Any]] = loop.create_future()

    def settle(found: list[Any] | Refusal) -> None:
        if told.done():
            return
        if isinstance(found, Refusal):
            told.set_exception(found)
        else:
            told.set_result(found)

    def tell(found: list[Any] | Refusal) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, found)

    async def wait() -> list[Any]:
        return await told

    job = Question(served, kind, inputs, lengths, tell)
    service.worker.submit([job])
    return await unless_gone(request.receive, wait(), lambda: service.worker.cancel([job]))
