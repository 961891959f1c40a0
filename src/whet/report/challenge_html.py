"""retrain.html: champion and challenger on the old and on the new test rows, one self-contained page, no script, nothing fetched."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import jinja2

from whet.report import charts
from whet.report.html import tied
from whet.report.svg import axis_around
from whet.report.wording import difference, shown, size, wording

TAGS = {"pass": ("better", "▲", "Passed"), "undecided": ("same", "●", "Undecided"), "fail": ("worse", "▼", "Refused")}
TITLES = {"old": "Test rows of before", "new": "New test rows"}
KINDS = {"better": "better", "same": "", "worse": "worse"}


def render_challenge(found: Mapping[str, Any], run: str) -> str:
    """Return the page of what retrain.json holds."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("whet.report", "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["tied"] = tied
    style = environment.get_template("report.css").render()
    own = found["own_gate"]
    worst = "fail" if "fail" in {found["gate"]["decision"], own} else "pass" if found["passed"] else "undecided"
    kind, symbol, tag = TAGS[worst]
    page: str = environment.get_template("retrain.html.jinja").render(
        found=found,
        run=run,
        style=style,
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        kind=kind,
        symbol=symbol,
        tag=tag,
        sets=[_set(found, which) for which in ("old", "new")],
    )
    return page


def _set(found: Mapping[str, Any], which: str) -> dict[str, Any]:
    """Both models as two dots on one axis, and every metric as a line of a table."""
    held = found["sets"][which]
    scores = held["metrics"][found["metric"]]
    share = wording(found["metric"]).share
    ends = [scores[who][key] for who in ("champion", "challenger") for key in ("value", "low", "high")]
    axis = axis_around([end for end in ends if end is not None], share=share)
    rows = [
        (
            who.capitalize(),
            charts.interval_dot(scores[who], axis, f"{who}: {shown(found['metric'], scores[who]['value'])}", kind=kind),
            shown(found["metric"], scores[who]["value"]),
        )
        for who, kind in (("champion", "other"), ("challenger", "tuned"))
    ]
    table = [
        {
            "title": wording(name).title,
            "champion": shown(name, one["champion"]["value"]),
            "challenger": shown(name, one["challenger"]["value"]),
            "difference": difference(name, one["difference"]),
            "decision": one["decision"],
            "n": one["difference"]["n"],
        }
        for name, one in held["metrics"].items()
    ]
    ruling = next(one for one in found["gate"]["rulings"] if one["rows"] == which)
    return {
        "title": TITLES[which],
        "n": held["n"],
        "metric": wording(found["metric"]).title,
        "rows": rows,
        "reached": _number(shown(found["metric"], scores["challenger"]["value"])),
        "champion": shown(found["metric"], scores["champion"]["value"]),
        "table": table,
        "ruling": ruling["sentence"],
        "decision": ruling["decision"],
        "tolerance": f"{size(found['metric'], held['tolerance']['size'])}: {held['tolerance']['why']}",
    }


def _number(text: str) -> dict[str, str]:
    """Return a score as it is shown, its unit apart."""
    number, _, unit = text.partition(" ")
    return {"number": number, "unit": unit}
