"""The charts of the page, each a small function that returns inline SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from whet.report.svg import Axis, axis_around, element, percent_of, picture

Point = tuple[float, float]
MOST_POINTS = 400
CURVE_HEIGHT, RATE_HEIGHT = 220, 48


def interval_dot(score: Mapping[str, Any], axis: Axis, title: str, *, kind: str, whole: float | None = None) -> Markup:
    """One row of a dot chart: the score as a dot, its interval as a line, the whole's score as a tick."""
    if score.get("value") is None:
        return picture(title, "", [], class_="track")
    marks = [element("line", class_="rail", x1="0%", x2="100%", y1="50%", y2="50%")]
    if whole is not None:
        place = percent_of(axis.place(whole))
        marks.append(element("line", class_="whole", x1=place, x2=place, y1="0%", y2="100%"))
    if score.get("low") is not None and score.get("high") is not None:
        ends = {"x1": percent_of(axis.place(score["low"])), "x2": percent_of(axis.place(score["high"]))}
        marks.append(element("line", class_=f"reach {kind}", y1="50%", y2="50%", **ends))
    marks.append(element("circle", class_=f"dot {kind}", cx=percent_of(axis.place(score["value"])), cy="50%", r="5"))
    return picture(title, "", marks, class_="track")


def axis_labels(axis: Axis, label: Callable[[float], str], num_ticks: int = 2) -> Markup:
    """The numbers under a dot chart."""
    written = [
        element("text", label(tick), x=percent_of(axis.place(tick)), y="12", text_anchor=_anchor(axis.place(tick)))
        for tick in axis.ticks(num_ticks)
    ]
    return element("svg", *written, class_="ticks", aria_hidden="true")


def bar(fraction: float | None, title: str) -> Markup:
    """A share as a bar from the left."""
    rail = element("rect", class_="rail-bar", x="0", y="25%", width="100%", height="50%", rx="2")
    width = percent_of(min(max(fraction or 0.0, 0.0), 1.0))
    return picture(
        title, "", [rail, element("rect", class_="bar", x="0", y="25%", width=width, height="50%", rx="2")], class_="bar-track"
    )


def stack(parts: Sequence[tuple[str, int, str]], title: str) -> Markup:
    """Counts side by side as one bar; each part is its name, its count and its class."""
    total = sum(n for _, n, _ in parts) or 1
    start, marks = 0.0, []
    for name, n, kind in parts:
        hint = element("title", f"{name}: {n:,}")
        marks.append(element("rect", hint, class_=kind, x=percent_of(start), y="0", width=percent_of(n / total), height="100%"))
        start += n / total
    return picture(title, ", ".join(f"{name} {n:,}" for name, n, _ in parts), marks, class_="stack")


