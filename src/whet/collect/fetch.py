"""One careful request: to hosts that are named only, to public addresses only where that is asked for, bounded in time and size.

The address that is checked is the address that is connected to, so that a name which leads elsewhere a moment later (DNS rebinding) gains
nothing; a redirect is checked like the first address. Proxies of the environment are not used: they would resolve names themselves.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from whet.errors import DataError

REDIRECTS = 5
CHUNK = 1 << 16
SLOW_DOWN = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers after which the same request may succeed."""
LONGEST_WAIT_S = 120.0
NAT64 = ipaddress.ip_network("64:ff9b::/96")
AGENT = "whet"


class Astray(DataError):
    """A redirect that leads where nothing may be asked."""


class Passing(Exception):
    """A failure that may have gone a moment later."""

    def __init__(self, said: str, wait_s: float = 0.0) -> None:
        super().__init__(said)
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Reach:
    """Where requests may go."""

    hosts: frozenset[str] | None = None
    """Names, in lower case, with their port where it is another one than the scheme's; None: any."""
    private: bool = False
    """Whether addresses of this machine and of private networks may be asked."""
    timeout_s: float = 30.0
    """Of a whole request."""
    max_bytes: int = 20_000_000
    """Of an answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came."""

    status: int
    url: str
    """Where it came from in the end."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a request is repeated, and how long is waited in between: twice as long each time, or as the server asks."""

    retries: int = 4
    first_wait_s: float = 1.0
    sleep: Callable[[float], None] = time.sleep


def fetch(
    url: str, reach: Reach, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> Answer:
    """Return the answer to one request, whatever its status, redirects followed. Raises Passing, and DataError where it must not be asked: Astray where a
    redirect leads there.

    Headers that may hold a secret (all but user-agent and accept) go to the first host only, and never from https on to http.
    """
    deadline = time.monotonic() + reach.timeout_s
    first, sent = _checked(url, reach), {"user-agent": AGENT, **{name.lower(): one for name, one in (headers or {}).items()}}
    for followed in range(REDIRECTS + 1):
        try:
            parts = _checked(url, reach)
            if host_of(parts) != host_of(first) or (first.scheme, parts.scheme) == ("https", "http"):
                sent = {name: one for name, one in sent.items() if name in {"user-agent", "accept"}}
            answer = _once(parts, reach, deadline, method, sent, body)
        except DataError as error:
            raise Astray(str(error)) if followed else error from None
        target = answer.headers.get("location")
        if answer.status not in {301, 302, 303, 307, 308} or target is None:
            return answer
        if answer.status in {301, 302, 303}:
            method, body = ("HEAD" if method == "HEAD" else "GET"), None
            sent.pop("content-type", None)
        url = urljoin(answer.url, target)
    raise Astray(f"{shown(url)}: more than {REDIRECTS} redirects in a row. Name the address that they lead to.")


def patiently(ask: Callable[[], Answer], patience: Patience, what: str) -> Answer:
    """Return an answer that says neither wait nor broken, after some tries. Raises DataError, with the reason of the last one."""
    for tried in range(patience.retries + 1):
        try:
            answer = ask()
            if answer.status not in SLOW_DOWN:
                return answer
            failure = Passing(f"it answers {answer.status}", _asked_wait(answer))
        except Passing as error:
            failure = error
        if tried < patience.retries:
            patience.sleep(min(LONGEST_WAIT_S, max(patience.first_wait_s * 2**tried, failure.wait_s)))
    raise DataError(f"{what}: {failure}, {patience.retries + 1} times. What came until then is kept; start again later to go on.")


def host_of(parts: SplitResult) -> str:
    """Return the host of an address as recipes name it: in lower case, with its port where that is not the scheme's."""
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    host = (parts.hostname or "").rstrip(".")
    return host if parts.port in {None, usual} else f"{host}:{parts.port}"


def shown(url: str) -> str:
    """Return an address as messages may have it: without user, password, query and fragment, which may hold secrets."""
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, host_of(parts), parts.path, "", ""))
    except ValueError:
        return "an address that cannot be read"


def _checked(url: str, reach: Reach) -> SplitResult:
    """Return the parts of an address that may be asked. Raises DataError."""
    try:
        parts = urlsplit(url)
        host = host_of(parts)
    except ValueError:
        raise DataError(f"{shown(url)}: is no address. Write it as https://HOST/PATH.") from None
    if parts.scheme not in {"http", "https"} or not host:
        raise DataError(f"{shown(url)}: is no address that can be fetched. Allowed: https://HOST/PATH or http://HOST/PATH.")
    if any(ord(one) < 33 or ord(one) == 127 for one in url):
        raise DataError(f"{shown(url)}: has spaces or control characters in it. Write them as %20 and so on.")
    if parts.username is not None or parts.password is not None:
        raise DataError(
            f"{shown(url)}: names a user or a password. Take them out; a credential is named by env:NAME or file:PATH."
        )
    if reach.hosts is not None and host not in reach.hosts:
        raise DataError(
            f"{shown(url)}: leads to {host}, which the recipe does not name. Allowed: {', '.join(sorted(reach.hosts))}. If it is meant "
            "so, name it too."
        )
    return parts


