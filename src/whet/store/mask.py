"""Personal marks and secrets in a text, replaced by what kind they were: mail addresses, phone and card numbers, accounts, keys.

By pattern only, so a name or a street stays. It is meant to err on the side of masking.
"""

from __future__ import annotations

import re
from collections.abc import Callable

MAIL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}", re.UNICODE)
BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
SECRET = re.compile(
    r"(?i)\b((?:api[_-]?key|access[_-]?key|secret|token|passw(?:or)?d|passwort|pwd)\s{0,5}(?:\bis\b|\bist\b|[:=])\s{0,5})"
    r"(?!\[)[\"']?[^\s\"',;]{4,}[\"']?"
)
KEY = re.compile(
    r"(?<![A-Za-z0-9_-])(?:sk|pk|rk|ghp|gho|ghs|github_pat|glpat|hf|xox[abprs]|AIza|AKIA|ASIA|ya29)[-_.]?[A-Za-z0-9_-]{12,}|"
    r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?|"
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)"
)
LONG = re.compile(r"[A-Za-z0-9+/_-]{32,}={0,2}")
"""Without a space, and too long for a word; a key, a hash or a token where it has both letters and digits."""
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?\b")
CARD = re.compile(r"(?<![\d.])\d(?:[ -]?\d){11,18}(?!\d)")
PHONE = re.compile(r"(?<![\w.])(?:\+|00)?\(?\d(?:[\s().\/-]{0,2}\d){6,14}(?![\w])")


def mask(text: str) -> str:
    """Return the text with `[mail]`, `[card]`, `[iban]`, `[phone]` and `[key]` in place of such marks. Masking twice changes nothing."""
    while (masked := _once(text)) != text:  # a mark may be seen only when its neighbour is gone
        text = masked
    return text


def _once(text: str) -> str:
    text = KEY.sub("[key]", text)
    text = BEARER.sub(r"\1 [key]", text)
    text = SECRET.sub(r"\1[key]", text)
    text = MAIL.sub("[mail]", text)
    text = LONG.sub(_if(_is_key, "[key]"), text)
    text = IBAN.sub("[iban]", text)
    text = CARD.sub(_if(_is_card, "[card]"), text)
    return PHONE.sub(_if(_is_phone, "[phone]"), text)


def _if(test: Callable[[str], bool], name: str) -> Callable[[re.Match[str]], str]:
    return lambda found: name if test(found[0]) else found[0]


def _is_key(word: str) -> bool:
    return any(one.isdigit() for one in word) and any(one.isalpha() for one in word)


def _is_card(number: str) -> bool:
    """Whether the digits pass Luhn's check, as those of every payment card do. ISO/IEC 7812-1, annex B."""
    digits = [int(one) for one in number if one.isdigit()][::-1]
    doubled = [sum(divmod(2 * one, 10)) for one in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _is_phone(number: str) -> bool:
    """Whether it is written as a phone number is: with a plus, a leading 0, or in groups; a date, an address of the internet or an order number is not."""
    digits = "".join(one for one in number if one.isdigit())
    if re.fullmatch(r"\d{4}[-./]\d{2}[-./]\d{2}(?:[ .].*)?|\d{2}[-./]\d{2}[-./]\d{4}|\d{1,3}(?:\.\d{1,3}){3}", number):
        return False
    return number.startswith(("+", "0", "(")) or (len(digits) >= 9 and bool(re.search(r"\d[\s().\/-]+\d", number)))
