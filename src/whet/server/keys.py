"""API keys: read from a file or the environment, kept as hashes, compared in constant time, never shown."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path

from whet.display import why_unread
from whet.errors import ServerError

VARIABLE = "WHET_API_KEY"
SHORTEST = 16


class Keys:
    """The keys that open the server; none: it is open to whoever reaches it."""

    def __init__(self, keys: list[str]) -> None:
        self._hashes = [_hash(key) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def open(self, header: str | None) -> bool:
        """Whether an Authorization header holds one of the keys."""
        scheme, _, key = (header or "").partition(" ")
        given = _hash(key.strip())
        fits = [hmac.compare_digest(given, known) for known in self._hashes]  # all of them, always
        return scheme.lower() == "bearer" and any(fits)


def read_keys(file: Path | None, environment: Mapping[str, str]) -> Keys:
    """Return the keys of a file, one on each line, or of the environment. Raises ServerError."""
    if file is None:
        keys, place = [environment.get(VARIABLE, "").strip()], f"the variable {VARIABLE}"
        keys = [key for key in keys if key]
    else:
        place = str(file)
        try:
            keys = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise ServerError(
                f"{file}: the API key cannot be read ({why_unread(error)}). Write one key on each line of a text file."
            ) from None
        if not keys:
            raise ServerError(f"{file}: holds no API key. Write one key on each line.")
    if any(len(key) < SHORTEST or not key.isascii() or len(key.split()) > 1 for key in keys):
        raise ServerError(
            f"{place}: an API key has at least {SHORTEST} characters of ASCII without spaces. "
            "Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return Keys(keys)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
