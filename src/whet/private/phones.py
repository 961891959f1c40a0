"""Phone numbers: what is written like one, and could be dialled in one of the regions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from whet.private.checksums import gs1
from whet.private.context import follows_phone, is_amount, named

Span = tuple[int, int]
REGIONS = (
    "US",
    "GB",
    "DE",
    "FR",
    "ES",
    "IT",
    "NL",
    "BR",
    "IN",
    "AU",
    "PL",
    "PT",
    "AT",
    "CH",
    "BE",
    "SE",
    "IE",
    "MX",
    "JP",
    "CN",
    "KR",
    "ZA",
    "TR",
    "RU",
)
"""Where a number without a country's prefix may be from. Those with one are known everywhere."""
LEAST, MOST = 7, 15  # digits; ITU-T E.164 allows 15
BESIDE = 3
"""Numbers before and behind a number that are looked at."""
_RUN = re.compile(
    r"(?<![\w.,@&=?%])(?<![\w]/)(?<![0-9][:T])(?:\+ ?|\()?\(?[0-9](?:[ ().\/-]{0,3}[0-9]){5,}(?:(?: ?(?:x|ext\.?) ?)[0-9]{1,6})?(?!\w)"
)
_LINK = re.compile(r"(?:wa\.me/|tel:|sms:|callto:)(\+?[0-9][0-9().-]{5,18}[0-9])")
_PIECE = re.compile(r"[^ ]+")
_EXTENSION = re.compile(r" ?(?:x|ext\.?) ?[0-9]{1,6}$")
_DATE = re.compile(
    r"(?:19|20)\d\d([-./ ])(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12]\d|3[01])(?![0-9])|"
    r"(?:0?[1-9]|[12]\d|3[01])([-./ ])(?:0?[1-9]|[12]\d|3[01])\2(?:19|20)\d\d(?![0-9])|"
    r"(?:0?[1-9]|[12]\d|3[01])([-./])(?:0?[1-9]|[12]\d|3[01])\3\d\d(?:$| )|(?:19|20)\d{6}(?:[-_ ]\d{4,6})?$|(?:19|20)\d\d ?[-/] ?(?:19|20)\d\d$"
)
_AMERICAN = re.compile(
    r"(?:\+?1[-. ]?)?(?:\([0-9]{3}\)[ -]?[0-9]{3}[-. ]?[0-9]{4}|[0-9]{3}([-.])[0-9]{3}\1[0-9]{4}|[2-9][0-9]{2}([ ])[2-9][0-9]{2}[ -][0-9]{4})"
)
_SHORT = re.compile(r"555[-. ]?[0-9]{4}")
_WRITTEN = tuple(
    (regions, re.compile(pattern))
    for regions, pattern in (
        (("BR",), r"\(?\d{2}\)? ?9? ?\d{4}[- ]\d{4}"),
        (("IN",), r"[6-9]\d{4}[ -]\d{5}"),
        (("ES", "PT", "PL"), r"[5-9]\d{2}([ -])\d{3}\1\d{3}|[6-9]\d{2} \d{2} \d{2} \d{2}|\d{2} \d{3} \d{2} \d{2}"),
        (("IT",), r"3\d{2}[ .-]\d{6,7}|3\d{2} \d{3} \d{2} \d{2}|3\d{2} \d{2} \d{2} \d{3}"),
        (("CN",), r"1[3-9]\d[ -]\d{4}[ -]\d{4}"),
        (("RU",), r"8[ -]?\(?\d{3}\)?[ -]?\d{3}[ -]\d{2}[ -]?\d{2}"),
        (("MX",), r"\(?\d{2,3}\)[ -]\d{3,4}[ -]\d{4}"),
    )
)
"""How national numbers without a leading 0 are written, by region."""
_COUNTRY = re.compile(r"\([1-9][0-9]{0,2}\) ?[0-9]")
"""A country's prefix in brackets, as in (351) 937 078 599."""
_OTHERWISE = re.compile(
    r"\([0-9]*\.|(?:^|[^0-9.])[0-9]\.[0-9]|^[0-9]{1,3}(?:\.[0-9]{1,3}){3}$|^[0-9]{9,}\.[0-9]+$|\)[^(]*\)|^[^(]*\)"
)
"""A decimal, the four parts of an IP address, or a bracket that was never opened."""
_DRAMA = re.compile(r"07700900\d{3}")
"""Set aside by Ofcom for films, and in many an example: valid nowhere."""
_GROUPS = re.compile(r"[0-9]+")
_BARE = re.compile(r"0(?!1[189])[0-9]{9,10}|01[567][0-9]{9}")
"""How long numbers without any gap are that nothing names; in Germany mobile ones have twelve digits. Korea's 011 to 019 ended in 2021."""
_CODE = re.compile(r"(?<![A-Za-z])(?!(?:TEL|MOB|FAX|CELL)-)[A-Z]{1,5}-$|(?i:[0-9a-f]{4}-)$")
"""What stands before the digits of a code such as EP-08691413, or of a UUID."""
_BOOK = re.compile(r"(?:97[89]-)?[0-9]{1,5}-[0-9]{1,7}-[0-9]{1,7}-[0-9]")
_POSTCODE = re.compile(r"[0-9]{5}-[0-9]{3}")
"""How books' numbers (ISBN) and Brazilian postcodes are written."""


