"""robots.txt: which addresses of a host a polite reader leaves alone, and how long it waits. RFC 9309, and Crawl-delay beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from whet.collect.fetch import Answer
from whet.errors import DataError

AGENT = "whet"
LONGEST = 512 * 1024
"""Bytes that are looked at (RFC 9309, section 2.5)."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a host asks of this reader."""

    patterns: tuple[tuple[str, bool], ...] = ()
    """A path's pattern, and whether what fits it may be read."""
    delay_s: float = 0.0

    def allow(self, path: str) -> bool:
        """Whether a path, with its query, may be read: the longest pattern decides, and of two as long the one that allows."""
        wanted, best = _plain(path), (-1, True)
        for pattern, allowed in self.patterns:
            if _fits(pattern, wanted):
                best = max(best, (len(pattern), allowed))
        return best[1]


ALL = Rules()
NONE = Rules((("/", False),))


@dataclass(slots=True)
class _Group:
    agents: list[str] = field(default_factory=list)
    patterns: list[tuple[str, bool]] = field(default_factory=list)
    delay_s: float = 0.0


def parse_robots(text: str, agent: str = AGENT) -> Rules:
    """Return the rules of a robots.txt for this reader: those of all groups that name it, or else of those for everybody."""
    groups: list[_Group] = []
    ruled = True
    for line in text.splitlines():
        key, colon, value = line.partition("#")[0].partition(":")
        key, value = key.strip().casefold(), value.strip()
        if not colon:
            continue
        if key == "user-agent":
            if ruled or not groups:
                groups.append(_Group())
                ruled = False
            groups[-1].agents.append(value.casefold())
        elif groups and key in {"allow", "disallow", "crawl-delay"}:
            ruled = True
            if key == "crawl-delay":
                groups[-1].delay_s = _seconds(value)
            elif value:  # an empty one says nothing
                groups[-1].patterns.append((_plain(value), key == "allow"))
    own = [one for one in groups if agent in one.agents] or [one for one in groups if "*" in one.agents]
    return Rules(tuple(pattern for one in own for pattern in one.patterns), max((one.delay_s for one in own), default=0.0))


def read_robots(ask: Callable[[], Answer]) -> Rules:
    """Return the rules that a host gives: none where it has no such file, and where it cannot give it now, to read nothing."""
    try:
        answer = ask()
    except DataError:
        return NONE
    if answer.status == 200:
        return parse_robots(answer.body[:LONGEST].decode("utf-8", "replace").removeprefix("\ufeff"))
    return ALL if 400 <= answer.status < 500 else NONE


def _plain(path: str) -> str:
    """Return a path in one spelling: what is written as %41 is an A."""
    return quote(unquote(path), safe="/?&=*$:;,@!+'()~%")


def _fits(pattern: str, path: str) -> bool:
    """Whether a path fits a pattern, in a time that grows with the two: each piece is taken where it first stands."""
    whole = pattern.endswith("$")
    first, *pieces = (pattern[:-1] if whole else pattern).split("*")
    if not path.startswith(first):
        return False
    if whole and not pieces:
        return path == first
    last = pieces.pop() if whole else ""
    place = len(first)
    for piece in pieces:
        place = path.find(piece, place)
        if place < 0:
            return False
        place += len(piece)
    return len(path) - place >= len(last) and path.endswith(last)


def _seconds(value: str) -> float:
    try:
        found = float(value)
    except ValueError:
        return 0.0
    return found if 0 <= found < 3600 else 0.0
