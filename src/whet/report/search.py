"""The page of a search: every trial, how it went on, and which settings went with which scores. Knows no model and no study."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from whet.report.svg import Axis, axis_around, element, percent_of, picture

HEIGHT, TALL = 220, 260
STATES = {"complete": "complete", "pruned": "given up early", "fail": "failed"}


def describe_search(result: Mapping[str, Any]) -> str:
    """Say whether the search beat the recipe's own setting on validation, by how much, and after how many trials."""
    trials, best, default, metric = result["trials"], result["best"], result["trials"][0], result["metric"]
    counts = {state: sum(trial["state"] == state for trial in trials) for state in STATES}
    told = ", ".join(f"{number} {STATES[state]}" for state, number in counts.items() if number)
    number = f"{len(trials)} trials ({told})"
    if default["value"] is None:
        return (
            f"The recipe's own setting failed ({default['error']}); the best of {number} has validation {metric} "
            f"{best['value']:.4f} (trial {best['number']})."
        )
    if best["number"] == 0:
        return f"The search did not beat the recipe's own setting on validation: {metric} {best['value']:.4f} is the best of {number}."
    return (
        f"The search beat the recipe's own setting on validation: {metric} {best['value']:.4f} (trial {best['number']}) against "
        f"{default['value']:.4f}, the best of {number}. The best of many on the same rows flatters; the test rows say what it is worth."
    )


def render_search(result: Mapping[str, Any], run: str, recipe: str) -> str:
    """The page, self-contained, the same bytes for the same search."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("whet.report", "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    style = environment.get_template("report.css").render() + environment.get_template("search.css").render()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page: str = environment.get_template("search.html.jinja").render(
        result=result,
        run=run,
        recipe=recipe,
        style=Markup(style),
        style_hash=digest,
        history=history(result["trials"], result["metric"], result["higher_is_better"]),
        lines=parallel(result["trials"], result["keys"], result["metric"], result["higher_is_better"]),
        rows=[_row(trial, result["keys"], result["best"]["number"]) for trial in result["trials"]],
    )
    return page


def history(trials: Sequence[Mapping[str, Any]], metric: str, higher_is_better: bool) -> Markup:
    """Each trial's score in order, and the best so far as a line."""
    done = [(trial["number"], float(trial["value"])) for trial in trials if trial["value"] is not None]
    up = axis_around([value for _, value in done], share=False)
    across = Axis(-0.5, max(len(trials) - 0.5, 0.5))
    marks = []
    for tick in up.ticks():
        y = HEIGHT * (1 - up.place(tick))
        marks.append(element("line", class_="grid", x1="0%", x2="100%", y1=y, y2=y))
        marks.append(element("text", f"{tick:g}", class_="scale", x="0%", y=y - 4))
    best, before = None, (0.0, 0.0)
    for number, value in done:
        place, level = across.place(number), HEIGHT * (1 - up.place(value))
        better = best is None or (value > best if higher_is_better else value < best)
        if best is not None:
            ends = {"x1": percent_of(before[0]), "x2": percent_of(place), "y1": before[1], "y2": before[1]}
            marks.append(element("line", class_="best-so-far", **ends))
        if better:
            if best is not None:
                marks.append(
                    element("line", class_="best-so-far", x1=percent_of(place), x2=percent_of(place), y1=before[1], y2=level)
                )
            best, before = value, (place, level)
        else:
            before = (place, before[1])
        said = element("title", f"trial {number}: {metric} {value:.4f}{' (the recipe’s own)' if number == 0 else ''}")
        kind = "trial own" if number == 0 else "trial"
        marks.append(element("circle", said, class_=kind, cx=percent_of(place), cy=level, r=6 if number == 0 else 4))
    for trial in trials:
        if trial["value"] is None:
            said = element("title", f"trial {trial['number']}: {STATES[trial['state']]}")
            marks.append(
                element("circle", said, class_="trial none", cx=percent_of(across.place(trial["number"])), cy=HEIGHT + 10, r=3)
            )
    title = "Score of each trial"
    return picture(
        title, f"Validation {metric}; the line is the best so far.", marks, class_="history", width="100%", height=HEIGHT + 16
    )