class Phones:
    """Finds phone numbers of these regions, and international ones."""

    def __init__(self, regions: Sequence[str] = REGIONS, eager: bool = False) -> None:
        self.regions = tuple(regions)
        self.eager = eager
        """Take all that is written like a phone number, whatever region it would be of."""

    def spans(self, text: str) -> Iterator[Span]:
        """Yield where phone numbers stand in the text."""
        yield from (found.span(1) for found in _LINK.finditer(text))
        for run in _RUN.finditer(text):
            pieces = [(run.start() + one.start(), run.start() + one.end()) for one in _PIECE.finditer(run[0])]
            place = 0
            while place < len(pieces):
                found = self._longest(text, pieces, place)
                if found is None:
                    place += 1
                else:
                    span, place = found
                    yield span

    def _longest(self, text: str, pieces: list[Span], first: int) -> tuple[Span, int] | None:
        """Return the longest phone number that begins with this piece, and the piece behind it."""
        start, digits, lasts = pieces[first][0], 0, []
        for last in range(first, min(first + 8, len(pieces))):
            digits += sum(map(str.isdigit, text[slice(*pieces[last])]))
            if digits > MOST + 6:  # an extension has up to six
                break
            lasts.append(last)
        date = _DATE.match(text, start, pieces[-1][1])
        for last in reversed(lasts):
            begin, end = _without_open_bracket(text, start, pieces[last][1])
            near = (*pieces[max(0, first - BESIDE) : first], *pieces[last + 1 : last + 1 + BESIDE])
            beside = [size for piece in near if (size := sum(map(str.isdigit, text[slice(*piece)])))]
            if (date is None or _DATE.match(text[start:end]) is None) and self._is_phone(text, begin, end, beside):
                return (begin, end), last + 1
        return None

    def _is_phone(self, text: str, start: int, end: int, beside: Sequence[int]) -> bool:
        """Whether a stretch is a phone number. `beside` are the numbers of digits of the figures next to it."""
        written = _EXTENSION.sub("", text[start:end])
        groups = _GROUPS.findall(written)
        digits = "".join(groups)
        if (
            not LEAST <= len(digits) <= MOST
            or not written[-1].isdigit()
            or not _could_be_groups(groups)
            or _OTHERWISE.search(written)
        ):
            return False
        if written.startswith(("+", "(+")):
            return self._international(digits, written, text, start)
        if is_amount(text, start, end):
            return False
        word = named(text, start)
        if not word and follows_phone(text, end):
            word = "phone"
        if (
            _CODE.search(text[max(0, start - 8) : start])
            or _BOOK.fullmatch(written)
            or (written.isdigit() and _is_article(digits))
        ):
            return False
        if word != "phone" and (_is_table(beside) or _POSTCODE.fullmatch(written)):
            return False
        if digits.startswith("00") and len(digits) >= 10 and self._foreign(digits[2:], written, word):
            return True
        if written[0] == "(" and _COUNTRY.match(written) and _valid("+" + digits):
            return True
        return self._national(groups, written, word, alone=not beside)

    def _international(self, digits: str, written: str, text: str, start: int) -> bool:
        """Whether a number behind a + is one: of a country's length, or named so."""
        if _possible("+" + digits):
            return len(digits) > 8 or written != "+" + digits or named(text, start) == "phone"
        return len(digits) >= 8 and (named(text, start) == "phone" or (len(digits) >= 10 and len(_GROUPS.findall(written)) >= 3))

    def _foreign(self, digits: str, written: str, word: str) -> bool:
        if _valid("+" + digits):
            return word != "other" or not written.isdigit()
        return _possible("+" + digits) and (word == "phone" or (not written.isdigit() and word != "other"))

    def _national(self, groups: Sequence[str], written: str, word: str, alone: bool) -> bool:
        """Whether a number without a country's prefix is one. A bare row of digits needs a word beside it, or a leading 0.

        `alone`: no other figure stands next to it.
        """
        digits = "".join(groups)
        if _AMERICAN.fullmatch(written):
            if not (alone or word) and written.replace(" ", "").isdigit():
                return False
            return word != "other" or written.startswith("(")
        if _SHORT.fullmatch(written):
            return word == "phone" or not written.isdigit()
        if word == "phone":
            behind = len(groups) > 1 and len(digits) <= 8 and len(groups[-1]) < 3 and len(groups) < 4  # 80086 16
            return not behind and len(digits) <= 13 and (self.eager or self._dialled(digits))
        if word == "other":
            return False
        if len(groups) == 1 and written[0] == "0" and not self.eager:  # what nothing names and nothing divides: mobile ones only
            return bool(_BARE.fullmatch(digits)) and (
                any(_valid(digits, one) and _mobile(digits, one) for one in self.regions) or bool(_DRAMA.fullmatch(digits))
            )
        if digits[0] == "0" and 8 <= len(digits) <= 13 and (len(groups[0]) > 1 or written[0] == "("):
            grouped = 2 <= len(groups) <= 5 and len(groups[0]) <= 5 and len(digits) >= 10
            return (
                self._dialled(digits, strictly=not grouped) or bool(_DRAMA.fullmatch(digits)) or (self.eager and len(groups) > 1)
            )
        if len(groups) > 2 and len(set(groups)) == 1:  # 120 120 120
            return False
        if alone and any(
            pattern.fullmatch(written) and any(_valid(digits, one) for one in regions) for regions, pattern in _WRITTEN
        ):
            return True
        return self.eager and len(groups) > 1 and len(digits) >= 9

    def _dialled(self, digits: str, strictly: bool = False) -> bool:
        """Whether the digits could be dialled in one of the regions; `strictly` as a number that is given out there."""
        test = _valid if strictly else _possible
        return any(test(digits, region) for region in self.regions)


