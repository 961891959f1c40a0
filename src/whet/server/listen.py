"""Listening on a socket until asked to stop: then nothing new is taken, and what runs is finished within a time."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from whet.server.punctual import Punctual
from whet.server.refusals import Refusal
from whet.server.service import Service

BACKLOG = 1024
TICK_S = 0.02
SWITCH_S = 0.001
"""After what time the thread that writes texts lets the one that reads requests on. With Python's own 5 ms, of ten times the requests that a server of
two cores takes, one in a hundred was refused after 200 ms; with this one after 48 ms, and as many texts are written."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `listen`, which finishes what runs first."""
        yield


def listen(
    app: ASGIApp,
    service: Service,
    sock: socket.socket,
    grace_s: float,
    *,
    on_ready: Callable[[], None],
    on_stop: Callable[[int], None] = lambda left: None,
    on_hangup: Callable[[], None] | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Serve until SIGTERM, Ctrl-C, or `stop` is set; then finish what runs within `grace_s` seconds.

    `on_stop` hears how many requests are still at work. A second signal, or the end of the time, ends those too. `on_hangup` is
    called at SIGHUP, in a thread of its own.
    """
    protocol: Any = partial(Punctual, head_timeout_s=service.limits.head_timeout_s)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", ws="none", http=protocol, loop="asyncio", server_header=False,
        timeout_graceful_shutdown=2, backlog=BACKLOG,
    )  # fmt: skip
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(SWITCH_S, before))
    try:
        asyncio.run(_listen(_Server(config), service, sock, grace_s, on_ready, on_stop, on_hangup, stop))
    finally:
        sys.setswitchinterval(before)


async def _listen(
    server: _Server,
    service: Service,
    sock: socket.socket,
    grace_s: float,
    on_ready: Callable[[], None],
    on_stop: Callable[[int], None],
    on_hangup: Callable[[], None] | None,
    stop: threading.Event | None,
) -> None:
    loop = asyncio.get_running_loop()
    asked = asyncio.Semaphore(0)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked.release)
        if on_hangup is not None:
            loop.add_signal_handler(signal.SIGHUP, lambda: loop.run_in_executor(None, on_hangup))
    service.worker.start()
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    while not server.started and not serving.done():
        await asyncio.sleep(TICK_S)
    on_ready()
    while asked.locked() and not serving.done() and not (stop is not None and stop.is_set()):
        await asyncio.sleep(TICK_S)
    if not asked.locked():
        await asked.acquire()
    service.draining = True
    on_stop(service.num_at_work)
    end = loop.time() + grace_s
    while service.num_at_work and loop.time() < end and asked.locked():
        await asyncio.sleep(TICK_S)
    if service.num_at_work:
        service.worker.abandon(Refusal(503, "the server is stopping, and this took too long.", code="stopping", retry_after_s=5))
        end = loop.time() + 2
        while service.num_at_work and loop.time() < end:
            await asyncio.sleep(TICK_S)
    server.should_exit = True
    await serving
    service.worker.close()
    service.reading.shutdown(wait=False, cancel_futures=True)
    if service.log is not None:
        service.log.close()