def parallel(trials: Sequence[Mapping[str, Any]], keys: Sequence[str], metric: str, higher_is_better: bool) -> Markup:
    """Parallel coordinates: a line for each complete trial through its settings to its score; the darker, the better."""
    done = [trial for trial in trials if trial["value"] is not None and all(key in trial["setting"] for key in keys)]
    axes = [*keys, metric]
    columns: list[list[float]] = []
    marks, names = [], []
    for index, key in enumerate(axes):
        values = [trial["value"] if index == len(keys) else trial["setting"][key] for trial in done]
        places, low, high = _placed(values)
        columns.append(places)
        x = _across(index, len(axes))
        anchor = "start" if index == 0 else "end" if index == len(keys) else "middle"
        marks.append(element("line", class_="axis", x1=percent_of(x), x2=percent_of(x), y1=24, y2=TALL - 36))
        for text, y, kind in ((high, 16, "scale"), (low, TALL - 20, "scale"), (key, TALL - 4, "axis-name")):
            names.append(element("text", text, class_=kind, x=percent_of(x), y=y, text_anchor=anchor))
    ranks = sorted(range(len(done)), key=lambda row: done[row]["value"], reverse=not higher_is_better)  # the best is drawn last
    lines = []
    for rank, row in enumerate(ranks):
        trial = done[row]
        said = element("title", f"trial {trial['number']}: {metric} {trial['value']:.4f}")
        strength = 0.15 + 0.75 * (rank + 1) / len(ranks)
        for index in range(len(axes) - 1):
            ends = {
                "x1": percent_of(_across(index, len(axes))),
                "x2": percent_of(_across(index + 1, len(axes))),
                "y1": _level(columns[index][row]),
                "y2": _level(columns[index + 1][row]),
            }
            kind = "thread best" if rank == len(ranks) - 1 else "thread"
            lines.append(element("line", said, class_=kind, opacity=round(strength, 2), **ends))
    return picture(
        "Settings and scores", "Each line is a trial.", [*marks, *lines, *names], class_="parallel", width="100%", height=TALL
    )


def _across(index: int, count: int) -> float:
    return 0.02 + 0.96 * index / max(1, count - 1)


def _level(place: float) -> float:
    return 24 + (TALL - 60) * (1 - place)


def _placed(values: Sequence[Any]) -> tuple[list[float], str, str]:
    """Return where values lie on an axis from 0 to 1, and what stands at its ends; numbers far apart lie by ratio."""
    if values and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        low, high = min(values), max(values)
        if low == high:
            return [0.5] * len(values), "", f"{high:.4g}"
        if low > 0 and high / low > 20:
            return [math.log(value / low) / math.log(high / low) for value in values], f"{low:.3g}", f"{high:.3g}"
        return [(value - low) / (high - low) for value in values], f"{low:.4g}", f"{high:.4g}"
    names = list(dict.fromkeys(_text(value) for value in values))
    places = {name: 0.5 if len(names) == 1 else number / (len(names) - 1) for number, name in enumerate(names)}
    return [places[_text(value)] for value in values], names[0] if len(names) > 1 else "", names[-1] if names else ""


def _row(trial: Mapping[str, Any], keys: Sequence[str], best: int) -> dict[str, Any]:
    value = trial["value"] if trial["value"] is not None else trial["last"]
    return {
        "number": trial["number"],
        "best": trial["number"] == best,
        "default": trial["default"],
        "cells": [_text(trial["setting"][key]) if key in trial["setting"] else "–" for key in keys],
        "state": STATES[trial["state"]] + (f", as trial {trial['same_as']}" if trial["same_as"] is not None else ""),
        "error": trial["error"],
        "value": "–" if value is None else f"{value:.4f}",
        "seconds": "–" if trial["seconds"] is None else f"{trial['seconds']:.1f}",
    }


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
