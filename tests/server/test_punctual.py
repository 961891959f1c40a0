"""A connection whose request does not begin in time is closed; one whose answer takes long is not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from functools import partial

import pytest
import uvicorn

from whet.server.punctual import Punctual

HEAD_S = 0.3
REQUEST = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n"


async def slow_answer(scope, receive, send):
    await asyncio.sleep(4 * HEAD_S)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def listening():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        protocol = partial(Punctual, head_timeout_s=HEAD_S)
        config = uvicorn.Config(
            slow_answer, log_config=None, lifespan="off", ws="none", http=protocol, loop="asyncio", timeout_keep_alive=60
        )
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            yield sock.getsockname()
        finally:
            server.should_exit = True
            await serving


async def told(*parts: bytes, pause_s: float = 0.0, answers: int = 0) -> bytes:
    """Send these parts, and return all that comes until so many answers are there, or else until the server closes."""
    async with listening() as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        got = b""
        with contextlib.suppress(ConnectionError):  # closed while this side still sends
            for part in parts:
                writer.write(part)
                await asyncio.sleep(pause_s)
            async with asyncio.timeout(60):
                while not (answers and got.count(b"ok") == answers) and (some := await reader.read(1000)):
                    got += some
        writer.close()
        return got


def test_a_connection_that_says_nothing_is_closed():
    assert asyncio.run(told()) == b""


def test_a_head_that_comes_byte_by_byte_is_not_waited_for():
    # each byte comes within the limit, and the head as a whole does not
    assert asyncio.run(told(*(bytes([byte]) for byte in REQUEST[:12]), pause_s=HEAD_S / 6)) == b""


@pytest.mark.slow
def test_a_second_request_on_the_same_connection_is_not_waited_for_either():
    assert asyncio.run(told(REQUEST, b"GET / HT", pause_s=6 * HEAD_S)).count(b"ok") == 1


def test_an_answer_that_takes_longer_than_a_head_may_is_given():
    assert asyncio.run(told(REQUEST, answers=1)).endswith(b"ok")
