"""Payment cards and bank accounts, by their own check digits."""

from __future__ import annotations

import re
from collections.abc import Iterator

from whet.private.checksums import gs1, luhn, mod_97
from whet.private.context import BEFORE, is_other_number

Span = tuple[int, int]
_RUN = re.compile(r"(?<![\w.,])(?<!\d[/:])(?<![0-9a-fA-F]{4}-)[0-9](?:[ -]?[0-9]){11,}(?![\w]|[.,]\d)")
_WRITTEN = re.compile(r"[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}(?:\1[0-9]{1,4}){0,2}|[0-9]{4}([ -])[0-9]{6}\2[0-9]{4,5}|[0-9]{12,19}")
_CARD = re.compile(
    r"(?i)\b(?:cards?|visa|master ?card|amex|american express|discover|diners|maestro|credit|debit|kreditkarte\w*|karte\w*|carte|tarjeta|carta|"
    r"cartão|kaart|karta)\b"
)
_GROUP = re.compile(r"[0-9]+")
_FIGURE_BEFORE = re.compile(r"(?<![0-9])[0-9]{1,5} $")
_FIGURE_AFTER = re.compile(r" (?!(?:0[1-9]|1[0-2]) ?[0-9]{2}\b)(?:[0-9]{4}|[0-9]{3} [0-9]{3}|(?:[0-9]{1,5} ){2}[0-9]+)(?![0-9])")
"""Further numbers, which are no month and year and no security code."""
_RARE = re.compile(r"(?:5[0678]|6[37])[0-9]{12,13}|(?!4|62)[0-9]{19}")
"""Maestro of fourteen or fifteen digits, and nineteen digits of others than Visa and UnionPay: few are, so they must be said to be a card's."""
LONG = frozenset({17, 18})
"""Digits without gaps that only few cards have, and many other numbers: they must be said to be a card's."""
SHORT = frozenset({12, 13})
"""Digits of cards of long ago, and of articles today (UPC, EAN), which have a check digit of their own."""
_ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|"  # Visa; Mastercard
    r"3[47]\d{13}|3(?:0[0-5]|095|[689]\d)\d{11}|3(?:0[0-5]|[689]\d)\d{13,16}|"  # American Express; Diners Club
    r"6(?:011|4[4-9]\d|5\d\d|22\d)\d{12,15}|35\d{14,17}|(?:2131|1800)\d{11}|62\d{14,17}|"  # Discover; JCB; UnionPay
    r"(?:50|5[6-9]|6\d)\d{14}|(?:50\d\d|5[678]\d\d|6304|6390|67\d\d|0604)\d{8,15}|220[0-4]\d{12,15}|8[12]\d{14}|508\d{13}|"  # Maestro; Mir; RuPay
    r"(?:5019|9792|606282\d\d|637(?:[568]|09)\d|5061|6363|4011|4312)\d{8,12}"  # Dankort, Troy, Hipercard, Elo, Verve
)
"""Prefixes and lengths by issuer, after ISO/IEC 7812 and the schemes' own tables."""
LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HN": 28, "HR": 21, "HU": 28,
    "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28,
    "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24,
    "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26,
    "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}  # fmt: skip
"""Letters of an IBAN by country. SWIFT's IBAN registry, release 99."""
_IBAN = re.compile(r"(?<![A-Za-z0-9])([A-Za-z]{2})([0-9]{2})(?=[ -]?[A-Za-z0-9])")
_REST = re.compile(r"(?:[ -]{0,2}[A-Za-z0-9]){11,29}")


def cards(text: str) -> Iterator[Span]:
    """Yield where card numbers stand: an issuer's prefix and length, and Luhn's check digit; in groups or not."""
    for run in _RUN.finditer(text):
        groups = [(run.start() + one.start(), run.start() + one.end()) for one in _GROUP.finditer(run[0])]
        place = 0
        while place < len(groups):
            last = _card_from(text, groups, place)
            if last is None:
                place += 1
                continue
            start, end = groups[place][0], groups[last][1]
            if _is_card(text, start, end):
                yield start, end
            place = last + 1


def _is_card(text: str, start: int, end: int) -> bool:
    """Whether it is written as cards are, or said to be one; a short one is none where it is an article's or said to be another's."""
    if _CARD.search(text[max(0, start - BEFORE) : start]):
        return True
    if _FIGURE_BEFORE.search(text[max(0, start - 8) : start]) or _FIGURE_AFTER.match(text, end):
        return False  # one of a row of figures
    written = text[start:end]
    if not _WRITTEN.fullmatch(written) or (written.isdigit() and (len(written) in LONG or _RARE.fullmatch(written))):
        return False
    return len(written) not in SHORT or not (gs1(written) or is_other_number(text, start, end))


def _card_from(text: str, groups: list[Span], first: int) -> int | None:
    """Return the last group of the longest card number that begins with this group."""
    digits, found = "", None
    for last in range(first, min(first + 8, len(groups))):
        start, end = groups[last]
        if len(digits) + end - start > 19:
            break
        digits += text[start:end]
        if len(digits) >= 12 and _ISSUERS.fullmatch(digits) and luhn(digits) and len(set(digits)) > 1:
            found = last
    return found


def ibans(text: str) -> Iterator[Span]:
    """Yield where international bank account numbers stand: the country's length, and 1 modulo 97."""
    for head in _IBAN.finditer(text):
        length = LENGTHS.get(head[1].upper())
        rest = _REST.match(text, head.end()) if length else None
        if length is None or rest is None:
            continue
        end, left = head.end(), length - 4
        while left and end < rest.end():
            left -= text[end].isalnum()
            end += 1
        whole = re.sub("[ -]", "", text[head.start() : end]).upper()
        if not left and not text[end : end + 1].isalnum() and whole.isascii() and mod_97(whole):
            yield head.start(), end
