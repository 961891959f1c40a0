"""Sitemaps: the addresses of a site's pages, as XML, as lines of text, each also gzipped, and lists of such. sitemaps.org."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator

from whet.collect.fetch import Answer, shown
from whet.data.unpack import Budget
from whet.data.xml_events import xml_events
from whet.errors import DataError

DEEPEST = 3
"""Sitemaps in one another."""
MOST = 500
"""Sitemaps of one list, in all."""
LARGEST = 100_000_000
"""Bytes of one, unpacked: twice what the protocol allows."""


def pages_of(url: str, ask: Callable[[str], Answer]) -> Iterator[str]:
    """Yield the addresses of a sitemap, and of those that it names, in order. Raises DataError where one cannot be read."""
    left = [MOST]
    yield from _pages(url, ask, 1, left)


def _pages(url: str, ask: Callable[[str], Answer], depth: int, left: list[int]) -> Iterator[str]:
    left[0] -= 1
    if depth > DEEPEST or left[0] < 0:
        raise DataError(f"{shown(url)}: sitemaps more than {DEEPEST} deep, or more than {MOST}. Name those that are wanted.")
    answer = ask(url)
    if answer.status != 200:
        raise DataError(f"{shown(url)}: answers {answer.status}; a sitemap is wanted there. Check its address.")
    body = _unpacked(answer.body, url)
    if not body.lstrip().startswith(b"<"):
        yield from (line.strip() for line in body.decode("utf-8", "replace").splitlines() if line.strip().startswith("http"))
        return
    found, is_list = _locations(body, shown(url))
    for one in found:
        if is_list:
            yield from _pages(one, ask, depth + 1, left)
        else:
            yield one


def _locations(body: bytes, name: str) -> tuple[list[str], bool]:
    """Return the addresses, and whether they are of sitemaps."""
    path: list[str] = []
    found: list[str] = []
    is_list = False
    for event in xml_events(io.BytesIO(body), name, Budget(name, len(body))):
        if event.kind == "start":
            path.append(event.value)
            is_list = is_list or event.value == "sitemapindex"
            if path[-2:] in (["url", "loc"], ["sitemap", "loc"]):
                found.append("")
        elif event.kind == "end":
            path.pop()
        elif path[-2:] in (["url", "loc"], ["sitemap", "loc"]):
            found[-1] += event.value
    return [one.strip() for one in found if one.strip()], is_list


def _unpacked(body: bytes, url: str) -> bytes:
    if body[:2] != b"\x1f\x8b":
        return body
    try:
        opened = zlib.decompressobj(31)
        found = opened.decompress(body, LARGEST + 1)
    except zlib.error:
        raise DataError(f"{shown(url)}: a broken gzip file. Open it by hand.") from None
    if len(found) > LARGEST:
        raise DataError(f"{shown(url)}: unpacks to more than {LARGEST:,} bytes, and is not read. Name smaller sitemaps.")
    return found
