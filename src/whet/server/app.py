"""The application: which path leads where."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from whet import __version__
from whet.server import asking, page, schema, writing
from whet.server.gate import RETRY_AFTER_S, Gate, failed, form_of, refuse
from whet.server.invoke import invoke
from whet.server.refusals import Refusal
from whet.server.service import Service, answer, service_of, ticket_of

Endpoint = Callable[[Request], Awaitable[Response]]
FEEDBACK = "/v1/feedback"
POSTS: dict[str, tuple[Endpoint, type[schema.Body]]] = {
    "/v1/chat/completions": (writing.chat, schema.ChatRequest),
    "/v1/completions": (writing.complete, schema.CompletionRequest),
    "/v1/embeddings": (asking.embed, schema.EmbeddingRequest),
    "/v1/classify": (asking.classify, schema.ClassifyRequest),
    FEEDBACK: (asking.feedback, schema.FeedbackRequest),
}


def build_app(service: Service) -> ASGIApp:
    """Return the application behind its gate."""
    # their pages would fetch scripts from elsewhere; /openapi.json stays
    app = FastAPI(title="whet", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    if service.agreed is not None:  # first: what a provider has agreed on wins over a path of ours
        app.add_api_route(service.agreed.predict, invoke, methods=["POST"], response_class=Response)
        app.add_api_route(service.agreed.health, ready, methods=["GET"], response_class=Response)
    for path, (endpoint, body) in POSTS.items():
        described = {"requestBody": {"required": True, "content": {"application/json": {"schema": body.model_json_schema()}}}}
        app.add_api_route(path, endpoint, methods=["POST"], response_class=Response, openapi_extra=described)
    gets: dict[str, Endpoint] = {
        "/": page.show,
        "/health": health,
        "/ready": ready,
        "/metrics": metrics,
        "/v1/models": models,
        "/v1/models/{name:path}": model,
    }
    for path, endpoint in gets.items():
        app.add_api_route(path, endpoint, methods=["GET"], response_class=Response, include_in_schema=path != "/")
        app.add_api_route(path, endpoint, methods=["HEAD"], response_class=Response, include_in_schema=False)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _not_here)
    app.add_exception_handler(Exception, _failed)
    computing = {*POSTS} - {FEEDBACK} | ({service.agreed.predict} if service.agreed is not None else set())
    return Gate(app, service, frozenset(computing))


async def health(request: Request) -> Response:
    """Say that the server is alive."""
    alive = service_of(request).worker.is_alive()
    return answer({"status": "ok" if alive else "dead"}, 200 if alive else 503)


async def ready(request: Request) -> Response:
    """Say whether the server takes requests."""
    service = service_of(request)
    if service.draining or not service.worker.is_alive():
        return answer({"status": "stopping"}, 503, {"retry-after": str(RETRY_AFTER_S)})
    if not service.behind:
        return answer({"status": "ready"})
    said: dict[str, Any] = {"status": "ready", "behind": len(service.behind)}
    if not service.keys or service.keys.open(request.headers.get("authorization")):  # nobody else learns of models
        said["why"] = dict(service.behind)
    return answer(said)


async def metrics(request: Request) -> Response:
    """Give Prometheus its numbers."""
    return Response(service_of(request).metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def models(request: Request) -> Response:
    """List what is served."""
    shelf = service_of(request).shelf
    return answer({"object": "list", "data": [_model(request, name) for name in shelf.names()]})


async def model(request: Request) -> Response:
    """Tell of one served run."""
    return answer(_model(request, request.path_params["name"]))


def _model(request: Request, name: str) -> dict[str, Any]:
    served = service_of(request).shelf.get(name)
    endpoints = {"chat": served.chats, "completions": served.writes, "classify": served.labels, "embeddings": served.embeds}
    return {
        "id": name,
        "object": "model",
        "created": served.created,
        "owned_by": "whet",
        "run": served.run,
        "fingerprint": served.fingerprint,
        "version": service_of(request).versions.get(name),
        "objective": served.objective_name,
        "endpoints": [endpoint for endpoint, has in endpoints.items() if has],
        "context": served.policy.context,
        "classes": list(served.policy.classes) if served.labels else None,
    }


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return refuse(ticket_of(request), error, form_of(service_of(request), request.url.path))


async def _failed(request: Request, error: Exception) -> Response:
    """Answer for what nobody foresaw; the gate tells of it where the server runs."""
    return refuse(ticket_of(request), failed(), form_of(service_of(request), request.url.path))


async def _not_here(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = ", ".join(sorted(POSTS))
    said = {404: f"there is nothing here. Ask at: {known}.", 405: "this path is not asked this way; see /openapi.json."}
    codes = {404: "unknown_path", 405: "method_not_allowed"}
    refusal = Refusal(error.status_code, said.get(error.status_code, str(error.detail)), code=codes.get(error.status_code))
    response = refuse(ticket_of(request), refusal, form_of(service_of(request), request.url.path))
    response.headers.update(error.headers or {})
    return response
