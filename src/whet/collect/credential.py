"""Credentials: a setting names where one lies, in the environment or in a file, and never holds it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from whet.errors import DataError

PLACE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+")
LARGEST = 1 << 16


def _named(value: str) -> str:
    if PLACE.fullmatch(value):
        return value
    raise secret_error(
        "a credential is named and never written down, since recipes are stored and shared; allowed: env:NAME for a variable of the "
        "environment, or file:PATH for the first line of a file (what was written here is not repeated)"
    )


Credential = Annotated[str, AfterValidator(_named)]
"""Where a secret lies: env:NAME, or file:PATH."""


def secret_error(text: str) -> PydanticCustomError:
    """Return an error of a setting whose value may be a secret, so that it is not shown."""
    return PydanticCustomError("secret", "{text}", {"text": text})


def secret(place: str) -> str:
    """Return a secret from where it lies. Raises DataError where it is not there."""
    kind, _, name = place.partition(":")
    if kind == "env":
        found = os.environ.get(name, "")
        if not found.strip():
            raise DataError(
                f"{place}: the environment has no variable {name}, or it is empty. Set it where you start whet: export {name}=..."
            )
        return _sendable(found.strip(), place)
    try:
        with Path(name).expanduser().open(encoding="utf-8") as file:
            found = file.readline(LARGEST).strip()
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise DataError(
            f"{place}: the file with the credential cannot be read: {reason}. Its first line is the secret."
        ) from None
    if not found:
        raise DataError(f"{place}: the file with the credential begins with an empty line. Its first line is the secret.")
    return _sendable(found, place)


def _sendable(found: str, place: str) -> str:
    """Return a secret that can be sent. Raises DataError, without it, where it has what no password or key holds."""
    if not found.isprintable():
        raise DataError(
            f"{place}: the credential has a line break or another character in it that cannot be seen. Copy it again, on one line."
        )
    return found


def hidden(text: str, *secrets: str) -> str:
    """Return a text without the secrets that it may repeat."""
    for one in secrets:
        text = text.replace(one, "***") if one else text
    return text
