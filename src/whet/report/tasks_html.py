"""report.html of several tasks: one self-contained page with each task's scores, and a link to each one's own page."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from whet.report import charts
from whet.report.hints import first_phase
from whet.report.html import DECISIONS, accounted, dot_row, dotted, environment, flow, hero, tick
from whet.report.svg import axis_around
from whet.report.wording import wording

SHARING = {"better": "Sharing helped", "same": "No clear difference by sharing", "worse": "Sharing hurt"}


def render_tasks(report: Mapping[str, Any], context: Mapping[str, Any], pages: str) -> str:
    """Return the page. `report` is what build_tasks_report returned, `context` that of `render`; `pages` holds NAME.html of each task."""
    style = environment().get_template("report.css").render()
    decision = report["verdict"]["decision"]
    page: str = (
        environment()
        .get_template("tasks.html.jinja")
        .render(
            report=report,
            context=context,
            style=style,
            style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
            decision=decision or "none",
            symbol=DECISIONS[decision][0],
            tag=DECISIONS[decision][1],
            tasks=[_task(name, one, pages) for name, one in report["tasks"].items()],
            curve=charts.curve(first_phase(context["log"])),
            flow=flow(accounted(context["data"])),
            settings=dotted(context["recipe"]),
        )
    )
    return page


def _task(name: str, report: Mapping[str, Any], pages: str) -> dict[str, Any]:
    return {
        "name": name,
        "hero": hero({"baselines": {}, **report}),
        "sentence": report["verdict"]["sentence"],
        "n": report["n"],
        "sharing": _sharing(report),
        "page": f"{pages}/{name}.html",
    }


def _sharing(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """The task with the others and alone, as two dots on one axis."""
    found = report.get("sharing")
    if found is None:
        return None
    metric, sides = found["metric"], [("With the others", found["shared"], "tuned"), ("Alone", found["alone"], "other")]
    ends = [score[key] for _, score, _ in sides for key in ("value", "low", "high") if score[key] is not None]
    axis = axis_around(ends, share=wording(metric).share)
    return {
        "tag": SHARING[found["decision"]],
        "decision": found["decision"],
        "sentence": found["sentence"],
        "rows": [dot_row(title, score, axis, metric, kind) for title, score, kind in sides],
        "axis": charts.axis_labels(axis, lambda place: tick(metric, place)),
    }