def _addresses(host: str, port: int, reach: Reach) -> list[str]:
    """Return the addresses of a host. Raises DataError where any is private, and must not be; Passing where the name is not known now."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Passing(f"its name cannot be resolved ({error})") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    closed = [one for one in addresses if not is_public(one)]
    if closed and not reach.private:
        raise DataError(
            f"{host}: leads to {closed[0]}, an address of this machine or of a private network, which is not asked. "
            "If it is yours, say so in the recipe: private: true."
        )
    return addresses


def is_public(address: str) -> bool:
    """Whether an address lies in the public internet, also one of IPv4 inside one of IPv6."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if found in NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if found.is_site_local:
            return False
    return found.is_global and not found.is_multicast and not found.is_reserved and not found.is_unspecified


def _once(
    parts: SplitResult, reach: Reach, deadline: float, method: str, headers: Mapping[str, str], body: bytes | None
) -> Answer:
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    url = urlunsplit((parts.scheme, parts.netloc, parts.path or "/", parts.query, ""))
    connection = http.client.HTTPConnection(host, port, timeout=_left(deadline))
    with closing(connection):
        try:
            made = _connected(_addresses(host, port, reach), port, deadline)
            with made, _cut_off(made, deadline):
                connection.sock = _secured(made, host) if parts.scheme == "https" else made
                named = {"host": _header_host(parts), "accept-encoding": "identity", "connection": "close", **headers}
                _send(connection, method, path, body, named)
                with connection.getresponse() as response:
                    held = _read(response, reach, deadline, connection.sock, shown(url))
        except (OSError, http.client.HTTPException) as error:
            raise Passing(_why(error if time.monotonic() < deadline else TimeoutError())) from None
        given = {name.lower(): one for name, one in response.getheaders()}
    return Answer(response.status, url, given, _unpacked(held, given.get("content-encoding", ""), reach, shown(url)))


def _header_host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    return (f"[{host}]" if ":" in host else host) + host_of(parts).removeprefix(host)


@contextmanager
def _cut_off(sock: socket.socket, deadline: float) -> Iterator[None]:
    """Cut a connection off at its deadline, whatever is read from it just then: a head, or what follows a body, may come for ever."""
    with sock.dup() as same:  # it stays the same connection where TLS is put around the other

        def cut() -> None:
            with suppress(OSError):
                same.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(max(0.0, deadline - time.monotonic()), cut)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def _send(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> None:
    try:
        connection.request(method, path, body=body, headers=headers)
    except ValueError:  # of what no line of a head can hold; its words would repeat a key
        raise DataError(
            f"{shown('//' + connection.host)[2:]}: a header or key for it has a line break, or letters that are not ASCII, as of quotation marks "
            "pasted along. Copy it again; it was not sent."
        ) from None


def _secured(sock: socket.socket, host: str) -> socket.socket:
    return ssl.create_default_context().wrap_socket(sock, server_hostname=host)


def _connected(addresses: list[str], port: int, deadline: float) -> socket.socket:
    """Return a connection to one of the addresses that were checked: no name is looked up again."""
    last: OSError = OSError("it has no address")
    for address in addresses:
        try:
            made = socket.create_connection((address, port), timeout=_left(deadline))
        except OSError as error:
            last = error
            continue
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made
    raise last


def _read(response: http.client.HTTPResponse, reach: Reach, deadline: float, sock: socket.socket | None, where: str) -> bytes:
    held = bytearray()
    while True:
        left = _left(deadline)
        if sock is not None and sock.fileno() >= 0:
            sock.settimeout(left)
        piece = response.read1(CHUNK)
        if not piece:
            break
        held += piece
        if len(held) > reach.max_bytes:
            raise _too_much(reach, where)
    if response.length:
        raise http.client.IncompleteRead(bytes(held), response.length)
    _left(deadline)  # an answer without a length ends where it is cut off, too
    return bytes(held)


def _unpacked(body: bytes, coding: str, reach: Reach, where: str) -> bytes:
    """Return a body without the packing that some servers use unasked."""
    coding = coding.strip().casefold()
    if coding in {"", "identity"} or not body:
        return body
    if coding not in {"gzip", "x-gzip", "deflate"}:
        raise DataError(f"{where}: its answer is packed as '{coding[:40]}', though none was asked for. Download it by hand.")
    try:
        opened = zlib.decompressobj(47)  # of gzip and zlib, which the data tell apart
        found = opened.decompress(body, reach.max_bytes + 1)
    except zlib.error:
        raise Passing("its answer is broken (packing)") from None
    if len(found) > reach.max_bytes:
        raise _too_much(reach, where)
    if not opened.eof:
        raise Passing("its answer is broken (packing cut short)")
    return found


def _too_much(reach: Reach, where: str) -> DataError:
    return DataError(
        f"{where}: gives more than {reach.max_bytes:,} bytes, and is not read on. Raise max_bytes if it is meant so."
    )


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def _why(error: OSError | http.client.HTTPException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, http.client.HTTPException):
        return f"its answer is broken ({type(error).__name__})"
    return f"it cannot be reached ({error.strerror or type(error).__name__})"


def _asked_wait(answer: Answer) -> float:
    """Return the seconds that the server asks to wait: a number, or until a date."""
    asked = answer.headers.get("retry-after", "").strip()
    if asked.isdecimal():
        return float(asked)
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time()) if asked else 0.0
    except (ValueError, TypeError):
        return 0.0
