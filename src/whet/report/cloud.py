"""Charts of many rows: a histogram, and points on a plane whose text is shown where one points at them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from whet.report.svg import element, percent_of, picture, round_step

BARS = 24
HEIGHT = 120
COLOURS = 8
"""Classes that have a colour of their own; the others share one."""
LONGEST = 200
"""Characters of a text that are shown."""


def bins(values: Sequence[int]) -> list[dict[str, int]]:
    """Return counts of whole numbers in stretches of equal, round width: [low, high), the last one with all that is longer."""
    if not values:
        return []
    ordered = sorted(values)
    most = ordered[min(len(ordered) - 1, math.ceil(0.99 * len(ordered)))]
    width = max(1, math.ceil(round_step(max(1, most + 1) / BARS)))
    number = most // width + 1
    counts = [0] * number
    for value in values:
        counts[min(value // width, number - 1)] += 1
    last = max(ordered[-1] + 1, number * width)
    return [
        {"low": place * width, "high": last if place == number - 1 else (place + 1) * width, "n": n}
        for place, n in enumerate(counts)
    ]


def histogram(counts: Sequence[Mapping[str, int]], title: str, unit: str) -> Markup:
    """How many rows have each length, as bars."""
    most, wide = max((one["n"] for one in counts), default=0) or 1, 1 / max(1, len(counts))
    marks: list[str] = [element("line", class_="grid", x1="0%", x2="100%", y1=HEIGHT, y2=HEIGHT)]
    for place, one in enumerate(counts):
        tall = HEIGHT * one["n"] / most
        said = element("title", f"{one['low']:,} to {one['high'] - 1:,} {unit}: {one['n']:,} rows")
        where = {"x": percent_of((place + 0.06) * wide), "width": percent_of(0.88 * wide)}
        marks.append(element("rect", said, class_="bar", y=HEIGHT - tall, height=tall, rx="1", **where))
    every = math.ceil(len(counts) / 6) or 1
    for place in range(0, len(counts), every):
        marks.append(element("text", f"{counts[place]['low']:,}", x=percent_of(place * wide), y=HEIGHT + 16, text_anchor="start"))
    return picture(title, "", marks, class_="histogram", height=HEIGHT + 22)


def cloud(points: Sequence[Mapping[str, Any]], colours: Mapping[str, int]) -> Markup:
    """Each row as a point. A point has x and y within -1 and 1, its class, its text and its place; `colours` number the classes."""
    marks: list[str] = []
    for one in points:
        said = element("title", f"{one['class']}\n{one['text']}\n{one['place']}".strip())
        kind = f"spot c{colours.get(one['class'], 0)}" if one["class"] in colours or not colours else "spot rest"
        x, y = percent_of(0.5 + 0.48 * one["x"]), percent_of(0.5 - 0.48 * one["y"])
        marks.append(element("circle", said, class_=kind, cx=x, cy=y, r="3.5"))
    return picture("Map of the rows", "Rows that mean nearly the same lie near each other.", marks, class_="cloud")
