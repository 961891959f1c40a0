"""Scores of each group of test rows: tuned and baselines, whole and by slice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whet import plugins
from whet.report.wording import as_json, wording
from whet.stats import bootstrap, paired, share_score, stack
from whet.types import Example, Metric, Output, Score

if TYPE_CHECKING:
    from whet.types import Statistics

MOST_VALUES = 24
"""Values of a slice column that are scored; rarer ones go together."""
OTHER, NONE = "(other)", "(none)"


@dataclass(frozen=True, slots=True)
class Group:
    """Test rows, what each model answered to them, and the metrics they are scored by."""

    metrics: tuple[str, ...]
    examples: Sequence[Example]
    outputs: Sequence[Output]
    """Of the tuned model, in the order of the examples."""
    baselines: Mapping[str, Sequence[Output]] = field(default_factory=dict)
    """Of each model it is compared with. One without the fields that a metric needs is left out of that metric."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric on one group: what every row adds to the score of every model."""

    name: str
    metric: Metric
    examples: Sequence[Example]
    tuned: Statistics
    baselines: Mapping[str, Statistics]


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals are made."""

    resamples: int
    seed: int

    def score(self, measured: Measured, statistics: Statistics) -> Score:
        """Score with its interval."""
        score = bootstrap(measured.metric.reduce, statistics, self.resamples, self.seed)
        return share_score(score) if wording(measured.name).share and measured.metric.best == 1 else score

    def difference(self, measured: Measured, baseline: str) -> Score:
        """Tuned less baseline, with its interval."""
        return paired(measured.metric.reduce, measured.tuned, measured.baselines[baseline], self.resamples, self.seed)


def measure(group: Group, folder: Path | None) -> list[Measured]:
    """Statistics of every metric of a group."""
    lengths = {name: len(outputs) for name, outputs in {"tuned": group.outputs, **group.baselines}.items()}
    assert set(lengths.values()) == {len(group.examples)}, f"{len(group.examples)} examples, but outputs: {lengths}"
    found = []
    for given in group.metrics:
        metric: Metric = plugins.build("metrics", given, {}, folder)
        models = {"tuned": group.outputs}
        models |= {name: outputs for name, outputs in group.baselines.items() if _answers(metric, outputs)}
        statistics = _statistics(metric, group.examples, models)
        tuned = statistics.pop("tuned")
        found.append(Measured(Path(given).stem.replace("-", "_"), metric, group.examples, tuned, statistics))
    return found


def slice_scores(measured: Sequence[Measured], primary: Measured, column: str, resampling: Resampling) -> dict[str, Any]:
    """Scores of the tuned model by value of a column, the most frequent first; together the values hold every row."""
    kept = _values(primary.examples, column)
    scored: dict[str, Any] = {}
    for value in kept:
        scores = {}
        for one in measured:
            rows = np.flatnonzero([_value(example, column, kept) == value for example in one.examples])
            if len(rows):
                scores[one.name] = as_json(resampling.score(one, one.tuned[rows]))
        scored[value] = {"n": scores[primary.name]["n"], "metrics": scores}
    return scored


def _values(examples: Sequence[Example], column: str) -> list[str]:
    counts = Counter(example.tags.get(column) or NONE for example in examples)
    ordered = sorted(counts, key=lambda value: (-counts[value], value))
    return ordered if len(ordered) <= MOST_VALUES else [*ordered[: MOST_VALUES - 1], OTHER]


def _value(example: Example, column: str, kept: Sequence[str]) -> str:
    value = example.tags.get(column) or NONE
    return value if value in kept else OTHER


def _answers(metric: Metric, outputs: Sequence[Output]) -> bool:
    return all(_has(output, name) for output in outputs for name in metric.needs)


def _has(output: Output, name: str) -> bool:
    if name == "labels" and output.label is not None:
        return True  # one label is a set of one
    return getattr(output, name) is not None


def _statistics(metric: Metric, examples: Sequence[Example], models: Mapping[str, Sequence[Output]]) -> dict[str, Statistics]:
    """What every row adds, equally wide for every model."""
    rows = {
        name: [metric.statistics(example, output) for example, output in zip(examples, outputs, strict=True)]
        for name, outputs in models.items()
    }
    widest = max((len(row) for several in rows.values() for row in several), default=1)
    return {name: stack(several, widest) for name, several in rows.items()}
