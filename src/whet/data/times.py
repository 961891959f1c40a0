"""Dates and times as people write them, as seconds since 1970; whether the day or the month stands first is decided by the whole column."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

Order = Literal["day", "month", "unclear"]
ORDERS: tuple[Order, Order] = ("day", "month")
"""What may stand first."""
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
CLOCK = r"(\d{1,2}):(\d{2})(?::(\d{2}))?(?:\s?([ap])\.?m\.?)?"
PARTS = re.compile(rf"(\d{{1,2}})[/.-](\d{{1,2}})[/.-](\d{{4}})(?:,?[ T]+{CLOCK})?", re.IGNORECASE)
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?"
_MONTH = (
    r"(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?"
    r"|dec(?:ember)?)\.?"
)
NAMED = re.compile(
    rf"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,?\s+)?(?:{_DAY}[ -]{_MONTH}|{_MONTH}[ -]{_DAY}),?[ -](\d{{4}})(?:,?(?: at)?[ T]+{CLOCK})?"
    r"\s?(utc|gmt|z|[+-]\d{2}:?\d{2})?",
    re.IGNORECASE,
)
"""A month by its English name: 1 Jan 2024, January 1st, 2024 at 3:05 PM, Mon, 01 Jan 2024 10:00:00 +0100."""
DATE, FIRST_LARGE, SECOND_LARGE, DOTTED, DIFFERENT = 1, 2, 4, 8, 16
YEARS = re.compile(r"\d{4}(-\d{2})?")
YEAR_FIRST = re.compile(r"(\d{4})[/.-](\d{1,2})[/.-](\d{1,2})(\D.*)?")
LARGEST_S, LARGEST_MS, LARGEST_US = 1e11, 1e14, 1e17
"""Numbers below which a stamp is one of seconds, of milliseconds or of microseconds; above, of nanoseconds."""


def evidence(text: str) -> int:
    """Return what a text tells of the order of day and month, as bits: DATE and, of such a date, what else holds of it; else 0."""
    match = PARTS.fullmatch(text.strip())
    if match is None:
        return 0
    first, second = int(match[1]), int(match[2])
    dotted = "." in match[0].split(" ")[0]
    return DATE | FIRST_LARGE * (first > 12) | SECOND_LARGE * (second > 12) | DOTTED * dotted | DIFFERENT * (first != second)


def order_of(told: Iterable[int]) -> Order:
    """Return what stands first in dates such as 03/04/2024, by the evidence of them all: what is above 12 somewhere is the day."""
    found = [one for one in told if one & DATE]
    day_first, month_first = any(one & FIRST_LARGE for one in found), any(one & SECOND_LARGE for one in found)
    dotted = bool(found) and all(one & DOTTED for one in found)  # only written with the day first
    if day_first != month_first:
        return "day" if day_first else "month"
    return "day" if dotted and not month_first else "unclear"


def seconds(text: str, order: Order) -> float | None:
    """Return the seconds since 1970 that a text says; None where it says no time. A time without a zone is taken as UTC.

    Read are ISO 8601 (also a year, or year and month), numbers of seconds to nanoseconds, three numbers with the year first or
    last, and months by their English names; hours up to 12 with AM or PM.
    """
    text = text.strip()
    try:
        if (match := PARTS.fullmatch(text)) is not None:
            return _three(match, order)
        if (match := NAMED.fullmatch(text)) is not None:
            return _named(match)
        if (match := YEAR_FIRST.fullmatch(text)) is not None:
            text = f"{match[1]}-{match[2]:0>2}-{match[3]:0>2}{match[4] or ''}"
        elif YEARS.fullmatch(text):
            text = f"{text}-01-01"[:10]
        elif NUMBER.fullmatch(text) and not re.fullmatch(r"(19|20)\d{6}", text):
            return _stamp(float(text))
        moment = datetime.fromisoformat(text.replace(" UTC", "+00:00").replace(" Z", "Z"))
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _three(match: re.Match[str], order: Order) -> float | None:
    first, second, year = int(match[1]), int(match[2]), int(match[3])
    if order == "unclear" and first != second:
        return None
    day, month = (first, second) if order == "day" else (second, first)
    return datetime(year, month, day, *_clock(match.groups()[3:]), tzinfo=UTC).timestamp()


def _named(match: re.Match[str]) -> float:
    day, month, month_first, day_second, year, *clock, zone = match.groups()
    number = MONTHS.index((month or month_first)[:3].lower()) + 1
    offset = UTC if zone is None or zone[0] not in "+-" else datetime.strptime(zone, "%z").tzinfo
    return datetime(int(year), number, int(day or day_second), *_clock(clock), tzinfo=offset).timestamp()


def _clock(parts: Sequence[str | None]) -> tuple[int, int, int]:
    """Return hour, minute and second, of the texts of these and of what half of the day it is. Raises ValueError where no clock shows that."""
    hour, minute, second = (int(part or 0) for part in parts[:3])
    half = parts[3]
    if half is not None:
        if not 1 <= hour <= 12:
            raise ValueError("no clock of twelve hours shows that")
        hour = hour % 12 + 12 * (half.lower() == "p")
    return hour, minute, second


def _stamp(number: float) -> float:
    size = abs(number)
    return number / (1 if size < LARGEST_S else 1e3 if size < LARGEST_MS else 1e6 if size < LARGEST_US else 1e9)
