"""Every private thing in a text, each stretch once. A text with nothing in it costs a few microseconds."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator

from whet.private.cards import cards, ibans
from whet.private.internet import addresses, logins, mails
from whet.private.keys import WORDS, keys
from whet.private.kinds import KINDS, Found
from whet.private.national import NATIONAL_IDS
from whet.private.phones import REGIONS, Phones

Span = tuple[int, int]
OF_SIGNS = frozenset({"key", "login", "mail"})
"""Kinds that are no numbers, and may hold a UUID."""
_DIGIT = re.compile(r"[0-9]")
_NUMBER = re.compile(r"[0-9](?:[^0-9]{0,3}[0-9]){5}|[0-9]\.[0-9]{1,3}\.[0-9]|[0-9]{2}[ -]?[A-Za-z0-9]{4}[ -]?[A-Za-z0-9]{4}")
"""Six digits close together, the beginning of an IPv4 address, or what may be an IBAN."""
_SECRET_SIGNS = re.compile(r"[0-9@#$%^&*+=~]|[!?]\w")
"""One of them at least is in every secret that only the word before it gives away."""
_PLAIN = re.compile(r"[A-Za-z .,;'\"\n-]*")
"""No sign in it begins a number or an address, or is in a secret."""
_SPELT_AT = re.compile(r"[\[({<] ?[aA][tT] ?[\])}>]| AT [^.]{1,60} DOT ")
_UUID = re.compile(r"(?i)(?<![0-9a-f])[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?![0-9a-f])")
"""RFC 9562. Digits in it are of no number; the whole may be a key."""
_OTHER_SIGNS = re.compile(
    r"(?![0-9])\d|[\u00a0\u2002-\u200b\u2010-\u2015\u202f\u205f\u2060\u2212\u3000\u30fb\ufe58\ufe63\uff0b-\uff20\uff3f\u2024\ufeff\u00ad]"
)


class Finder:
    """Finds the kinds that it is asked for. `eager` errs on the side of finding, for texts that nobody learns from."""

    def __init__(self, kinds: Collection[str] = KINDS, regions: Iterable[str] = REGIONS, eager: bool = False) -> None:
        self.kinds = tuple(kind for kind in KINDS if kind in kinds)
        self.eager = eager
        phones = Phones(tuple(regions), eager)
        self._of_words = [("key", lambda text: keys(text, eager))] if "key" in kinds else []
        self._of_signs = [(kind, find) for kind, find in (("login", logins), ("mail", mails)) if kind in kinds]
        numbers: dict[str, Callable[[str], Iterator[Span]]] = {"iban": ibans}
        numbers |= {kind: NATIONAL_IDS[kind].spans for kind in ("fr_nir", "in_aadhaar")}
        numbers["card"] = cards
        for kind, known in NATIONAL_IDS.items():
            numbers[kind] = known.spans
        numbers |= {"ip": addresses, "phone": phones.spans}
        self._of_numbers = [(kind, find) for kind, find in numbers.items() if kind in kinds]

    def may_find(self, text: str) -> bool:
        """Whether any finder is worth asking; where not, nothing is found."""
        return bool(self._worth_asking(text if text.isascii() else _in_ascii(text)))

    def find(self, text: str) -> list[Found]:
        """Return what is private in the text, in order, without overlaps. Of two that overlap the more certain kind is taken."""
        if not text.isascii():
            text = _in_ascii(text)
        finders = self._worth_asking(text)
        if not finders:
            return []
        taken, found = bytearray(len(text)), []
        codes = bytearray(len(text))
        for code in _UUID.finditer(text) if text.count("-") > 3 else ():
            codes[code.start() : code.end()] = b"\x01" * (code.end() - code.start())
        for kind, find in finders:
            for start, end in find(text):
                of_code = kind not in OF_SIGNS and any(codes[start:end])
                if not of_code and not any(taken[start:end]):
                    taken[start:end] = b"\x01" * (end - start)
                    found.append(Found(start, end, kind))
        return sorted(found, key=lambda one: one.start)

    def _worth_asking(self, text: str) -> list[tuple[str, Callable[[str], Iterator[Span]]]]:
        """Return the finders that could find anything, the more certain ones first."""
        asked: list[tuple[str, Callable[[str], Iterator[Span]]]] = []
        if not self.eager and _PLAIN.fullmatch(text):
            long = self._of_words and max(map(len, text.split()), default=0) > 15
            return [*(self._of_words if long else ()), *(self._of_signs if " AT " in text and _SPELT_AT.search(text) else ())]
        if self._of_words and (max(map(len, text.split()), default=0) > 15 or self._may_name_a_secret(text)):
            asked += self._of_words
        if self._of_signs and ("@" in text or (_has_bracket_or_capitals(text) and _SPELT_AT.search(text))):
            asked += self._of_signs
        if self._of_numbers and ((_DIGIT.search(text) and _NUMBER.search(text)) or "::" in text or text.count(":") > 4):
            asked += self._of_numbers
        return asked

    def _may_name_a_secret(self, text: str) -> bool:
        if not self.eager and not _SECRET_SIGNS.search(text):
            return False
        low = text.lower()
        return any(word in low for word in WORDS)


def _has_bracket_or_capitals(text: str) -> bool:
    return " AT " in text or "[" in text or "(" in text or "{" in text or "<" in text


def _in_ascii(text: str) -> str:
    """Return the text, as long as it was, with digits, dashes, spaces and full-width signs of any script as ASCII's."""
    return _OTHER_SIGNS.sub(_sign, text)


def _sign(found: re.Match[str]) -> str:
    sign = found[0]
    if sign.isdecimal():
        return str(int(sign))
    if "\uff0b" <= sign <= "\uff20":
        return chr(ord(sign) - 0xFEE0)
    if sign == "\u2024":
        return "."
    return "-" if "\u2010" <= sign <= "\u2015" or sign in "\u2212\ufe58\ufe63\u30fb" else "_" if sign == "\uff3f" else " "
