"""What the endpoints share: the runs, the worker, the log, the counters, the limits; and the story of one request."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from whet.server.contracts import Agreed
from whet.server.keys import Keys
from whet.server.metrics import Metrics
from whet.server.served import Served, Shelf
from whet.server.worker import Worker
from whet.store.log import Item, Logged, RequestLog

GONE = 499
"""Status in the log of a request whose client went away; nobody sees it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for."""

    max_body_bytes: int = 2**20
    max_new_tokens: int = 4096
    """Longest text, whatever is asked."""
    body_timeout_s: float = 30.0
    """How long a request's body may take to arrive."""
    head_timeout_s: float = 20.0
    """How long a connection may take to say what it wants, from its opening or a request's first byte."""


@dataclass(slots=True, eq=False)
class Service:
    """One server."""

    shelf: Shelf
    worker: Worker
    keys: Keys
    limits: Limits
    hosts: frozenset[str]
    """Names under which the server may be addressed; empty: any."""
    abstain_below: float = 0.0
    log: RequestLog | None = None
    metrics: Metrics = field(default_factory=Metrics)
    draining: bool = False
    reading: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "whet reading"))
    """Where requests are turned into tokens: a tokenizer is for one thread at a time."""
    agreed: Agreed | None = None
    """The contract of a provider whose routes are there besides."""
    num_at_work: int = 0
    """Requests that came and are not answered to the end."""
    versions: dict[str, int] = field(default_factory=dict)
    """Of the served names that are registered, the version that answers."""
    behind: dict[str, str] = field(default_factory=dict)
    """Of the served names that could not be exchanged for what they stand for by now, why."""

    def note_version(self, name: str, version: int | None) -> None:
        """Note which version of a registered name answers; None for a run without one."""
        if version is not None:
            self.versions[name] = version
            self.metrics.version.labels(name).set(version)


@dataclass(slots=True, eq=False)
class Ticket:
    """One request from its first to its last byte."""

    id: str = field(default_factory=lambda: secrets.token_hex(16))
    begun: float = field(default_factory=time.monotonic)
    record: Logged | None = None
    """What is logged of it, once it is known to be for a model."""
    status: int = 0
    error: str | None = None

    def open(self, endpoint: str, name: str, served: Served) -> Logged:
        """Begin the record."""
        self.record = Logged(self.id, time.time(), endpoint, name, served.run, served.fingerprint)
        return self.record

    def note_first(self) -> None:
        """Note the first piece of a text."""
        if self.record is not None and self.record.first_token_s is None:
            self.record.first_token_s = time.monotonic() - self.begun


def ticket_of(request: Request) -> Ticket:
    found: Ticket = request.scope["whet.ticket"]
    return found


def service_of(request: Request) -> Service:
    found: Service = request.scope["whet.service"]
    return found


def tags_of(served: Served, values: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of the run's slice columns; nothing else of what a caller sends along is kept."""
    return {column: str(values[column])[:200] for column in served.slices if values.get(column) is not None}


def item_of(served: Served, text: str, num_tokens: int, values: Mapping[str, Any] | None) -> Item:
    return Item(len(text), num_tokens, tags=tags_of(served, values or {}), input=text)


def answer(values: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer."""
    body = json.dumps(values, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    return Response(body, status, dict(headers or {}), "application/json")
