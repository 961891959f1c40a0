"""Pages of the web."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any
from urllib.parse import urldefrag, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from whet.collect.fetch import Answer, Astray, Patience, Reach, host_of, shown
from whet.collect.page import Mark, Page, now
from whet.collect.sitemap import pages_of
from whet.collect.visits import Visits, hosts_of
from whet.data.html import main_text
from whet.data.rows import RawRow, Reject
from whet.errors import DataError
from whet.plugins import plugin
from whet.protocols import Source

HTML = ("text/html", "application/xhtml+xml")


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _addresses(urls: tuple[str, ...]) -> tuple[str, ...]:
    hosts_of(urls)
    return urls


def _pattern(value: str | None) -> str | None:
    try:
        re.compile(value or "")
    except re.error as error:
        raise ValueError(f"a regular expression; this one is broken: {error}") from None
    return value


Urls = Annotated[tuple[str, ...], BeforeValidator(_several), AfterValidator(_addresses)]


@plugin
class Web(Source):
    """Main texts of web pages, by their addresses or by sitemaps; robots.txt is obeyed, and only hosts that are named are asked."""

    urls: Urls = ()
    """Pages: https://example.org/help/cards."""
    sitemaps: Urls = ()
    """Sitemaps, whose pages are taken in their order: https://example.org/sitemap.xml."""
    hosts: Annotated[tuple[str, ...], BeforeValidator(_several)] = ()
    """Further hosts that sitemaps and redirects may lead to. Those of the addresses above are named already."""
    match: Annotated[str | None, AfterValidator(_pattern)] = None
    """Regular expression that a sitemap's address must have somewhere: /help/."""
    limit: Annotated[int, Field(ge=1)] = 1000
    """Pages at most."""
    delay_s: Annotated[float, Field(ge=0)] = 1.0
    """Seconds between two requests to a host; a longer Crawl-delay of its robots.txt counts instead."""
    retries: Annotated[int, Field(ge=0, le=20)] = 4
    """Tries again after no answer or one that says to wait, waiting twice as long each time, or as the server says."""
    timeout_s: Annotated[float, Field(gt=0)] = 30.0
    """Seconds of one request."""
    max_bytes: Annotated[int, Field(ge=1)] = 20_000_000
    """Largest page."""
    private: bool = False
    """Whether addresses of this machine and of private networks may be asked."""

    @model_validator(mode="after")
    def _names_something(self) -> Web:
        if not self.urls and not self.sitemaps:
            raise ValueError("at least one address in `urls` or `sitemaps`")
        return self

    @property
    def origin(self) -> str:
        return ", ".join(map(shown, (*self.urls, *self.sitemaps)))

    def collect(self, after: Mark | None) -> Iterator[Page]:
        """Yield a row for each page, in order: url, title, text. Raises DataError where a host cannot be reached."""
        reach = Reach(hosts_of((*self.urls, *self.sitemaps), self.hosts), self.private, self.timeout_s, self.max_bytes)
        visits = Visits(reach, Patience(self.retries), self.delay_s)
        pages = list(dict.fromkeys(islice(self._pages(visits), 10 * self.limit)))[: self.limit]
        begin = 0
        if after is not None:
            last, begin = str(after["url"]), int(str(after["done"]))
            begin = pages.index(last) + 1 if last in pages else begin
        named = {urldefrag(url)[0] for url in self.urls}
        for number, url in enumerate(pages[begin:], begin + 1):
            try:
                row, date = self._row(url, visits)
            except Astray as error:  # of one of a sitemap's pages; whoever names a page wants that one
                if url in named:
                    raise
                row, date = _none(url, f"is redirected: {error}", "Nothing to do, unless the page is wanted."), now()
            yield Page((row,), {"url": url, "done": number}, date)

    def _pages(self, visits: Visits) -> Iterator[str]:
        yield from (urldefrag(url)[0] for url in self.urls)
        assert visits.reach.hosts is not None
        for sitemap in self.sitemaps:
            for url in pages_of(sitemap, lambda one: _of_robots(one, visits)):
                parts = urlsplit(url)
                if host_of(parts) in visits.reach.hosts and (self.match is None or re.search(self.match, url)):
                    yield urldefrag(url)[0]

    def _row(self, url: str, visits: Visits) -> tuple[RawRow | Reject, str]:
        """Return the row of a page, or why there is none, with its date."""
        answer = visits.get(url)
        if answer is None:
            return _none(url, "its host asks in robots.txt not to be read there", "Ask its owner. Nothing to do here."), now()
        if answer.status != 200:
            return _none(url, f"answers {answer.status}", "Open it, and take it out of the recipe where it has gone."), now()
        kind = answer.headers.get("content-type", HTML[0]).partition(";")[0].strip().casefold()
        if kind == "text/plain":
            return RawRow(shown(url), 1, {"url": url, "title": "", "text": answer.body.decode("utf-8", "replace")}), now()
        if kind not in HTML:
            return _none(url, f"is {kind[:80]}, no web page", "Download it, and name the file as data.path."), now()
        page = main_text(answer.body, shown(url), answer.url)
        if page is None:
            return _none(url, "a web page without a main text", "Open it: it may be a menu or need JavaScript."), now()
        return RawRow(shown(url), 1, {"url": url, "title": page.title, "text": page.text}), page.date or now()


def _none(url: str, reason: str, remedy: str) -> Reject:
    return Reject(shown(url), 1, reason, remedy)


def _of_robots(url: str, visits: Visits) -> Answer:
    answer = visits.get(url)
    if answer is None:
        raise DataError(
            f"{shown(url)}: its host asks in robots.txt not to be read there. Name the pages in `urls`, or ask its owner."
        )
    return answer
