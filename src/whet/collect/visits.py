"""Visits to web servers one after the other: named hosts only, not too often, tried again where it may help, robots.txt obeyed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from whet.collect.credential import secret_error
from whet.collect.fetch import Answer, Patience, Reach, fetch, host_of, patiently, shown
from whet.collect.robots import ALL, Rules, read_robots


def hosts_of(urls: Iterable[str], more: Iterable[str] = ()) -> frozenset[str]:
    """Return the hosts that a recipe names, by addresses and by themselves. Raises ValueError for what is no address, and an error that does not
    repeat it for one with a password."""
    found = {one.strip().casefold().rstrip(".") for one in more}
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("addresses such as https://HOST/PATH")
        if parts.username is not None or parts.password is not None:
            raise secret_error(
                "an address with a user or a password in it is not written into a recipe, since recipes are stored and shared; "
                "leave them out (what was written here is not repeated)"
            )
        found.add(host_of(parts))
    return frozenset(found)


@dataclass(slots=True)
class Visits:
    """One visitor of some hosts."""

    reach: Reach
    patience: Patience
    delay_s: float
    robots: bool = True
    """Whether robots.txt is asked and obeyed: for pages, not for an API."""
    clock: Callable[[], float] = time.monotonic
    _rules: dict[str, Rules] = field(default_factory=dict)
    _last: dict[str, float] = field(default_factory=dict)

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer | None:
        """Return what an address gives; None where its host asks not to be read there. Raises DataError."""
        parts = urlsplit(url)
        host, path = host_of(parts), urlunsplit(("", "", parts.path or "/", parts.query, ""))
        rules = self._of(parts.scheme, host) if self.robots else ALL
        if not rules.allow(path):
            return None
        delay = max(self.delay_s, rules.delay_s)

        def ask() -> Answer:
            wait = self._last.get(host, -delay) + delay - self.clock()
            if wait > 0:
                self.patience.sleep(wait)
            self._last[host] = self.clock()
            return fetch(url, self.reach, headers=headers)

        answer = patiently(ask, self.patience, shown(url))
        end = urlsplit(answer.url)
        moved = self.robots and answer.url != url
        if moved and not self._of(end.scheme, host_of(end)).allow(urlunsplit(("", "", end.path or "/", end.query, ""))):
            return None
        return answer

    def _of(self, scheme: str, host: str) -> Rules:
        if self.reach.hosts is not None and host not in self.reach.hosts:
            return ALL  # asking it is refused with a reason
        if host not in self._rules:
            url = f"{scheme}://{host}/robots.txt"
            self._rules[host] = read_robots(lambda: patiently(lambda: fetch(url, self.reach), self.patience, url))
        return self._rules[host]
