"""Records of a JSON API."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from whet.collect.credential import Credential, hidden, secret, secret_error
from whet.collect.fetch import Answer, Patience, Reach, shown
from whet.collect.page import Mark, Page, now
from whet.collect.visits import Visits, hosts_of
from whet.data.rows import RawRow, Reject
from whet.data.values import row_of
from whet.errors import DataError
from whet.plugins import plugin
from whet.protocols import Source

SECRET = re.compile(
    r"authori[sz]ation|cookie|token|secret|passw|api[-_]?key|access[-_]?key|^key$|signature|^sig$|^pat$", re.IGNORECASE
)
"""Names of headers and parameters whose values are secrets."""
MOST_EMPTY = 100
"""Answers without a record in a row, after which nothing more is expected."""
NEXT = re.compile(r'<([^>]*)>\s*;[^,]*?\brel\s*=\s*"?(?:[^",]*\s)?next(?:\s[^",]*)?"?', re.IGNORECASE)


def _open(values: Mapping[str, str | int | bool]) -> Mapping[str, str | int | bool]:
    """Refuse names that stand for secrets."""
    wrong = next((name for name in values if SECRET.search(name)), None)
    if wrong is not None:
        raise secret_error(
            f"'{wrong[:40]}' is a secret by its name, and recipes are stored and shared; name where it lies instead: `key: env:NAME` or "
            "`key: file:PATH`, with `key_header` or `key_parameter` (what was written here is not repeated)"
        )
    return values


def _address(url: str) -> str:
    hosts_of([url])
    _open(dict(parse_qsl(urlsplit(url).query, keep_blank_values=True)))
    return url


@plugin
class JsonApi(Source):
    """Records of a JSON API, page after page: by a cursor, by numbers of pages, by offsets, or by links."""

    url: Annotated[str, AfterValidator(_address)]
    """Where the first page is: https://api.example.org/v1/tickets."""
    records: str | None = None
    """Path to the list of records in an answer, such as data.items; none: the answer itself, or its only list."""
    paging: Literal["none", "link", "cursor", "page", "offset"] = "none"
    """How it goes on. link: the header Link with rel="next". cursor: the answer says where. page, offset: by counting, until a page is empty."""
    next: str = "next"
    """With cursor: path in the answer to the next page's mark, or its whole address, such as meta.next_cursor."""
    parameter: str | None = None
    """The query parameter that says which page; none: cursor, page or offset."""
    first: Annotated[int, Field(ge=0)] = 1
    """With page: number of the first one."""
    size: Annotated[int, Field(ge=1)] = 100
    """With page and offset: records of a page."""
    size_parameter: str | None = None
    """The query parameter for `size`, such as per_page or limit; none: it is not sent."""
    parameters: Annotated[dict[str, str | int | bool], AfterValidator(_open)] = Field(default_factory=dict)
    """Further query parameters. No secrets."""
    headers: Annotated[dict[str, str | int | bool], AfterValidator(_open)] = Field(default_factory=dict)
    """Further headers. No secrets."""
    key: Credential | None = None
    """Where the API's key is: env:NAME, file:PATH."""
    key_header: str = "Authorization"
    """The header that the key is sent in."""
    key_prefix: str = "Bearer "
    """What stands before the key there."""
    key_parameter: str | None = None
    """The query parameter that the key is sent in, instead of a header."""
    hosts: Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)] = ()
    """Further hosts that redirects and next pages may lead to; the key is never sent there."""
    limit: Annotated[int, Field(ge=1)] = 1_000_000
    """Records at most."""
    delay_s: Annotated[float, Field(ge=0)] = 0.2
    """Seconds between two requests."""
    retries: Annotated[int, Field(ge=0, le=20)] = 4
    """Tries again after no answer or one that says to wait, waiting twice as long each time, or as the server says."""
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds of one request."""
    max_bytes: Annotated[int, Field(ge=1)] = 50_000_000
    """Largest answer."""
    private: bool = False
    """Whether addresses of this machine and of private networks may be asked."""

    @field_validator("key_header")
    @classmethod
    def _is_header(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9-]+", name):
            raise ValueError("the name of a header: letters, digits and -")
        return name

    @model_validator(mode="after")
    def _counts(self) -> JsonApi:
        if self.paging == "offset" and self.size_parameter is None:
            raise ValueError("with paging: offset also size_parameter, such as limit, so that pages fit together")
        return self

    @property
    def origin(self) -> str:
        return shown(self.url)

    def collect(self, after: Mark | None) -> Iterator[Page]:
        """Yield the records, an answer at a time. Raises DataError where the API refuses, or its answer is of another form."""
        key = secret(self.key) if self.key is not None else ""
        reach = Reach(hosts_of([self.url], self.hosts), self.private, self.timeout_s, self.max_bytes)
        visits = Visits(reach, Patience(self.retries), self.delay_s, robots=False)
        mark: Mark | None = after or {"rows": 0, "at": self._begin()}
        been: set[object] = set()
        num_empty = 0
        while mark is not None:
            been.add(mark["at"])
            number = int(str(mark["rows"]))
            address = self._page_of(mark["at"])
            answer = self._asked(visits, address, key)
            tree = _tree(answer, address, key)
            found = self._records(tree, address)[: self.limit - number]
            rows = tuple(self._row(record, number + place) for place, record in enumerate(found, 1))
            num_empty = 0 if found else num_empty + 1
            at = self._next(mark["at"], tree, answer, len(found), address)
            if at is not None and at in been:
                raise _endless(address, "leads back to a page that was read")
            if at is not None and num_empty > MOST_EMPTY:
                raise _endless(address, f"gave {num_empty} pages without a record in a row")
            mark = None if at is None or number + len(rows) >= self.limit else {"rows": number + len(rows), "at": at}
            if rows or mark is None:
                yield Page(rows, mark, now())

    def _begin(self) -> object:
        return {"page": self.first, "offset": 0}.get(self.paging)

    def _page_of(self, at: object) -> str:
        """Return the address of a page, without the key."""
        more = {name: _said(value) for name, value in self.parameters.items()}
        if isinstance(at, str) and at.startswith(("http://", "https://")):
            return at
        if self.size_parameter is not None:
            more[self.size_parameter] = str(self.size)
        if at is not None:
            more[self.parameter or self.paging] = str(at)
        return _with(self.url, more)

    def _asked(self, visits: Visits, address: str, key: str) -> Answer:
        headers = {"accept": "application/json", **{name: _said(value) for name, value in self.headers.items()}}
        own = urlsplit(address).netloc == urlsplit(self.url).netloc and urlsplit(address).scheme == urlsplit(self.url).scheme
        if key and own and self.key_parameter is None:
            headers[self.key_header] = f"{self.key_prefix}{key}"
        if key and own and self.key_parameter is not None:
            address = _with(address, {self.key_parameter: key})
        answer = visits.get(address, headers)
        assert answer is not None, "an API is asked whatever its robots.txt says"
        if answer.status != 200:
            hint = "Name a valid key: key: env:NAME or file:PATH." if answer.status in {401, 403} else "Check url and parameters."
            raise DataError(f"{shown(address)}: answers {answer.status}. {hint} What came until then is kept.")
        return answer

    def _records(self, tree: Any, address: str) -> list[Any]:
        if self.records is not None:
            found = _at(tree, self.records)
        elif isinstance(tree, list):
            found = tree
        else:
            lists = [name for name, value in tree.items() if isinstance(value, list)] if isinstance(tree, dict) else []
            if len(lists) != 1:
                raise DataError(
                    f"{shown(address)}: its answer has {len(lists)} lists at the top ({', '.join(lists[:8]) or 'none'}). Say where the records are: "
                    "records: PATH, such as data.items."
                )
            found = tree[lists[0]]
        if not isinstance(found, list):
            names = ", ".join(list(tree)[:8]) if isinstance(tree, dict) else type(tree).__name__
            raise DataError(
                f"{shown(address)}: there is no list at '{self.records}'; the answer has {names}. Set `records` to its path."
            )
        return found

    def _row(self, record: Any, number: int) -> RawRow | Reject:
        place = shown(self.url)
        if isinstance(record, dict):
            return row_of(place, number, record)
        if isinstance(record, str):
            return RawRow(place, number, {"text": record})
        return Reject(
            place, number, "a record that is neither an object nor a text", "Set `records` to the path of the list of records."
        )

    def _next(self, at: object, tree: Any, answer: Answer, num_found: int, address: str) -> object | None:
        """Return where the next page is; None where this is the last one."""
        if self.paging in {"page", "offset"}:
            step = 1 if self.paging == "page" else num_found
            return int(str(at)) + step if num_found else None
        if self.paging == "none":
            return None
        if self.paging == "link":
            link = NEXT.search(answer.headers.get("link", ""))
            found: object = urljoin(answer.url, link[1]) if link else None
        else:
            found = _at(tree, self.next)
        if found in (None, "", False):
            return None
        if not isinstance(found, str | int):
            raise DataError(f"{shown(address)}: '{self.next}' is no mark of a next page. Set `next` to the path of one.")
        if isinstance(found, str) and found.startswith(("/", "?")):
            found = urljoin(answer.url, found)
        if isinstance(found, str) and found.startswith("http"):
            found = self._without_key(found)
        if found in (at, address):
            raise _endless(address, "names itself as its next page")
        return found

    def _without_key(self, url: str) -> str:
        """Return an address as it may be stored: some APIs repeat the key in it."""
        parts = urlsplit(url)
        kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != self.key_parameter]
        return urlunsplit(parts._replace(query=urlencode(kept), fragment=""))


def _endless(address: str, what: str) -> DataError:
    return DataError(f"{shown(address)}: {what}, so it would never end. Check `paging`, `next` and `parameter`.")


def _said(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _with(url: str, more: Mapping[str, str]) -> str:
    """Return an address with these query parameters, in place of its own of the same names."""
    parts = urlsplit(url)
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in more]
    return urlunsplit(parts._replace(query=urlencode([*kept, *more.items()]), fragment=""))


def _at(tree: Any, path: str) -> Any:
    """Return what lies at a path of names and numbers; None where there is nothing."""
    for name in path.split("."):
        if isinstance(tree, dict):
            tree = tree.get(name)
        elif isinstance(tree, list) and name.lstrip("-").isdecimal() and -len(tree) <= int(name) < len(tree):
            tree = tree[int(name)]
        else:
            return None
    return tree


def _tree(answer: Answer, address: str, key: str) -> Any:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{shown(address)}: its answer is no JSON ({hidden(type(error).__name__, key)}). Check url; a page for people is read by source 'web'."
        ) from None
