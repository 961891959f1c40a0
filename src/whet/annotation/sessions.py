"""Who is at the page: a password that is kept as a hash only, and sessions, each with a token of its own against forged requests."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from whet.display import why_unread
from whet.errors import ServerError

VARIABLE = "WHET_ANNOTATE_PASSWORD"
SHORTEST = 10
MOST_SESSIONS = 1_000
MOST_FAILURES, WITHIN_S = 10, 60.0
"""Wrong passwords that are taken in so many seconds, from all together; then nobody is asked for a while."""
NAME = re.compile(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,62}[^\s\x00-\x1f\x7f])?")


class TooManyFailures(Exception):
    """Too many wrong passwords lately."""


@dataclass(slots=True)
class Session:
    """One browser."""

    csrf: str
    annotator: str


class Sessions:
    """The browsers that are let in. Tokens are kept as hashes, so that the memory of this process lets nobody in."""

    def __init__(self, password: str | None, annotator: str) -> None:
        """Without a password whoever reaches the page is let in as `annotator`."""
        self.annotator = annotator
        self._salt = secrets.token_bytes(16)
        self._password = None if password is None else self._slow_hash(password)
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._failures: deque[float] = deque()
        self._guard = threading.Lock()

    @property
    def is_closed(self) -> bool:
        """Whether there is a password."""
        return self._password is not None

    def find(self, token: str | None) -> Session | None:
        """Return the session that a cookie stands for."""
        with self._guard:
            found = self._sessions.get(_hash(token)) if token else None
            if token and found is not None:
                self._sessions.move_to_end(_hash(token))  # of too many, those go that were not used for longest
            return found

    def begin(self, annotator: str) -> tuple[str, Session]:
        """Return a new session and what its cookie holds."""
        token, session = secrets.token_urlsafe(32), Session(secrets.token_urlsafe(32), annotator)
        with self._guard:
            self._sessions[_hash(token)] = session
            while len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)
        return token, session

    def end(self, token: str | None) -> None:
        """Forget a session."""
        with self._guard:
            self._sessions.pop(_hash(token or ""), None)

    def is_password(self, given: str) -> bool:
        """Whether this is the password, in a time that says nothing about it. Raises TooManyFailures."""
        assert self._password is not None, "only asked where there is a password"
        with self._guard:
            now = time.monotonic()
            while self._failures and self._failures[0] < now - WITHIN_S:
                self._failures.popleft()
            if len(self._failures) >= MOST_FAILURES:
                raise TooManyFailures
            self._failures.append(now)  # before the slow part: many at once are many
        fits = hmac.compare_digest(self._slow_hash(given), self._password)
        if fits:
            with self._guard:
                self._failures.clear()
        return fits

    def _slow_hash(self, password: str) -> bytes:
        return hashlib.scrypt(password.encode("utf-8", "surrogateescape"), salt=self._salt, n=2**14, r=8, p=1)


def read_password(file: Path | None, environment: Mapping[str, str]) -> str | None:
    """Return the password of a file, or of the environment; None where there is none. Raises ServerError."""
    if file is None:
        password, place = environment.get(VARIABLE, "").strip(), f"the variable {VARIABLE}"
        if not password:
            return None
    else:
        place = str(file)
        try:
            password = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ServerError(
                f"{file}: the password cannot be read ({why_unread(error)}). Write it into a text file of one line."
            ) from None
    if len(password) < SHORTEST or "\n" in password:
        raise ServerError(f"{place}: a password is one line of at least {SHORTEST} characters.")
    return password


def is_name(text: str) -> bool:
    """Whether an annotator may be called so."""
    return NAME.fullmatch(text) is not None


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
