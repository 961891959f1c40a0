"""The way in: every request passes here first, and every answer leaves with an id, the same error shape, and an end in the log."""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections.abc import Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from whet.server.refusals import Refusal
from whet.server.service import GONE, Service, Ticket, answer

OPEN = frozenset({"/", "/health", "/ready"})
"""Paths that need no key: they tell nothing about models or requests."""
RETRY_AFTER_S = 5
Form = Callable[[Refusal], dict[str, Any]]
SAFE_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class Gate:
    """Wraps the application. `computing` are the paths whose requests take a place in the queue."""

    def __init__(self, app: ASGIApp, service: Service, computing: frozenset[str]) -> None:
        self._app = app
        self._service = service
        self._computing = computing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        ticket = Ticket()
        scope["whet.ticket"], scope["whet.service"] = ticket, self._service
        begun = False

        async def tagged(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun, ticket.status = True, message["status"]
                named = {**SAFE_HEADERS, "x-request-id": ticket.id}
                message["headers"] = [*message["headers"], *((key.encode(), value.encode()) for key, value in named.items())]
            await send(message)

        self._service.num_at_work += 1
        try:
            self._check(scope)
            await self._app(scope, receive, tagged)
        except Refusal as refusal:
            if not begun:
                await refuse(ticket, refusal, self._form(scope))(scope, receive, tagged)
        except ClientDisconnect:
            ticket.status = GONE
        except Exception as error:  # the last line: nobody gets a traceback, and the server lives on
            print(f"whet: {type(error).__name__} in {scope['path']!a}; answered with 500.", file=sys.stderr)
            traceback.print_tb(error.__traceback__)
            if not begun:
                await refuse(ticket, failed(), self._form(scope))(scope, receive, tagged)
        finally:
            self._service.num_at_work -= 1
            self._note(ticket)

    def _check(self, scope: MutableMapping[str, Any]) -> None:
        """Raise Refusal where the request must not come in."""
        headers, service = Headers(scope=scope), self._service
        host = headers.get("host", "").rsplit(":", 1)[0] if not headers.get("host", "").endswith("]") else headers["host"]
        if service.hosts and host.strip("[]").lower() not in service.hosts:
            raise Refusal(403, f"this server is not reached by the name '{host[:80]}'.", code="unknown_host")
        agreed = service.agreed
        is_open = scope["path"] in OPEN or (agreed is not None and scope["path"] in {agreed.predict, agreed.health})
        if service.keys and not is_open and not service.keys.open(headers.get("authorization")):
            raise Refusal(401, "the API key is missing or wrong. Send it as: Authorization: Bearer KEY", code="invalid_api_key")
        if scope["method"] != "POST":
            return
        if service.draining:
            raise Refusal(503, "the server is stopping. Ask again, or another one.", code="stopping", retry_after_s=RETRY_AFTER_S)
        takes = agreed.contract.takes if agreed is not None and scope["path"] == agreed.predict else ("application/json",)
        if headers.get("content-type", "").partition(";")[0].strip().lower() not in takes:
            raise Refusal(415, f"the body's content-type is not {' or '.join(takes)}.", code="unsupported_media_type")
        if scope["path"] in self._computing:
            service.worker.check_room()  # before the body is read: refusing must cost next to nothing, or it slows what was taken

    def _form(self, scope: MutableMapping[str, Any]) -> Form:
        return form_of(self._service, scope["path"])

    def _note(self, ticket: Ticket) -> None:
        """Count the request and write its record."""
        endpoint = ticket.record.endpoint if ticket.record is not None else "other"
        self._service.metrics.requests.labels(endpoint, str(ticket.status)).inc()
        if ticket.record is None:
            return
        record = ticket.record
        record.status, record.error = ticket.status, ticket.error
        record.latency_s = time.monotonic() - ticket.begun
        self._service.metrics.count(record)
        if self._service.log is not None:
            self._service.log.write(record)


def failed() -> Refusal:
    """Return the refusal of what nobody foresaw."""
    return Refusal(500, "the server failed on this request.", code="internal_error")


def form_of(service: Service, path: str) -> Form:
    """Return the form of an error at a path: a provider's on its own route."""
    agreed = service.agreed
    return agreed.contract.error if agreed is not None and path == agreed.predict else Refusal.body


def refuse(ticket: Ticket, refusal: Refusal, form: Form) -> Response:
    """Return the answer that a refusal is."""
    ticket.status, ticket.error = refusal.status, refusal.code
    return answer(form(refusal), refusal.status, refusal.headers())


async def read_body(request: Request, service: Service) -> bytes:
    """Return the body. Raises Refusal where it is too large or takes too long, and ClientDisconnect."""
    most = service.limits.max_body_bytes
    large = Refusal(413, f"the body is larger than {most:,} bytes. Send less at a time.", code="body_too_large")
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > most:
        raise large
    held = bytearray()
    try:
        async with asyncio.timeout(service.limits.body_timeout_s):
            async for part in request.stream():
                held += part
                if len(held) > most:
                    raise large
    except TimeoutError:
        raise Refusal(408, f"the body did not arrive within {service.limits.body_timeout_s:g} s.", code="timeout") from None
    return bytes(held)
