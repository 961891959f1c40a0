"""The gate: rules that a model must pass, each decided by the pessimistic end of an interval and never by a number alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from whet.recipe import GateRule
from whet.report.scores import Measured, Resampling, slice_rows
from whet.report.verdict import best_baseline
from whet.report.wording import as_json, baseline_words, direction, interval, metric_name, rows, shown, size, wording
from whet.types import Score

if TYPE_CHECKING:
    from whet.stats import Ints

Decision = Literal["pass", "fail", "undecided", "skipped"]
Demand = Literal["minimum", "maximum", "max_loss"]
WORDS = {"pass": "passed", "fail": "failed", "undecided": "undecided", "skipped": "not judged"}
MOST_ROWS = 10_000_000
"""More rows than this are no advice: the value lies on the bound."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rule is judged: all rows, or those of a slice."""

    column: str | None = None
    value: str | None = None

    @property
    def words(self) -> str:
        return "" if self.column is None else f' where {self.column} is "{self.value}"'


def decide(margin: Score, min_rows: int) -> tuple[Decision, int | None]:
    """Whether a margin is surely at least 0, surely below, or neither; and then how many rows would decide it, if any would.

    The whole 95 % interval must lie on one side. It shrinks with the square root of the rows: with its end `reach` away from the
    value and 0 `distance` away, (reach / distance)**2 times as many rows put 0 at the end.
    """
    if margin.n < min_rows:
        return "undecided", min_rows
    if not (math.isfinite(margin.low) and math.isfinite(margin.high)):
        return "undecided", None
    if margin.low >= 0:
        return "pass", None
    if margin.high < 0:
        return "fail", None
    reach = margin.value - margin.low if margin.value >= 0 else margin.high - margin.value
    if abs(margin.value) * math.sqrt(MOST_ROWS / margin.n) < reach:
        return "undecided", None
    return "undecided", _rounded_up(margin.n * (reach / margin.value) ** 2)


def judge(rules: Sequence[GateRule], measured: Sequence[Measured], resampling: Resampling) -> dict[str, Any]:
    """The decision of the whole gate and of each rule at each place, as RUN/gate.json holds it.

    It passes only where every ruling does; what is undecided is said to be so, and does not pass. Slices with fewer rows than
    a rule's `min_rows` are not judged.
    """
    rulings = [ruling for number, rule in enumerate(rules) for ruling in _rule(number, rule, measured, resampling)]
    words = [ruling["decision"] for ruling in rulings]
    decision = "fail" if "fail" in words else "undecided" if "undecided" in words else "pass"
    return {
        "decision": decision,
        "sentence": _sentence(decision, rulings),
        "rules": [rule.model_dump(mode="json") for rule in rules],
        "rulings": rulings,
    }


def refusals(gate: Mapping[str, Any]) -> list[str]:
    """What does not pass, in sentences."""
    return [ruling["sentence"] for ruling in gate["rulings"] if ruling["decision"] in {"fail", "undecided"}]


def _rule(number: int, rule: GateRule, measured: Sequence[Measured], resampling: Resampling) -> Iterator[dict[str, Any]]:
    one = next((one for one in measured if one.name == metric_name(rule.metric)), None)
    assert one is not None, f"gate rule {number + 1}: '{rule.metric}' is not measured"
    places: list[tuple[Place, Ints | None]] = [(Place(), None)]
    for column in rule.slices:
        places += [(Place(column, value), found) for value, found in slice_rows(one.examples, column).items()]
    for demand in rule.demands:
        for place, chosen in places:
            part = one if chosen is None else one.of_rows(chosen)
            yield {"rule": number + 1, **_ruling(rule, demand, place, part, resampling)}


