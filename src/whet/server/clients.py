"""Noticing that a client went away, so that nothing is computed for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

T = TypeVar("T")


async def until_gone(receive: Receive) -> None:
    """Return when the client has closed its connection. The body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T], forget: Callable[[], None]) -> T:
    """Return what `work` gives. Where the client goes first: forget it, and raise ClientDisconnect."""
    gone, doing = asyncio.create_task(until_gone(receive)), asyncio.create_task(work)
    try:
        await asyncio.wait({gone, doing}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return doing.result()
        raise ClientDisconnect
    finally:
        if not doing.done():
            forget()
        for task in (gone, doing):
            task.cancel()


async def in_reading_thread(request: Request, read: Callable[[], T]) -> T:
    """Return what a function gives that turns texts into tokens; the event loop goes on meanwhile."""
    return await asyncio.get_running_loop().run_in_executor(request.scope["whet.service"].reading, read)