def _could_be_groups(groups: Sequence[str]) -> bool:
    """Whether a number is divided as phone numbers are, and not as a list of numbers."""
    return len(groups) <= 7 and sum(len(group) == 1 for group in groups) <= 2


def _is_table(beside: Sequence[int]) -> bool:
    """Whether the numbers beside a number are more than one, or a long one: what stands among them is one of a row of figures."""
    return len(beside) > 1 or any(size > 2 for size in beside)


def _is_article(digits: str) -> bool:
    return len(digits) in {12, 13} and gs1(digits)


def _without_open_bracket(text: str, start: int, end: int) -> Span:
    """Return the stretch without a bracket that is not closed in it, and what stands behind one inside."""
    if text.count("(", start, end) <= text.count(")", start, end):
        return start, end
    if text.startswith("(", start):
        return start + 1, end
    while (end > start and not text[end - 1].isdigit()) or text.count("(", start, end) > text.count(")", start, end):
        end = text.rfind("(", start, end) if "(" in text[start:end] else end - 1
    return start, end


def unknown_regions(regions: Iterable[str]) -> list[str]:
    """Return those that are no region of the world's numbering plan."""
    import phonenumbers

    return [one for one in regions if one not in phonenumbers.SUPPORTED_REGIONS]


def canonical(written: str) -> str:
    """Return the same text for the same number, however it is written: its last nine digits."""
    digits = "".join(_GROUPS.findall(_EXTENSION.sub("", written)))
    return digits[-9:]


@lru_cache(maxsize=65536)
def _valid(number: str, region: str | None = None) -> bool:
    import phonenumbers

    try:
        return bool(phonenumbers.is_valid_number(phonenumbers.parse(number, region)))
    except phonenumbers.NumberParseException:
        return False


@lru_cache(maxsize=65536)
def _possible(number: str, region: str | None = None) -> bool:
    import phonenumbers

    try:
        return bool(phonenumbers.is_possible_number(phonenumbers.parse(number, region)))
    except phonenumbers.NumberParseException:
        return False


@lru_cache(maxsize=65536)
def _mobile(number: str, region: str) -> bool:
    import phonenumbers

    kind = phonenumbers.number_type(phonenumbers.parse(number, region))
    return bool(kind in {phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE})
