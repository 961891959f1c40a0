"""The report as one self-contained page: no script, nothing fetched, and the same bytes for the same report."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import PurePath
from typing import Any

import jinja2

from whet.report import charts
from whet.report.heat import MOST_LABELLED, heat_map, stage_map
from whet.report.hints import first_phase
from whet.report.svg import Axis, axis_around
from whet.report.wording import baseline_title, interval, shown, wording

DECISIONS = {
    "better": ("▲", "Tuning helped"),
    "same": ("●", "No clear difference"),
    "worse": ("▼", "Tuning hurt"),
    None: ("●", "Nothing to compare with"),
}
EMPTY: Mapping[str, Any] = {
    "run": "",
    "task": "",
    "recipe": {},
    "decisions": [],
    "log": [],
    "data": {},
    "preflight": [],
    "machine": {},
    "timing": {},
    "planned": {},
    "samples": [],
}
CLASSES_SHOWN = 12


def render(report: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    """The page. `report` is what build_report returned; every part of `context` is optional.

    context: run, task (of several), recipe, decisions [{key, value, reason}], log, data {rows_in, used, dropped, splits, cleaned, notices, private [{words, rows}]},
    preflight [{level, sentence, remedy}], machine, timing, planned, samples [{prompt, reference, base, tuned}].
    """
    report = {"confused": [], "hints": [], "worst": [], "slices": {}, "baselines": {}, **report}
    context = {**EMPTY} | {key: value for key, value in context.items() if value is not None}
    log = first_phase(context["log"])
    style = environment().get_template("report.css").render()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page: str = (
        environment()
        .get_template("report.html.jinja")
        .render(
            report=report,
            context=context,
            style=style,
            style_hash=digest,
            hero=hero(report),
            scores=_scores(report),
            slices=_slices(report),
            per_class=_per_class(report),
            curve=charts.curve(log),
            rate=charts.learning_rate(log),
            heat=heat_map(report["confusion"]) if report.get("confusion") else None,
            is_compact=bool(report.get("confusion")) and len(report["confusion"]["labels"]) > MOST_LABELLED,
            stages=stage_map(report["continual"]) if report.get("continual") else None,
            reliability=charts.reliability(report["calibration"]) if report.get("calibration") else None,
            flow=flow(accounted(context["data"])),
            settings=dotted(context["recipe"]),
            command=" ".join(
                [
                    f"whet predict {shlex.quote(context['run'] or 'RUN')} file.csv",
                    *([f"--task {context['task']}"] if context["task"] else []),
                ]
            ),
        )
    )
    return page


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """Templates with every value escaped. A part that is missing stays empty: a page must not fail at the end of a long run."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("whet.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        {"quantity": quantity, "tied": tied, "count": _count, "fraction": _fraction, "value": _value, "base_name": _base_name}
    )
    environment.globals.update({"shown": _shown, "metric_title": _metric_title, "bar": charts.bar})
    return environment


def tied(text: str) -> str:
    """A sentence of ours for the page: a number keeps its unit on its line, an interval has a dash of its own."""
    return re.sub(r"\(([\d.,]+)-([\d.,]+)", "(\\1–\\2", re.sub(r"(?<=\d) (%|points)", "\u00a0\\1", text))


def span(metric: str, score: Mapping[str, Any]) -> str:
    """A score's interval with an en dash, or nothing."""
    return tied(f"({interval(metric, score.get('low'), score.get('high'))})")[1:-1]


def _shown(metric: str, value: float | None) -> str:
    return tied(shown(metric, value))


def quantity(value: object, key: str = "") -> str:
    """A value of the machine or the timing, read by the unit in its key's end."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if key.endswith("_s"):
        return _duration(float(value))
    if key.endswith("_bytes"):
        return f"{value / 2**30:,.1f} GiB"
    if key.endswith("_gib"):
        return f"{value:,.1f} GiB"
    if key.endswith("_fraction"):
        return f"{100 * value:.1f} %"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _fraction(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}\u00a0%"


def _count(n: int) -> str:
    return f"{n:,}"


def _metric_title(metric: str) -> str:
    return wording(metric).title


def _base_name(path: str) -> str:
    return PurePath(path).name


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(_value(one) for one in value) or "none"
    return "none" if value is None else str(value)


def hero(report: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict, and the tuned model beside its baselines on one axis."""
    metric = report["metric"]
    tuned = report["metrics"][metric]
    value = shown(metric, tuned["value"])
    number, _, unit = value.partition(" ")
    rows = [("Tuned", tuned, "tuned")]
    others = [
        (baseline_title(name), entry["metrics"][metric])
        for name, entry in report["baselines"].items()
        if metric in entry["metrics"]
    ]
    sign = -1 if report["higher_is_better"][metric] else 1
    rows += [(title, score, "other") for title, score in sorted(others, key=lambda one: sign * (one[1]["value"] or 0.0))]
    axis = axis_around(_ends(score for _, score, _ in rows), share=wording(metric).share)
    return {
        "decision": report["verdict"]["decision"] or "none",
        "symbol": DECISIONS[report["verdict"]["decision"]][0],
        "tag": DECISIONS[report["verdict"]["decision"]][1],
        "number": number,
        "unit": unit,
        "title": wording(metric).title,
        "span": span(metric, tuned),
        "lower": "" if report["higher_is_better"][metric] else "lower is better",
        "rows": [dot_row(title, score, axis, metric, kind) for title, score, kind in rows],
        "axis": charts.axis_labels(axis, lambda place: tick(metric, place)),
    }


