"""monitor.html: one self-contained page in the report's style, no script, nothing fetched."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import jinja2

from whet.report import charts
from whet.report.html import tied
from whet.report.svg import Axis, axis_around

TAGS = {"fine": ("better", "▲", "Fine"), "look": ("same", "●", "Look"), "retrain": ("worse", "▼", "Retrain")}


def render_monitoring(found: Mapping[str, Any]) -> str:
    """Return the page of what monitor.json holds."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("whet.report", "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["tied"] = tied
    style = environment.get_template("report.css").render()
    kind, symbol, tag = TAGS[found["verdict"]["decision"]]
    page: str = environment.get_template("monitor.html.jinja").render(
        found=found,
        style=style,
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        kind=kind,
        symbol=symbol,
        tag=tag,
        quality=[_quality(one) for one in found["quality"]],
        drift=_drift(found["drift"]),
    )
    return page


def _quality(one: Mapping[str, Any]) -> dict[str, Any]:
    """Production and test rows as two dots on one axis."""
    sides = [("production", one, "tuned"), ("test rows", one["test"], "other")]
    ends = [score[key] for _, score, _ in sides for key in ("value", "low", "high") if score[key] is not None]
    axis = axis_around(ends, share=one["metric"] == "accuracy")
    rows = [(title, charts.interval_dot(score, axis, f"{title}: {one['sentence']}", kind=kind)) for title, score, kind in sides]
    return {"sentence": one["sentence"], "alarm": one["alarm"], "rows": rows}


def _drift(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each tested quantity as a dot with its interval; the tick is the least change that matters."""
    tested = [one for one in found if one["value"] is not None]
    axes = {
        name: Axis(0.0, max(1e-6, *(max(one["high"], 2 * one["smallest"]) for one in tested if one["check"] == name)))
        for name in {one["check"] for one in tested}
    }
    return [
        {
            **one,
            "picture": charts.interval_dot(
                one, axes[one["check"]], one["sentence"], kind="tuned" if one["alarm"] else "other", whole=one["smallest"]
            ),
        }
        for one in tested
    ]