def _ruling(rule: GateRule, demand: Demand, place: Place, one: Measured, resampling: Resampling) -> dict[str, Any]:
    bound, baseline = float(getattr(rule, demand)), None
    if demand == "max_loss":
        baseline = rule.baseline if rule.baseline != "auto" else _strongest(one)
        if baseline is None or baseline not in one.baselines:
            return _without_baseline(rule, place, one)
        score = resampling.difference(one, baseline)
    else:
        score = resampling.score(one, one.tuned)
    sign = 1 if one.metric.higher_is_better else -1
    margin = _margin(score, sign, bound if demand == "max_loss" else -sign * bound)
    decision, needed = decide(margin, rule.min_rows)
    if place.column is not None and score.n < rule.min_rows:
        decision, needed = "skipped", None
    ruling = {"demand": demand, "metric": one.name, "bound": bound, "baseline": baseline}
    where = None if place.column is None else {"column": place.column, "value": place.value}
    name = _name(one.name, demand, bound, baseline) + place.words
    found = _difference_words(one.name, score) if demand == "max_loss" else _score_words(one.name, score)
    sentence = f"{name}: {WORDS[decision]}, {found} on {rows(score.n)}{_advice(decision, score, margin, needed, rule)}."
    return {**ruling, "where": where, **as_json(score), "decision": decision, "rows_needed": needed, "sentence": sentence}


def _margin(score: Score, sign: int, slack: float) -> Score:
    """By how much the demand is more than met: sign * score + slack, with the low end pessimistic."""
    ends = sorted((sign * score.low + slack, sign * score.high + slack))
    return Score(sign * score.value + slack, ends[0], ends[1], score.n)


def _strongest(one: Measured) -> str | None:
    return best_baseline(
        one, {name: Score(one.metric.reduce(found), math.nan, math.nan, 0) for name, found in one.baselines.items()}
    )


def _without_baseline(rule: GateRule, place: Place, one: Measured) -> dict[str, Any]:
    known = ", ".join(one.baselines) or "none"
    asked = "a baseline" if rule.baseline == "auto" else f"the baseline '{rule.baseline}'"
    sentence = f"{wording(one.name).title}{place.words}: undecided, {asked} is not measured here. Allowed: auto, {known}."
    where = None if place.column is None else {"column": place.column, "value": place.value}
    nothing = as_json(Score(math.nan, math.nan, math.nan, len(one.examples)))
    ruling = {"demand": "max_loss", "metric": one.name, "bound": rule.max_loss, "baseline": None, "where": where, **nothing}
    return {**ruling, "decision": "undecided", "rows_needed": None, "sentence": sentence}


def _name(metric: str, demand: Demand, bound: float, baseline: str | None) -> str:
    title = wording(metric).title
    if demand == "max_loss":
        words = baseline_words(baseline or "")
        return f"{title} no worse than {words}" if not bound else f"{title} at most {size(metric, bound)} worse than {words}"
    return f"{title} at {'least' if demand == 'minimum' else 'most'} {shown(metric, bound)}"


def _score_words(metric: str, score: Score) -> str:
    reach = interval(metric, score.low, score.high)
    return shown(metric, score.value) + (f" ({reach})" if reach else "")


def _difference_words(metric: str, score: Score) -> str:
    if not math.isfinite(score.low):
        return f"{size(metric, score.value)} {direction(metric, score.value)}"
    ends = [f"{size(metric, end)} {direction(metric, end)}" for end in (score.low, score.high)]
    return f"{size(metric, score.value)} {direction(metric, score.value)} ({ends[0]} to {ends[1]})"


def _advice(decision: Decision, score: Score, margin: Score, needed: int | None, rule: GateRule) -> str:
    if decision == "skipped":
        return f", fewer than {rule.min_rows:,} (min_rows)"
    if decision != "undecided":
        return ""
    if score.n < rule.min_rows:
        return f", and the rule asks for {rule.min_rows:,} (min_rows)"
    if needed is None:
        return (
            ", and no number of such rows is sure to decide it" if math.isfinite(score.low) else ", too few to know an interval"
        )
    likely = "pass" if margin.value >= 0 else "fail"
    return f"; about {needed:,} rows like these would decide it (as it stands: {likely})"


def _sentence(decision: str, rulings: Sequence[Mapping[str, Any]]) -> str:
    counts = {word: sum(ruling["decision"] == word for ruling in rulings) for word in WORDS}
    parts = [f"{counts[word]} {WORDS[word]}" for word in WORDS if counts[word]]
    return f"Gate {WORDS[decision]}: {', '.join(parts)} of {len(rulings)} checks."


def _rounded_up(needed: float) -> int:
    """A number of rows, rounded up to two digits that matter."""
    step: int = 10 ** max(0, len(str(math.ceil(needed))) - 2)
    return math.ceil(round(needed / step, 6)) * step
