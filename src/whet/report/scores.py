"""Scores of each group of test rows: tuned and baselines, whole and by slice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whet import plugins
from whet.protocols import Metric
from whet.report.wording import as_json, metric_name, wording
from whet.stats import bootstrap, paired, redrawn_of, share_score, stack
from whet.types import Example, Output, Score

if TYPE_CHECKING:
    from whet.stats import Ints
    from whet.types import Statistics

MOST_VALUES = 24
"""Values of a slice column that are scored; rarer ones go together."""
OTHER, NONE = "(other)", "(none)"
FILE = "file"
"""The slice that tells the files of the rows apart."""


@dataclass(frozen=True, slots=True)
class Group:
    """Test rows, what each model answered to them, and the metrics they are scored by."""

    metrics: tuple[str, ...]
    examples: Sequence[Example]
    outputs: Sequence[Output]
    """Of the tuned model, in the order of the examples."""
    baselines: Mapping[str, Sequence[Output]] = field(default_factory=dict)
    """Of each model it is compared with. One without the fields that a metric needs is left out of that metric."""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of the metrics that have other settings than their defaults."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric on one group: what every row adds to the score of every model."""

    name: str
    metric: Metric
    examples: Sequence[Example]
    tuned: Statistics
    baselines: Mapping[str, Statistics]

    def of_rows(self, rows: Ints) -> Measured:
        """The same of some of the rows, by their places."""
        baselines = {name: statistics[rows] for name, statistics in self.baselines.items()}
        return replace(self, examples=[self.examples[row] for row in rows], tuned=self.tuned[rows], baselines=baselines)


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals are made."""

    resamples: int
    seed: int

    def score(self, measured: Measured, statistics: Statistics) -> Score:
        """Score with its interval."""
        score = bootstrap(measured.metric.reduce, statistics, self.resamples, self.seed, redrawn_of(measured.metric))
        return share_score(score) if wording(measured.name).share and measured.metric.best == 1 else score

    def difference(self, measured: Measured, baseline: str) -> Score:
        """Tuned less baseline, with its interval."""
        metric, theirs = measured.metric, measured.baselines[baseline]
        return paired(metric.reduce, measured.tuned, theirs, self.resamples, self.seed, redrawn_of(metric))


def measure(group: Group, folder: Path | None) -> list[Measured]:
    """Statistics of every metric of a group."""
    lengths = {name: len(outputs) for name, outputs in {"tuned": group.outputs, **group.baselines}.items()}
    assert set(lengths.values()) == {len(group.examples)}, f"{len(group.examples)} examples, but outputs: {lengths}"
    found = []
    for given in group.metrics:
        metric: Metric = plugins.build("metrics", given, group.settings.get(given, {}), folder)
        models = {"tuned": group.outputs}
        models |= {name: outputs for name, outputs in group.baselines.items() if _answers(metric, outputs)}
        statistics = _statistics(metric, group.examples, models)
        tuned = statistics.pop("tuned")
        found.append(Measured(metric_name(given), metric, group.examples, tuned, statistics))
    return found


def by_file(groups: Sequence[Group], slices: Sequence[str]) -> tuple[Sequence[Group], Sequence[str]]:
    """Return the groups with each row's file among its tags, and the slices with FILE, where rows come from a few files."""
    files = list(dict.fromkeys(example.file for group in groups for example in group.examples))
    if not 1 < len(files) <= MOST_VALUES or FILE in slices:
        return groups, slices
    names = _short_names(files)
    tagged = [
        replace(group, examples=[replace(one, tags={**one.tags, FILE: names[one.file]}) for one in group.examples])
        for group in groups
    ]
    return tagged, (*slices, FILE)


def _short_names(files: Sequence[str]) -> dict[str, str]:
    """Each file by its name, with as many folders before it as tell it from the others."""
    parts = {file: Path(file).parts for file in files}
    deepest = max(map(len, parts.values()))
    kept = next((n for n in range(1, deepest) if len({some[-n:] for some in parts.values()}) == len(files)), deepest)
    return {file: str(Path(*some[-kept:])) for file, some in parts.items()}


def slice_scores(measured: Sequence[Measured], primary: Measured, column: str, resampling: Resampling) -> dict[str, Any]:
    """Scores of the tuned model by value of a column, the most frequent first; together the values hold every row."""
    kept = _values(primary.examples, column)
    scored: dict[str, Any] = {}
    for value in kept:
        scores = {}
        for one in measured:
            rows = _rows_of(one.examples, column, kept, value)
            if len(rows):
                scores[one.name] = as_json(resampling.score(one, one.tuned[rows]))
        scored[value] = {"n": scores[primary.name]["n"], "metrics": scores}
    return scored


def slice_rows(examples: Sequence[Example], column: str) -> dict[str, Ints]:
    """Places of the rows of each value of a column, the most frequent first."""
    kept = _values(examples, column)
    return {value: _rows_of(examples, column, kept, value) for value in kept}


def _rows_of(examples: Sequence[Example], column: str, kept: Sequence[str], value: str) -> Ints:
    return np.flatnonzero([_value(example, column, kept) == value for example in examples])


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
