"""Listening on a socket until asked to stop. Every answer is on the disk before it is confirmed, so there is nothing to finish."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from whet.server.punctual import Punctual

TICK_S = 0.05
HEAD_TIMEOUT_S = 20.0
"""How long a connection may take to ask for something."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `listen`."""
        yield


def listen(app: ASGIApp, sock: socket.socket, *, on_ready: Callable[[], None], stop: threading.Event | None = None) -> None:
    """Serve until SIGTERM, Ctrl-C, or `stop` is set."""
    protocol: Any = partial(Punctual, head_timeout_s=HEAD_TIMEOUT_S)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", ws="none", http=protocol, loop="asyncio", server_header=False,
        timeout_graceful_shutdown=2, h11_max_incomplete_event_size=64 * 1024,
    )  # fmt: skip
    asyncio.run(_listen(_Server(config), sock, on_ready, stop or threading.Event()))


async def _listen(server: _Server, sock: socket.socket, on_ready: Callable[[], None], stop: threading.Event) -> None:
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    while not server.started and not serving.done():
        await asyncio.sleep(TICK_S)
    on_ready()
    while not stop.is_set() and not serving.done():
        await asyncio.sleep(TICK_S)
    server.should_exit = True
    await serving