def dot_row(
    title: str, score: Mapping[str, Any], axis: Axis, metric: str, kind: str, whole: float | None = None
) -> dict[str, Any]:
    words = f"{title}: {_shown(metric, score['value'])}, 95 % interval {span(metric, score) or 'unknown'}"
    picture = charts.interval_dot(score, axis, words, kind=kind, whole=whole)
    return {
        "title": title,
        "picture": picture,
        "value": _shown(metric, score["value"]),
        "span": span(metric, score),
        "n": score["n"],
        "kind": kind,
    }


def _scores(report: Mapping[str, Any]) -> dict[str, Any]:
    baselines = {name: baseline_title(name) for name in report["baselines"]}
    rows = []
    for metric, tuned in report["metrics"].items():
        others = [entry["metrics"].get(metric) for entry in report["baselines"].values()]
        cells = [
            {"value": _shown(metric, score["value"]), "span": span(metric, score)} if score else None
            for score in (tuned, *others)
        ]
        lower = not report["higher_is_better"][metric]
        rows.append(
            {
                "title": wording(metric).title,
                "lower": lower,
                "cells": cells,
                "n": tuned["n"],
                "primary": metric == report["metric"],
            }
        )
    return {"heads": ["Tuned", *baselines.values()], "rows": rows}


def _slices(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    metric, whole = report["metric"], report["metrics"][report["metric"]]["value"]
    sign = 1 if report["higher_is_better"][metric] else -1
    found = []
    for column, values in report["slices"].items():
        scores = {value: entry["metrics"][metric] for value, entry in values.items() if metric in entry["metrics"]}
        ordered = sorted(scores, key=lambda value: sign * (scores[value]["value"] or 0.0))
        axis = axis_around([*_ends(scores.values()), *([whole] if whole is not None else [])], share=wording(metric).share)
        weak = report["verdict"].get("weakest_slice") or {}
        kinds = {value: "weak" if (weak.get("column"), weak.get("name")) == (column, value) else "tuned" for value in scores}
        rows = [dot_row(value, scores[value], axis, metric, kinds[value], whole) for value in ordered]
        found.append({"column": column, "rows": rows, "axis": charts.axis_labels(axis, lambda place: tick(metric, place))})
    return found


def _per_class(report: Mapping[str, Any]) -> dict[str, Any]:
    scores = report.get("per_class") or {}
    ordered = sorted(scores.items(), key=lambda item: (item[1]["f1"] if item[1]["f1"] is not None else 2.0, item[0]))
    return {"first": ordered[:CLASSES_SHOWN], "rest": ordered[CLASSES_SHOWN:]}


def accounted(rows: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rows in, used, by split and dropped; added up where they are given by source, as a run's accounting has them."""
    if "sources" not in rows:
        return rows
    splits, dropped = Counter[str](), Counter[str]()
    for source in rows["sources"].values():
        splits.update(source["used"])
        dropped.update(source["dropped"])
    total = sum(source["rows"] for source in rows["sources"].values())
    return {"rows_in": total, "used": splits.total(), "splits": dict(splits), "dropped": dict(dropped)}


def flow(rows: Mapping[str, Any]) -> dict[str, Any] | None:
    """Rows in, by what became of them."""
    if not rows.get("rows_in"):
        return None
    splits = [(name, n, f"split {name}") for name, n in (rows.get("splits") or {}).items()]
    kept = splits or [("used", rows.get("used", 0), "split train")]
    dropped = sorted((rows.get("dropped") or {}).items(), key=lambda item: -item[1])
    lost = [(reason, n, f"lost lost-{min(place, 3)}") for place, (reason, n) in enumerate(dropped)]
    return {
        "bar": charts.stack([*kept, *lost], "Rows in, by what became of them"),
        "kept": kept,
        "lost": lost,
        "rows_in": rows["rows_in"],
        "used": rows.get("used", 0),
        "dropped": sum(n for _, n in dropped),
    }


def dotted(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A recipe's keys, written with dots, and their values."""
    found: list[tuple[str, str]] = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        found += dotted(value, f"{name}.") if isinstance(value, Mapping) else [(name, _value(value))]
    return found


def _ends(scores: Any) -> list[float]:
    return [score[name] for score in scores for name in ("value", "low", "high") if score.get(name) is not None]


def tick(metric: str, place: float) -> str:
    """A number at an axis."""
    return f"{100 * place:.4g}\u00a0%" if wording(metric).share else f"{place:.4g}"