def curve(log: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Training and validation loss and the learning rate by step; None for fewer than three steps."""
    steps, validation = _points(log, "step", "loss"), _points(log, "validation", "loss")
    if len(steps) < 3:
        return None
    smooth = smoothed(steps)
    across = Axis(0.0, max(at for at, _ in steps + validation))
    up = _loss_axis(smooth, validation)
    y_labels = [element("text", f"{tick:.4g}", x="100%", y=_down(up, tick) + 4, text_anchor="end") for tick in up.ticks(4)]
    marks: list[str] = [element("line", class_="grid", x1="0%", x2="100%", y1=_down(up, t), y2=_down(up, t)) for t in up.ticks(4)]
    marks += _best_and_stop(steps, validation, across)
    lines = [
        _line(thin(steps), across, up, "train raw"),
        _line(smooth, across, up, "train"),
        _line(validation, across, up, "validation"),
    ]
    marks.append(_stretched(lines, CURVE_HEIGHT))
    marks += [
        element(
            "circle",
            element("title", f"step {at:,.0f}: {value:.4g}"),
            class_="point validation",
            cx=percent_of(across.place(at)),
            cy=_down(up, value),
            r="3.5",
        )
        for at, value in validation
    ]
    label_y = CURVE_HEIGHT + 20
    marks += [
        element("text", f"{tick:,.0f}", x=percent_of(across.place(tick)), y=label_y, text_anchor=_anchor(across.place(tick)))
        for tick in across.ticks(5)
    ]
    lowest = min((value for _, value in validation), default=math.nan)
    words = f"Loss over {steps[-1][0]:,.0f} steps; the training loss ends at {smooth[-1][1]:.3g}"
    words += f", the lowest validation loss is {lowest:.3g}." if validation else "."
    y_axis = element("svg", *y_labels, class_="y-axis", height=CURVE_HEIGHT + 26, aria_hidden="true")
    return element(
        "div", y_axis, picture("Training curve", words, marks, class_="plot", height=CURVE_HEIGHT + 26), class_="chart"
    )


def learning_rate(log: Sequence[Mapping[str, Any]]) -> Markup | None:
    """The learning rate by step, as a small line under the curve; None where it is not logged."""
    rates = _points(log, "step", "learning_rate")
    if len(rates) < 3 or not any(rate for _, rate in rates):
        return None
    across, peak = Axis(0.0, rates[-1][0]), max(rate for _, rate in rates)
    lines = _stretched([_line(thin(rates), across, Axis(0.0, peak), "rate")], RATE_HEIGHT)
    floor = element("line", class_="grid", x1="0%", x2="100%", y1=RATE_HEIGHT, y2=RATE_HEIGHT)
    image = picture("Learning rate", f"It peaks at {peak:.2g}.", [floor, lines], class_="plot", height=RATE_HEIGHT + 2)
    return element("div", element("svg", class_="y-axis", height=RATE_HEIGHT, aria_hidden="true"), image, class_="chart")


def reliability(bins: Sequence[Mapping[str, Any]]) -> Markup:
    """Accuracy by confidence, a dot for each bin, larger where more rows are."""
    most = max((one["n"] for one in bins), default=1)
    marks: list[str] = [element("line", class_="grid", x1="0%", x2="100%", y1=p, y2=p) for p in ("0%", "50%", "100%")]
    marks.append(element("line", class_="ideal", x1="0%", y1="100%", x2="100%", y2="0%"))
    for one in bins:
        x, y = percent_of(one["confidence"]), percent_of(1 - one["accuracy"])
        said = element("title", f"says {100 * one['confidence']:.0f} %, right in {100 * one['accuracy']:.0f} % of {one['n']:,}")
        marks.append(element("line", class_="gap", x1=x, x2=x, y1=y, y2=percent_of(1 - one["confidence"])))
        marks.append(element("circle", said, class_="bubble", cx=x, cy=y, r=3 + 9 * math.sqrt(one["n"] / most)))
    return picture("Calibration", "Accuracy by confidence; on the diagonal, confidence can be believed.", marks, class_="square")


def smoothed(points: Sequence[Point]) -> list[Point]:
    """Means of at most 60 stretches of steps, each at its middle."""
    return _bucketed(points, 60)


def thin(points: Sequence[Point]) -> list[Point]:
    """The points, or means of MOST_POINTS stretches where there are more."""
    return _bucketed(points, MOST_POINTS)


def _bucketed(points: Sequence[Point], most: int) -> list[Point]:
    if len(points) <= most:
        return list(points)
    edges = [round(number * len(points) / most) for number in range(most + 1)]
    parts = [points[start:end] for start, end in pairwise(edges)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]


def _points(log: Sequence[Mapping[str, Any]], kind: str, field: str) -> list[Point]:
    found = [(float(entry["step"]), entry.get(field)) for entry in log if entry.get("kind") == kind]
    return sorted((step, float(value)) for step, value in found if value is not None and math.isfinite(value))


def _loss_axis(smooth: Sequence[Point], validation: Sequence[Point]) -> Axis:
    """From 0, or from below the lowest where the curve would lie flat under the ceiling."""
    values = [value for _, value in (*smooth, *validation)]
    axis = axis_around(values, share=False)
    return Axis(0.0, axis.high) if 0 <= min(values) < 0.5 * max(values) else axis


def _down(up: Axis, value: float) -> float:
    return CURVE_HEIGHT * (1 - up.place(value))


def _line(points: Sequence[Point], across: Axis, up: Axis, kind: str) -> Markup:
    places = " ".join(f"{1000 * across.place(x):.1f},{1000 * (1 - up.place(y)):.1f}" for x, y in points)
    return element("polyline", class_=f"line {kind}", points=places, vector_effect="non-scaling-stroke")


def _stretched(lines: Sequence[str], height: int) -> Markup:
    return element("svg", *lines, viewBox="0 0 1000 1000", preserveAspectRatio="none", x="0", y="0", width="100%", height=height)


def _best_and_stop(steps: Sequence[Point], validation: Sequence[Point], across: Axis) -> list[Markup]:
    named = [(steps[-1][0], "stop", f"stopped after step {steps[-1][0]:,.0f}")]
    if validation:
        best = min(validation, key=lambda point: point[1])[0]
        named.append((best, "best", f"best: step {best:,.0f}"))
    lines, labels = [], []
    for row, (at, kind, words) in enumerate(named):
        place = across.place(at)
        x = percent_of(place)
        shift = {"dx": "-6", "text_anchor": "end"} if place > 0.5 else {"dx": "6", "text_anchor": "start"}
        lines.append(element("line", class_=f"mark {kind}", x1=x, x2=x, y1="0", y2=CURVE_HEIGHT))
        labels.append(element("text", words, class_=f"mark-label {kind}", x=x, y=12 + 18 * row, **shift))
    return lines + labels


def _anchor(place: float) -> str:
    return "start" if place < 0.03 else "end" if place > 0.97 else "middle"
