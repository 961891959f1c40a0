"""The page's application: which path leads where."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Annotated, Any, TypeVar

import jinja2
import pydantic
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from whet.annotation.answers import Answer, Stale
from whet.annotation.desk import Desk, Unknown
from whet.annotation.gate import MAX_BODY_BYTES, Gate, Names, as_json, failed, too_large
from whet.annotation.kinds import NotAllowed
from whet.annotation.sessions import Session, Sessions, TooManyFailures, is_name
from whet.annotation.store_file import NotStored
from whet.server.refusals import Refusal, wrong_value

BODY_TIMEOUT_S = 30.0
STATIC = {"page.css": "text/css", "page.js": "text/javascript", "kinds.js": "text/javascript", "views.js": "text/javascript"}
"""The page's own files, and what they are; nothing else is ever read."""
WEEK_S = 7 * 86_400


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Login(_Body):
    """Who comes, and the password where there is one."""

    annotator: str
    password: str = ""


class Next(_Body):
    """Whose screen wants a row, and which rows it has just put aside."""

    screen: Annotated[str, Field(max_length=64)]
    but: Annotated[list[str], Field(max_length=1000)] = []


class Said(_Body):
    """What somebody says of a row. `revision` is that of the answer which was on the screen."""

    key: str
    action: str
    value: Any = None
    reason: str = ""
    revision: Annotated[int, Field(ge=0)]
    seconds: float | None = None


class Screen(_Body):
    """Whose screen it is."""

    screen: Annotated[str, Field(max_length=64)]


class Label(_Body):
    """A label to add."""

    name: str


Read = TypeVar("Read", bound=BaseModel)


def build_app(desk: Desk, sessions: Sessions, names: Names, cookie: str) -> ASGIApp:
    """Return the application behind its gate."""
    app = FastAPI(title="whet annotate", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    site = _Site(desk, sessions, cookie)
    gets: Mapping[str, Callable[[Request], Any]] = {
        "/": site.page,
        "/health": site.health,
        "/static/{name}": site.static,
        "/api/state": site.state,
        "/api/row/{key}": site.row,
        "/api/history/{key}": site.history,
        "/api/disputes": site.disputes,
        "/api/agreement": site.agreement,
    }
    posts: Mapping[str, Callable[[Request], Any]] = {
        "/login": site.login,
        "/logout": site.logout,
        "/api/next": site.next,
        "/api/save": site.save,
        "/api/decide": site.decide,
        "/api/undo": site.undo,
        "/api/label": site.label,
    }
    for path, endpoint in gets.items():
        app.add_api_route(path, endpoint, methods=["GET"], response_class=Response)
    for path, endpoint in posts.items():
        app.add_api_route(path, endpoint, methods=["POST"], response_class=Response)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _not_here)
    app.add_exception_handler(Exception, _failed)
    return Gate(app, sessions, names, cookie)


