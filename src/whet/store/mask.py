"""Personal marks and secrets in a text of the request log, replaced by what kind they were: mail addresses, phone and card numbers, keys.

By the detectors that redact training data, told to err on the side of masking. By pattern only, so a name or a street stays.
"""

from __future__ import annotations

from functools import cache

from whet.private.redact import Redactor


def mask(text: str) -> str:
    """Return the text with `[mail]`, `[card]`, `[iban]`, `[phone]`, `[ip]`, `[id]`, `[login]` and `[key]` in place of such marks.

    Masking twice changes nothing.
    """
    return _eager()(text)


@cache
def _eager() -> Redactor:
    return Redactor(eager=True)
