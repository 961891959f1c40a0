"""A web server on this machine for tests of what fetches: pages by their paths, and a record of what was asked."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Asked(NamedTuple):
    path: str
    headers: dict[str, str]


class Reply(NamedTuple):
    body: bytes | str = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


class Site:
    """Serves `pages`: by path with query, a reply, or what makes one of the request."""

    def __init__(self) -> None:
        self.pages: dict[str, Reply | Callable[[Asked], Reply]] = {}
        self.asked: list[Asked] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            wbufsize = -1

            def do_GET(self) -> None:
                asked = Asked(self.path, {name.lower(): value for name, value in self.headers.items()})
                site.asked.append(asked)
                found = site.pages.get(self.path) or site.pages.get(self.path.partition("?")[0]) or Reply("gone", 404)
                reply = found if isinstance(found, Reply) else found(asked)
                body = reply.body.encode() if isinstance(reply.body, str) else reply.body
                self.send_response(reply.status)
                given = {"content-type": "text/html; charset=utf-8", "content-length": str(len(body))} | dict(reply.headers)
                for name, value in given.items():
                    if value:
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.http.server_port}"
        self.url = f"http://{self.host}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def paths(self) -> Counter[str]:
        return Counter(one.path for one in self.asked)

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


def page(number: int, words: str = "") -> str:
    text = " ".join(f"This is sentence {place} of article {number} about cards and payments {words}." for place in range(12))
    return f"<html><head><title>Article {number}</title></head><body><nav>Home Menu</nav><article><h1>Article {number}</h1><p>{text}</p></article></body></html>"
