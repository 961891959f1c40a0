"""The way in to the page: by an expected name only, with a session, with the token of that session, and not with too much."""

from __future__ import annotations

import hmac
import ipaddress
import json
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from whet.annotation.sessions import Sessions
from whet.server.refusals import Refusal

MAX_BODY_BYTES = 4 * 2**20
OPEN = frozenset({"/", "/login", "/health"})
"""Paths that need no session."""
STATIC = "/static/"
TOKEN = "x-whet-token"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass(frozen=True, slots=True)
class Names:
    """Under which names the page may be asked for: what another name leads here with is somebody else's page (DNS rebinding)."""

    names: frozenset[str]
    addresses: bool
    """Whether any plain address will do, as where others reach the machine."""

    def allow(self, host: str) -> bool:
        """Whether a Host header names this page."""
        try:
            parts = urlsplit(f"//{host}")
            name = "" if "@" in host or parts.path or parts.query else parts.hostname or ""
        except ValueError:
            return False
        if name in self.names:
            return True
        try:
            return self.addresses and bool(ipaddress.ip_address(name))
        except ValueError:
            return False


class Gate:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, sessions: Sessions, names: Names, cookie: str) -> None:
        self._app, self._sessions, self._names, self._cookie = app, sessions, names, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no lifespan and no socket is asked for
        begun = False

        async def tagged(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *more]
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, tagged)
        except Refusal as refusal:
            if not begun:
                await as_json(refusal.body(), refusal.status, refusal.headers())(scope, receive, tagged)
        except ClientDisconnect:
            pass
        except Exception as error:  # the last line: nobody gets a traceback, and the page lives on
            print(f"whet: {type(error).__name__} at {scope['path']!a}; answered with 500.", file=sys.stderr)
            traceback.print_tb(error.__traceback__)
            if not begun:
                await failed()(scope, receive, tagged)

    def _check(self, scope: Scope) -> None:
        """Raise Refusal where the request must not come in. The session is put into the scope."""
        headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
        host = headers.get("host", "")
        if not self._names.allow(host):
            raise Refusal(403, f"this page is not reached by the name '{host[:80]}'.", code="unknown_host")
        if method not in {"GET", "HEAD", "POST"}:
            raise Refusal(405, "this page takes GET and POST.", code="method_not_allowed")
        if method == "POST":
            self._check_post(headers, host)
        token = _cookie(headers.get("cookie", ""), self._cookie)
        session = self._sessions.find(token)
        scope["whet.session"], scope["whet.token"] = session, token
        if path in OPEN or path.startswith(STATIC):
            return
        if session is None:
            raise Refusal(401, "nobody is signed in here. Load the page again.", code="no_session")
        given = headers.get(TOKEN, "").encode()
        if method == "POST" and not hmac.compare_digest(given, session.csrf.encode()):
            raise Refusal(403, "the request does not come from this page. Load the page again.", code="wrong_token")

    def _check_post(self, headers: Headers, host: str) -> None:
        origin = headers.get("origin")
        if (origin is not None and origin.partition("://")[2] != host) or headers.get("sec-fetch-site", "same-origin") not in {
            "same-origin",
            "none",
        }:
            raise Refusal(403, "the request comes from another page.", code="wrong_origin")
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refusal(415, "the body's content-type is not application/json.", code="unsupported_media_type")
        announced = headers.get("content-length", "0")
        if not announced.isdecimal() or int(announced) > MAX_BODY_BYTES:
            raise too_large()


def failed() -> Response:
    """Return the answer to what nobody foresaw."""
    return as_json(
        Refusal(500, "the page's server failed on this. Nothing was stored; try again.", code="internal_error").body(), 500
    )


def too_large() -> Refusal:
    """Return the refusal of a body that is larger than any answer."""
    return Refusal(413, f"the body is larger than {MAX_BODY_BYTES:,} bytes.", code="body_too_large")


def as_json(values: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer in JSON, with all but ASCII escaped: a row may hold half a character, which UTF-8 cannot say."""
    return Response(json.dumps(values, allow_nan=False), status, headers, media_type="application/json")


def _cookie(header: str, name: str) -> str | None:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return None
    return None if found is None else found.value