class _Site:
    """The endpoints."""

    def __init__(self, desk: Desk, sessions: Sessions, cookie: str) -> None:
        self._desk, self._sessions, self._cookie = desk, sessions, cookie
        folder = files("whet.annotation") / "page"
        self._files = {name: (folder / name).read_text(encoding="utf-8") for name in STATIC}
        environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
        self._page = environment.from_string((folder / "page.html").read_text(encoding="utf-8"))

    async def page(self, request: Request) -> Response:
        """Give the page; where there is no password, whoever asks is let in."""
        session, token = request.scope["whet.session"], None
        if session is None and not self._sessions.is_closed and _is_visit(request):
            token, session = self._sessions.begin(self._sessions.annotator)
        text = self._page.render(
            title=self._desk.title if session else "whet annotate",
            token="" if session is None else session.csrf,
            signed_in=session is not None,
            closed=self._sessions.is_closed,
            annotator=self._sessions.annotator if session is None else session.annotator,
        )
        return self._with_cookie(Response(text, media_type="text/html"), token, request)

    async def health(self, request: Request) -> Response:
        """Say that the server is alive."""
        return as_json({"status": "ok"})

    async def static(self, request: Request) -> Response:
        """Give one of the page's own files."""
        name = request.path_params["name"]
        if name not in STATIC:
            raise Refusal(404, "there is no such file.", code="unknown_path")
        return Response(self._files[name], media_type=STATIC[name])

    async def login(self, request: Request) -> Response:
        """Let somebody in, or let who is in go on under another name."""
        asked, session = await _read(request, Login), request.scope["whet.session"]
        if not is_name(asked.annotator):
            raise Refusal(400, "a name has 1 to 64 characters, on one line.", param="annotator", code="invalid_value")
        if session is None and self._sessions.is_closed:
            try:
                fits = await run_in_threadpool(self._sessions.is_password, asked.password)
            except TooManyFailures:
                raise Refusal(429, "too many wrong passwords. Wait a minute.", code="too_many", retry_after_s=60) from None
            if not fits:
                raise Refusal(401, "that is not the password.", code="wrong_password")
        self._sessions.end(request.scope["whet.token"])
        token, _ = self._sessions.begin(asked.annotator)
        return self._with_cookie(as_json({"annotator": asked.annotator}), token, request)

    async def logout(self, request: Request) -> Response:
        """Forget this browser."""
        self._sessions.end(request.scope["whet.token"])
        response = as_json({})
        response.delete_cookie(self._cookie, path="/")
        return response

    async def state(self, request: Request) -> Response:
        """Say what the job is, and how far this annotator is."""
        return await _answer(self._desk.state, _session(request).annotator)

    async def row(self, request: Request) -> Response:
        """Show one row again."""
        return await _answer(self._desk.row, request.path_params["key"], _session(request).annotator)

    async def history(self, request: Request) -> Response:
        """Tell what was said of one row, by whom and when."""
        return await _answer(self._desk.history, request.path_params["key"])

    async def disputes(self, request: Request) -> Response:
        """List the rows to be settled."""
        return await _answer(self._desk.disputes, _session(request).annotator)

    async def agreement(self, request: Request) -> Response:
        """Say how far annotators agree."""
        return await _answer(self._desk.agreement)

    async def next(self, request: Request) -> Response:
        """Give the next row."""
        asked = await _read(request, Next)
        return await _answer(self._desk.next, _session(request).annotator, asked.screen, asked.but)

    async def save(self, request: Request) -> Response:
        """Store an answer; it is on the disk when this is answered."""
        return await _answer(self._desk.save, await _said(request))

    async def decide(self, request: Request) -> Response:
        """Store what was settled."""
        return await _answer(self._desk.decide, await _said(request))

    async def undo(self, request: Request) -> Response:
        """Take back the last answer."""
        asked = await _read(request, Screen)
        return await _answer(self._desk.undo, _session(request).annotator, asked.screen)

    async def label(self, request: Request) -> Response:
        """Add a label."""
        return await _answer(self._desk.add_label, (await _read(request, Label)).name)

    def _with_cookie(self, response: Response, token: str | None, request: Request) -> Response:
        if token is not None:
            response.set_cookie(
                self._cookie, token, max_age=WEEK_S, path="/", httponly=True, samesite="strict",
                secure=request.url.scheme == "https",
            )  # fmt: skip
        return response


def _is_visit(request: Request) -> bool:
    """Whether somebody looks at the page itself, and not another page that asks for it as a picture to push sessions out."""
    return request.headers.get("sec-fetch-dest", "document") == "document"


async def _answer(act: Callable[..., Mapping[str, Any]], *given: Any) -> Response:
    """Return what the desk says, or why it does not do it."""
    try:
        return as_json(await run_in_threadpool(act, *given))
    except Unknown:
        raise Refusal(404, "there is no such row.", code="unknown_row") from None
    except NotAllowed as error:
        raise Refusal(400, str(error), code="invalid_value") from None
    except NotStored as error:
        raise Refusal(
            507,
            f"the answer could not be stored ({error.reason}). Ask whoever runs whet annotate to look at its disk.",
            code="not_stored",
        ) from None
    except Stale as error:
        now = {"action": error.now.action, "value": error.now.value, "reason": error.now.reason, "revision": error.now.revision}
        said = Refusal(409, "this row was changed in another window meanwhile.", code="changed").body()
        return as_json({**said, "now": now}, 409)


async def _said(request: Request) -> Answer:
    asked = await _read(request, Said)
    return Answer(
        key=asked.key, annotator=_session(request).annotator, revision=asked.revision, action=asked.action,  # type: ignore[arg-type]
        value=asked.value, reason=asked.reason, seconds=asked.seconds,
    )  # fmt: skip


def _session(request: Request) -> Session:
    session = request.scope["whet.session"]
    assert isinstance(session, Session), "the gate lets nobody in without a session"
    return session


async def _read(request: Request, shape: type[Read]) -> Read:
    """Return the body. Raises Refusal where it is too large, too slow, or not what it should be."""
    held = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for part in request.stream():
                held += part
                if len(held) > MAX_BODY_BYTES:
                    raise too_large()
    except TimeoutError:
        raise Refusal(408, f"the body did not arrive within {BODY_TIMEOUT_S:g} s.", code="timeout") from None
    try:
        return shape.model_validate_json(bytes(held))
    except pydantic.ValidationError as error:
        if any(one["type"] == "json_invalid" for one in error.errors(include_url=False, include_context=False)):
            raise Refusal(400, "the body is no JSON.", code="invalid_json") from None
        raise wrong_value(error, frozenset(shape.model_fields)) from None


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return as_json(error.body(), error.status, error.headers())


async def _failed(request: Request, error: Exception) -> Response:
    """Answer for what nobody foresaw; the gate tells of it where the server runs."""
    return failed()


async def _not_here(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = {404: "there is nothing here.", 405: "this path is not asked this way."}
    refusal = Refusal(error.status_code, said.get(error.status_code, str(error.detail)), code="unknown_path")
    return as_json(refusal.body(), error.status_code)
