"""A provider's one route for predictions: its form of a request becomes one of ours, and our answer becomes its form."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from whet.server.asking import classified, embedded
from whet.server.contracts import Contract
from whet.server.gate import read_body
from whet.server.refusals import Refusal
from whet.server.schema import (
    MOST_INPUTS,
    MOST_PROMPTS,
    ChatRequest,
    ClassifyRequest,
    CompletionRequest,
    EmbeddingRequest,
    checked,
    read_object,
)
from whet.server.served import Served
from whet.server.service import answer, service_of
from whet.server.writing import completed, conversed

OURS = frozenset({"model", "input", "messages", "prompt", "stream", "stream_options", "metadata", "encoding_format"})
"""Keys of our own bodies that are no parameters here."""

Found = list[dict[str, Any]]


async def invoke(request: Request) -> Response:
    """Answer instances: a prediction for each, in order."""
    service = service_of(request)
    assert service.agreed is not None
    contract, name = service.agreed.contract, service.shelf.names()[0]
    served = service.shelf.get(name)
    body = await read_body(request, service)
    is_csv = request.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/csv"
    key, items, parameters = (contract.keys[0], _lines(body, served), {}) if is_csv else _instances(body, contract)
    try:
        async with asyncio.timeout(contract.answer_s):
            found = await _predictions(request, served, name, items, parameters)
    except TimeoutError:
        raise Refusal(
            504, f"the answer was not ready within {contract.answer_s:g} s, and nobody waits longer. Send fewer instances, or lower "
            "max_tokens.", code="timeout",
        ) from None  # fmt: skip
    except Refusal as refusal:
        raise _renamed(refusal, key, parameters) from None
    if "text/csv" in contract.takes and request.headers.get("accept", "").partition(";")[0].strip().lower() == "text/csv":
        return Response(_table(found), media_type="text/csv")
    return answer({"predictions": found})


def _instances(body: bytes, contract: Contract) -> tuple[str, list[Any], dict[str, Any]]:
    """Return the key that the instances stood under, them, and the parameters. Raises Refusal."""
    values = read_object(body)
    usual = contract.keys[0]
    given = [key for key in contract.keys if key in values]
    if len(given) != 1:
        said = "is missing" if not given else f"and '{given[1]}' are both there"
        raise Refusal(
            400, f"'{given[0] if given else usual}' {said}. Send {{\"{usual}\": [...]}}, with a text, a row or a conversation for each.",
            param=usual, code="missing_required_parameter" if not given else "invalid_value",
        )  # fmt: skip
    unknown = next((key for key in values if key not in {given[0], "parameters"}), None)
    if unknown is not None:
        raise Refusal(
            400, f"'{unknown[:80]}' is no key that this route knows. Allowed: {given[0]}, parameters.",
            param=unknown[:80], code="unknown_parameter",
        )  # fmt: skip
    items, parameters = values[given[0]], values.get("parameters")
    parameters = {} if parameters is None else parameters
    if isinstance(items, str):
        items = [items]
    if not isinstance(items, list) or not items:
        raise Refusal(400, f"'{given[0]}' must be a list with at least one instance.", param=given[0], code="invalid_value")
    if not isinstance(parameters, dict):
        raise Refusal(400, "'parameters' must be an object with keys.", param="parameters", code="invalid_value")
    ours = next((key for key in parameters if key in OURS), None)
    if ours is not None:
        raise Refusal(
            400, f"'parameters.{ours}' is no parameter of this route.", param=f"parameters.{ours}", code="unknown_parameter"
        )
    return given[0], items, parameters


def _lines(body: bytes, served: Served) -> list[Any]:
    """Return the lines of CSV, which has no header, as texts or rows. Raises Refusal."""
    try:
        rows = [row for row in csv.reader(io.StringIO(body.decode("utf-8"), newline=""), strict=True) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise Refusal(400, f"the body is not CSV in UTF-8: {error}.", code="invalid_csv") from None
    if not rows:
        raise Refusal(400, "the body holds no line. Send a text on each, without a header.", code="invalid_csv")
    for number, row in enumerate(rows, 1):
        if len(row) != len(served.asks):
            raise Refusal(
                400, f"line {number} has {len(row)} fields; this run reads {len(served.asks)} ({', '.join(served.asks)}), and no header. "
                "Put double quotes around a text with commas.", code="invalid_csv",
            )  # fmt: skip
    return [row[0] if len(row) == 1 else dict(zip(served.asks, row, strict=True)) for row in rows]


async def _predictions(request: Request, served: Served, name: str, items: Sequence[Any], parameters: Mapping[str, Any]) -> Found:
    """Return what our own endpoint answers, instance by instance. Raises Refusal."""
    most = MOST_PROMPTS if served.writes else MOST_INPUTS
    if len(items) > most:
        raise Refusal(
            400, f"'input' holds {len(items)} instances; at most {most} are taken.", param="input", code="invalid_value"
        )
    if served.labels:
        told = await classified(request, checked({"model": name, "input": items, **parameters}, ClassifyRequest))
        return [_without(one, "index") for one in told["data"]]
    if not served.writes:
        told = await embedded(request, checked({"model": name, "input": items, **parameters}, EmbeddingRequest))
        return [{"embedding": one["embedding"]} for one in told["data"]]
    if served.chats:
        asked = [_conversation(name, number, item, parameters) for number, item in enumerate(items)]
        written = await conversed(request, asked[0], [one.messages for one in asked])
        return [{"text": one["message"]["content"], "finish_reason": one["finish_reason"]} for one in _choices(written)]
    for number, item in enumerate(items):
        if not isinstance(item, str):
            raise Refusal(400, f"'input.{number}' must be a text.", param=f"input.{number}", code="invalid_value")
    written = await completed(request, checked({"model": name, "prompt": items, **parameters}, CompletionRequest))
    return [{"text": one["text"], "finish_reason": one["finish_reason"]} for one in _choices(written)]


def _conversation(name: str, number: int, item: Any, parameters: Mapping[str, Any]) -> ChatRequest:
    """Return one instance, a text or `{"messages": [...]}`, as a request for chat. Raises Refusal."""
    place = f"input.{number}"
    if isinstance(item, str):
        messages: Any = [{"role": "user", "content": item}]
    elif isinstance(item, dict) and item.keys() == {"messages"}:
        messages, place = item["messages"], f"{place}.messages"
    else:
        raise Refusal(400, f"'{place}' must be a text, or an object with 'messages' only.", param=place, code="invalid_value")
    try:
        return checked({"model": name, "messages": messages, **parameters}, ChatRequest)
    except Refusal as refusal:
        raise _moved(
            refusal, lambda param: place + param.removeprefix("messages") if param.startswith("messages") else param
        ) from None


def _choices(response: Response) -> Found:
    found: Found = json.loads(bytes(response.body))["choices"]
    return found


def _without(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


def _renamed(refusal: Refusal, key: str, parameters: Mapping[str, Any]) -> Refusal:
    """Return a refusal that names the caller's keys: what we call `input` is an instance, and other keys are parameters."""

    def named(param: str) -> str:
        first = param.partition(".")[0]
        if first in {"input", "prompt", "messages"}:
            return key + param.removeprefix(first)
        return f"parameters.{param}" if first in parameters else param

    return _moved(refusal, named)


def _moved(refusal: Refusal, named: Callable[[str], str]) -> Refusal:
    if refusal.param is None:
        return refusal
    param = named(refusal.param)
    message = str(refusal).replace(f"'{refusal.param}'", f"'{param}'", 1)
    return Refusal(refusal.status, message, code=refusal.code, param=param, retry_after_s=refusal.retry_after_s)


def _table(found: Found) -> str:
    """Return predictions as CSV without a header: label or number, and confidence where there is one; a text; the numbers of a vector."""
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    for one in found:
        if "text" in one or "embedding" in one:
            writer.writerow([one["text"]] if "text" in one else one["embedding"])
            continue
        given = (
            "|".join(one["labels"]) if one["labels"] is not None else one["value"] if one["value"] is not None else one["label"]
        )
        writer.writerow([given, *([] if one["confidence"] is None else [one["confidence"]])])
    return made.getvalue()
