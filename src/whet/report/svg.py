"""The grammar of the charts: elements with escaped text, axes, and round ticks.

Charts stretch with the page without distorting their text: positions across are in percent, heights and fonts in pixels.
Colours come from the page's style sheet by class, so that light and dark need no second drawing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup, escape


def element(name: str, *children: str, **attributes: object) -> Markup:
    """An element whose text and attributes are escaped; children that are Markup stay as they are. `class_` is class."""
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(_number(value))}"' for key, value in attributes.items())
    return Markup(f"<{name}{written}>{''.join(escape(child) for child in children)}</{name}>")


def picture(title: str, description: str, children: Iterable[str], **attributes: object) -> Markup:
    """An svg with what a screen reader says of it."""
    inner = [element("title", title), *([element("desc", description)] if description else []), *children]
    return element("svg", *inner, role="img", **attributes)


def percent_of(fraction: float) -> str:
    """A position across the picture."""
    return f"{100 * fraction:.2f}%"


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of values laid on 0..1."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """Where a value lies, from 0 to 1; what is beyond an end lies at the end."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def ticks(self, num_ticks: int = 4) -> list[float]:
        """Round values within the range, about so many."""
        step = round_step((self.high - self.low) / num_ticks)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def round_step(step: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten that is not smaller."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * (1 - 1e-9))


def axis_around(values: Iterable[float], *, share: bool) -> Axis:
    """A range with a little room on both sides of the values, its ends round; a share stays within 0 and 1."""
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    step = round_step((high - low + 2 * room) / 8)
    low, high = math.floor((low - room) / step) * step, math.ceil((high + room) / step) * step
    if share:
        low, high = max(low, 0.0), min(high, 1.0)
    return Axis(low, high)


def _number(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
