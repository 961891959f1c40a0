"""Whether a challenger may take the champion's place: both on the champion's old test rows and on the new ones, paired."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from whet.recipe import GateRule
from whet.registry import CHALLENGER, CHAMPION
from whet.report.gate import judge
from whet.report.lead import is_better, lead_needed
from whet.report.scores import Group, Measured, Resampling, measure
from whet.report.verdict import Comparison, compare
from whet.report.wording import as_json, claim, direction, interval, metric_name, rows, size, wording
from whet.types import Score

Rows = Literal["old", "new"]
SETS: tuple[Rows, ...] = ("old", "new")
FEWEST = 10
"""Test rows of a set below which nothing is decided."""
SMALLEST = 0.02
"""Least difference that matters: points of a share, else a share of the champion's score; as in `whet monitor`."""
RESOLVED = 0.8
"""So many rows n tell differences of RESOLVED / sqrt(n) apart: 1.96 standard errors, where one row in six is answered otherwise."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How much worse a challenger may be and still pass, in the metric's own unit."""

    size: float
    why: str


def tolerance(metric: str, champion: float, n: int, asked: float | None) -> Tolerance:
    """Return what was asked for, or else the least difference that matters, and no less than `n` rows can tell."""
    if asked is not None:
        return Tolerance(asked, "as asked for")
    unit = 1.0 if wording(metric).share or not math.isfinite(champion) else abs(champion)
    told = RESOLVED / math.sqrt(max(n, 1))
    if told > SMALLEST:
        return Tolerance(told * unit, f"what {rows(n)} can tell")
    return Tolerance(SMALLEST * unit, "the least difference that matters")


def build_challenge(
    *,
    groups: Mapping[Rows, Sequence[Group]],
    metric: str,
    resampling: Resampling,
    asked: float | None = None,
    number: int | None = None,
    own_gate: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Everything retrain.json says of the two models. Each group's outputs are the challenger's, its one baseline the champion's.

    On either set the challenger passes where the whole 95 % interval of the paired difference lies above minus the tolerance:
    not worse, for all that the rows can tell. It is better where its lead on the new rows is also what the champion's challenger of
    this `number` needs. `own_gate` is what the gate of the challenger's own recipe decided.
    """
    sets, rulings, compared = {}, [], {}
    for which in SETS:
        measured = [one for group in groups[which] for one in measure(group, folder)]
        scores = {one.name: _scores(one, resampling) for one in measured if CHAMPION in one.baselines}
        primary = next(one for one in measured if one.name == metric_name(metric))
        before = resampling.score(primary, primary.baselines[CHAMPION]) if CHAMPION in primary.baselines else None
        allowed = tolerance(primary.name, math.nan if before is None else before.value, len(primary.examples), asked)
        rule = GateRule(metric=metric, max_loss=allowed.size, baseline=CHAMPION, min_rows=FEWEST)
        ruling = judge([rule], [primary], resampling)["rulings"][0]
        opening = f"{which.capitalize()} rows: "
        rulings.append({**ruling, "rows": which, "sentence": opening + _lowered(ruling["sentence"])})
        sets[which] = {
            "n": len(primary.examples),
            "tolerance": {"size": allowed.size, "why": allowed.why},
            "metrics": scores,
            "higher_is_better": {one.name: one.metric.higher_is_better for one in measured},
        }
        compared[which] = (primary, compare(primary, CHAMPION, resampling), resampling.score(primary, primary.tuned))
    words = [ruling["decision"] for ruling in rulings]
    decision = "fail" if "fail" in words else "undecided" if "undecided" in words else "pass"
    own = None if own_gate is None else own_gate["decision"]
    one, found, _ = compared["new"]
    needed = None if number is None else lead_needed(one, number, resampling)
    return {
        "metric": metric_name(metric),
        "sets": sets,
        "gate": {"decision": decision, "rulings": rulings},
        "own_gate": own,
        "passed": decision == "pass" and own in {None, "pass"},
        "better": is_better(one, found, needed),
        "lead": {"number": number, "needed": needed if needed is not None and math.isfinite(needed) else None},
        "sentence": _sentence(compared, rulings, own_gate) + _lead(one.name, number, needed),
    }


def _scores(one: Measured, resampling: Resampling) -> dict[str, Any]:
    found = compare(one, CHAMPION, resampling)
    return {
        CHAMPION: as_json(resampling.score(one, one.baselines[CHAMPION])),
        CHALLENGER: as_json(resampling.score(one, one.tuned)),
        "difference": as_json(found.difference),
        "decision": found.decision,
        "num_differing": found.num_differing,
    }


def _sentence(
    compared: Mapping[Rows, tuple[Measured, Comparison, Score]],
    rulings: Sequence[Mapping[str, Any]],
    own: Mapping[str, Any] | None,
) -> str:
    """One plain sentence: may it take over, and why."""
    decided = {ruling["rows"]: ruling for ruling in rulings}
    refused = any(ruling["decision"] == "fail" for ruling in rulings) or (own is not None and own["decision"] == "fail")
    unsure = any(ruling["decision"] != "pass" for ruling in rulings) or (own is not None and own["decision"] != "pass")
    opening = "The challenger " + ("must not take over" if refused else "should not take over yet" if unsure else "may take over")
    one, _, reached = compared["new"]
    new = f"on the new rows {claim(one.name, reached)}, {_against(*compared['new'][:2], decided['new'])}"
    old = f"on {rows(compared['old'][2].n)} of before {_against(*compared['old'][:2], decided['old'])}"
    gate = "" if own is None else f"; {own['sentence'][0].lower()}{own['sentence'][1:].removesuffix('.')}, of its own recipe"
    return f"{opening}: {new}; {old}{gate}"


def _lead(metric: str, number: int | None, needed: float | None) -> str:
    """How the sentence ends: from where on a lead counts, where challengers are counted."""
    if number is None or needed is None:
        return "."
    if not needed:
        return f"; no new row tells the two apart, so there is no lead that could count, this being challenger {number} of the same champion."
    words = f"from {size(metric, needed)} on" if math.isfinite(needed) else "at no size, since chance is not known"
    return f"; a lead on the new rows counts {words}, this being challenger {number} of the same champion."


def _against(one: Measured, found: Comparison, ruling: Mapping[str, Any]) -> str:
    change, bound = found.difference, size(one.name, ruling["bound"])
    if found.decision != "same":
        ends = sorted((abs(change.low), abs(change.high)))
        spread = interval(one.name, *ends).removesuffix(" %")
        words = f"{size(one.name, change.value)} {direction(one.name, change.value)} than the champion ({spread})"
    elif not found.num_differing:
        words = "the same as the champion in every row"
    elif not math.isfinite(change.low):
        words = "and how far from the champion is not known"
    else:
        ends_words = " to ".join(f"{size(one.name, end)} {direction(one.name, end)}" for end in (change.low, change.high))
        words = f"not clearly better or worse than the champion ({ends_words})"
    if ruling["decision"] == "fail":
        return f"{words}, where at most {bound} worse is allowed"
    if ruling["decision"] == "undecided":
        return f"{words}, too few rows to be sure of at most {bound} worse"
    return words


def _lowered(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]
