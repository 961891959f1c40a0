"""profile.html: what the rows are, as one self-contained page in the report's style; no script, nothing fetched."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from whet.report import charts
from whet.report.cloud import COLOURS, cloud, histogram
from whet.report.html import environment, flow

SHOWN = 20
"""Classes that are shown at once."""


def render_profile(found: Mapping[str, Any]) -> str:
    """Return the page of what profile.json holds."""
    style = environment().get_template("report.css").render() + environment().get_template("profile.css").render()
    rows = {"rows_in": found["rows_in"], "used": found["used"], "splits": found["splits"], "dropped": found["dropped"]}
    colours = {one["name"]: place for place, one in enumerate(found["map"]["classes"][:COLOURS])}
    most = max((one["n"] for one in found["classes"]), default=1)
    page: str = (
        environment()
        .get_template("profile.html.jinja")
        .render(
            found=found,
            style=style,
            style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
            flow=flow(rows),
            lengths=[
                {**one, "picture": histogram(one["bins"], f"Lengths of {one['name']}", "tokens")}
                for one in found["lengths"]["fields"]
            ],
            classes=_bars(found["classes"][:SHOWN], most),
            more_classes=_bars(found["classes"][SHOWN:], most),
            languages=_bars(found["languages"], max((one["n"] for one in found["languages"]), default=1)),
            cloud=cloud(found["map"]["points"], colours) if found["map"]["points"] else None,
            colours=colours,
        )
    )
    return page


def _bars(counts: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    return [{**one, "picture": charts.bar(one["n"] / most, f"{one['name']}: {one['n']:,} rows")} for one in counts]
