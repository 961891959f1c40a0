"""What a run that went on from others still knows: every stage's model on every stage's test rows, and what was forgotten.

Shapes: S stages; stage i was trained behind those before it, test j are the test rows of stage j.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from whet.protocols import Metric
from whet.report.scores import Measured, Resampling
from whet.report.wording import as_json, interval, rows, shown, size, wording
from whet.stats import paired, paired_mean, redrawn_of
from whet.types import Example, Score

if TYPE_CHECKING:
    from whet.types import Statistics


@dataclass(frozen=True, slots=True)
class StageTest:
    """The test rows of one stage, and what each adds to the score of every stage's model."""

    name: str
    """The run."""
    examples: Sequence[Example]
    by_stage: Sequence[Statistics]
    """[S] of [N, ...], in the order of the stages."""


def build_forgetting(
    metric_name: str, metric: Metric, stages: Sequence[str], tests: Mapping[int, StageTest], resampling: Resampling, kept_by: str
) -> dict[str, Any]:
    """What report.json says under `continual`; `tests` by the stage that they belong to, `kept_by` what was done against forgetting.

    Forgetting of a test is the best score of an earlier stage's model less that of the last (Chaudhry et al. 2018, arXiv:1801.10112,
    section 3.1), backward transfer the last score less that right after the test's own stage (Lopez-Paz and Ranzato 2017,
    arXiv:1706.08840, eq. 3); both as means over the tests of earlier stages, turned so that more forgetting is worse whatever the metric.
    """
    sign, last = (1 if metric.higher_is_better else -1), len(stages) - 1
    measured = {stage: Measured(metric_name, metric, test.examples, test.by_stage[last], {}) for stage, test in tests.items()}
    matrix = [
        [as_json(resampling.score(measured[stage], test.by_stage[number])) for stage, test in tests.items()]
        for number in range(len(stages))
    ]
    earlier = {stage: test for stage, test in tests.items() if stage < last}
    best = {stage: max(range(last), key=lambda number: _known(sign * metric.reduce(test.by_stage[number])))
            for stage, test in earlier.items()}  # fmt: skip
    by_test = {test.name: _lost(metric, test, best[stage], sign, resampling) for stage, test in earlier.items()}
    found: dict[str, Any] = {
        "metric": metric_name,
        "lower_is_better": sign < 0,
        "stages": list(stages),
        "tests": [{"name": test.name, "n": len(test.examples)} for test in tests.values()],
        "matrix": matrix,
    }
    if earlier:
        lost = [(test.by_stage[best[stage]], test.by_stage[last]) for stage, test in earlier.items()]
        gained = [(test.by_stage[last], test.by_stage[stage]) for stage, test in earlier.items()]
        found["forgetting"] = {
            **as_json(_mean(metric, lost, sign, resampling)),
            "by_test": {
                test.name: {**as_json(by_test[test.name]), "best_stage": stages[best[stage]]} for stage, test in earlier.items()
            },
        }
        found["backward_transfer"] = as_json(_mean(metric, gained, sign, resampling))
    said = [
        _say(metric_name, test, by_test[test.name], metric.reduce(test.by_stage[best[stage]]), metric.reduce(test.by_stage[last]))
        for stage, test in earlier.items()
    ]
    found["sentence"] = (
        " ".join([*said, kept_by]) if said else "No stage before it has test rows, so nothing can be said of forgetting."
    )
    return found


def _lost(metric: Metric, test: StageTest, best: int, sign: int, resampling: Resampling) -> Score:
    then, now = test.by_stage[best], test.by_stage[-1]
    pair = (then, now) if sign > 0 else (now, then)
    return paired(metric.reduce, *pair, resampling.resamples, resampling.seed, redrawn_of(metric))


def _mean(metric: Metric, pairs: Sequence[tuple[Statistics, Statistics]], sign: int, resampling: Resampling) -> Score:
    turned = pairs if sign > 0 else [(theirs, ours) for ours, theirs in pairs]
    return paired_mean(metric.reduce, turned, resampling.resamples, resampling.seed, redrawn_of(metric))


def _known(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def _say(metric: str, test: StageTest, lost: Score, then: float, now: float) -> str:
    """What became of one earlier stage, in a sentence."""
    scores = (
        f"{wording(metric).title.lower()} {shown(metric, then)} then, {shown(metric, now)} now, on {rows(len(test.examples))}"
    )
    if not math.isfinite(lost.low):
        return f"What was forgotten of {test.name} is not known well enough: {scores}."
    ends = interval(metric, *sorted((abs(lost.low), abs(lost.high)))).removesuffix(" %")
    if lost.low > 0:
        return f"It forgot {size(metric, lost.value)} of {test.name} ({ends}; {scores})."
    if lost.high < 0:
        return f"It became better on {test.name}, by {size(metric, lost.value)} ({ends}; {scores})."
    if lost.low == lost.high == 0:
        return f"It forgot nothing of {test.name} that these rows show: {scores}."
    return (
        f"It did not clearly forget {test.name}: {scores}; the change is anything from {size(metric, lost.low)} better to "
        f"{size(metric, lost.high)} worse."
    )
