"""The verdict: did tuning help, against the best baseline, in one plain sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from whet.report.scores import NONE, OTHER, Measured, Resampling
from whet.report.wording import as_json, baseline_words, claim, direction, from_json, interval, rows, shown, size
from whet.types import Score

Decision = Literal["better", "same", "worse"]
FEWEST_DIFFERING = 6
"""Rows in which two models must differ: of five, all one way, a sign test says 2 * 0.5**5 = 6 %, which is no 5 % evidence."""
FEWEST_IN_SLICE = 20


@dataclass(frozen=True, slots=True)
class Comparison:
    """Tuned against one baseline."""

    baseline: str
    difference: Score
    num_differing: int
    decision: Decision


@dataclass(frozen=True, slots=True)
class Openings:
    """How a sentence begins, by what was decided."""

    better: str
    worse: str
    same: str


TUNING = Openings("Tuning helped", "Tuning hurt", "Tuning did not clearly help")


def compare(measured: Measured, baseline: str, resampling: Resampling) -> Comparison:
    """Tuned against a baseline, decided by the paired interval."""
    difference = resampling.difference(measured, baseline)
    num_differing = int(np.any(measured.tuned != measured.baselines[baseline], axis=1).sum())
    sign = 1 if measured.metric.higher_is_better else -1
    ends = sorted((sign * difference.low, sign * difference.high))
    decision: Decision = "same"
    if num_differing >= FEWEST_DIFFERING and all(math.isfinite(end) for end in ends):
        decision = "better" if ends[0] > 0 else "worse" if ends[1] < 0 else "same"
    return Comparison(baseline, difference, num_differing, decision)


def best_baseline(measured: Measured, scores: Mapping[str, Score]) -> str | None:
    """The strongest of the baselines that this metric is defined for."""
    sign = 1 if measured.metric.higher_is_better else -1
    known = {name: sign * score.value for name, score in scores.items() if math.isfinite(score.value)}
    return max(known, key=lambda name: known[name]) if known else None


def build_verdict(
    measured: Measured, scores: Mapping[str, Score], slices: Mapping[str, Any], resampling: Resampling
) -> dict[str, Any]:
    """The verdict of a report; `scores` holds "tuned" and every baseline. Its decision is null where nothing was compared."""
    tuned = scores["tuned"]
    others = {name: score for name, score in scores.items() if name != "tuned" and name in measured.baselines}
    best = best_baseline(measured, others)
    against = {name: compare(measured, name, resampling) for name in others}
    weak = weakest_slice(measured, tuned, slices)
    if best is None:
        lone = f"Tuned: {claim(measured.name, tuned)}; there is no baseline to compare with, so no verdict"
        empty: dict[str, Any] = {"decision": None, "metric": measured.name, "baseline": None, "difference": None, "against": {}}
        return {**empty, "sentence": lone + _where(measured.name, weak) + ".", "weakest_slice": weak}
    chosen = against[best]
    sentence = say(measured.name, tuned, chosen, baseline_words(best)) + _where(measured.name, weak) + "."
    return {
        "decision": chosen.decision,
        "metric": measured.name,
        "baseline": best,
        "difference": as_json(chosen.difference),
        "sentence": sentence,
        "against": {
            name: {"decision": one.decision, "difference": as_json(one.difference), "num_differing": one.num_differing}
            for name, one in against.items()
        },
        "weakest_slice": weak,
    }


def say(metric: str, tuned: Score, compared: Comparison, baseline: str, openings: Openings = TUNING) -> str:
    """One sentence without its full stop."""
    reached, change = claim(metric, tuned), compared.difference
    if compared.decision != "same":
        verb = openings.better if compared.decision == "better" else openings.worse
        how = f"{size(metric, change.value)} {direction(metric, change.value)} than {baseline}"
        return f"{verb}: {reached}, {how} ({_spread(metric, change)})"
    if not compared.num_differing:
        return f"{openings.same}: {reached}, and {baseline} scores the same in every row"
    if compared.num_differing < FEWEST_DIFFERING:
        few = f"only {rows(compared.num_differing)} scored differently from {baseline}, too few to tell"
        return f"{openings.same}: {reached}, and {few}"
    if not math.isfinite(change.low):
        return f"{openings.same}: {reached}, and the difference to {baseline} is not known well enough"
    ends = " to ".join(f"{size(metric, end)} {direction(metric, end)}" for end in (change.low, change.high))
    return f"{openings.same}: {reached}, and compared with {baseline} that is anything from {ends}"


def weakest_slice(measured: Measured, whole: Score, slices: Mapping[str, Any]) -> dict[str, Any] | None:
    """The slice clearly below the whole, by the largest distance in standard errors, or None.

    A slice counts from 20 rows on, where it is below by more than chance would make any of them at the 5 % level (Bonferroni
    over all slices); standard errors are read off the intervals.
    """
    found = _all_slices(slices, measured.name)
    found = [one for one in found if math.isfinite(one[2].low) and math.isfinite(one[2].value)]
    if not found or not math.isfinite(whole.low):
        return None
    sign = 1 if measured.metric.higher_is_better else -1
    needed = NormalDist().inv_cdf(1 - 0.025 / len(found))
    distances = [sign * (whole.value - score.value) / (_error(whole, score) or math.inf) for _, _, score in found]
    eligible = [place for place, (_, _, score) in enumerate(found) if score.n >= FEWEST_IN_SLICE and distances[place] > needed]
    if not eligible:
        return None
    column, value, score = found[max(eligible, key=lambda place: distances[place])]
    return {"column": column, "name": value, **as_json(score)}


def _all_slices(slices: Mapping[str, Any], metric: str) -> list[tuple[str, str, Score]]:
    return [
        (column, value, from_json(entry["metrics"][metric]))
        for column, values in slices.items()
        for value, entry in values.items()
        if metric in entry["metrics"] and len(values) > 1
    ]


def _error(whole: Score, part: Score) -> float:
    return math.hypot(whole.high - whole.low, part.high - part.low) / (2 * 1.96)


def _spread(metric: str, change: Score) -> str:
    ends = sorted((abs(change.low), abs(change.high)))
    return interval(metric, *ends).removesuffix(" %")


def _where(metric: str, weak: Mapping[str, Any] | None) -> str:
    if weak is None:
        return ""
    place = weak["name"] if weak["name"] in {NONE, OTHER} else f'"{weak["name"]}"'
    return f"; weakest where {weak['column']} is {place}: {shown(metric, weak['value'])} on {rows(weak['n'])}"
