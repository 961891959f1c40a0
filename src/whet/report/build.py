"""The report of an evaluation, as one dictionary: scores with intervals, slices, where it goes wrong, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from whet.recipe import GateRule
from whet.report import classes as by_class
from whet.report import hints
from whet.report.gate import judge
from whet.report.scores import Group, Measured, Resampling, by_file, measure, slice_scores
from whet.report.verdict import Comparison, best_baseline, build_verdict, compare
from whet.report.wording import as_json, metric_name
from whet.report.worst import worst_labels, worst_scores
from whet.types import Score

__all__ = ["Group", "build_report"]


def build_report(
    *,
    objective: str,
    metric: str,
    groups: Sequence[Group],
    classes: Sequence[str] = (),
    slices: Sequence[str] = (),
    resamples: int = 1000,
    seed: int = 0,
    log: Sequence[Mapping[str, Any]] = (),
    folder: Path | None = None,
    known: Sequence[str] = (),
    gate: Sequence[GateRule] = (),
) -> dict[str, Any]:
    """Everything report.json holds, ready for `json.dumps(..., allow_nan=False)`.

    `metric` is the one the verdict speaks of, from any of the groups; `n` is the size of its group. Groups differ where some
    metrics are measured on fewer rows (generated answers). `classes` are the model's, in its order; `slices` are columns in the
    examples' tags, and rows of several files are also divided by file; `log` is the run's, for signs of overfitting; `folder` is
    the recipe's, for metrics of the user's own; `known` is what the caller has to say first of the test rows; `gate` are the
    rules that are decided here.
    """
    groups, slices = by_file(groups, slices)
    resampling = Resampling(resamples, seed)
    measured = [(group, one) for group in groups for one in measure(group, folder)]
    names = [one.name for _, one in measured]
    assert len(set(names)) == len(names), f"a metric stands in two groups: {names}"
    primary = next((one for _, one in measured if one.name == metric_name(metric)), None)
    assert primary is not None, f"the verdict's metric '{metric}' is in no group: {names}"
    scores = {one.name: _model_scores(one, resampling) for _, one in measured}
    sliced = {column: slice_scores([one for _, one in measured], primary, column, resampling) for column in slices}
    report: dict[str, Any] = {
        "objective": objective,
        "metric": primary.name,
        "n": len(primary.examples),
        "metrics": {name: as_json(models["tuned"]) for name, models in scores.items()},
        "higher_is_better": {one.name: one.metric.higher_is_better for _, one in measured},
        "baselines": _baselines(scores),
        "slices": sliced,
        "verdict": build_verdict(primary, scores[primary.name], sliced, resampling),
        "worst": _worst(measured, primary),
        **_labelled(groups, classes),
    }
    if gate:
        report["gate"] = judge(gate, [one for _, one in measured], resampling)
    report["hints"] = [*known, *_hints(report, measured, primary, scores, resampling, log)]
    return report


def _model_scores(measured: Measured, resampling: Resampling) -> dict[str, Score]:
    models = {"tuned": measured.tuned, **measured.baselines}
    return {name: resampling.score(measured, statistics) for name, statistics in models.items()}


def _baselines(scores: Mapping[str, Mapping[str, Score]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for metric, models in scores.items():
        for name, score in models.items():
            if name != "tuned":
                found.setdefault(name, {"metrics": {}})["metrics"][metric] = as_json(score)
    return found


def _labelled(groups: Sequence[Group], classes: Sequence[str]) -> dict[str, Any]:
    """What only labels have: scores by class, and for one label per row confusion and calibration."""
    group = next((group for group in groups if group.outputs and group.outputs[0].label is not None), None)
    several = next((group for group in groups if group.outputs and group.outputs[0].labels is not None), None)
    if group is None and several is None:
        return {}
    chosen = group or several
    assert chosen is not None
    pairs = list(zip(chosen.examples, chosen.outputs, strict=True))
    names = by_class.all_classes(pairs, classes)
    found: dict[str, Any] = {"per_class": by_class.per_class(pairs, names)}
    if group is not None:
        found |= {"confusion": by_class.confusion(pairs, names), "confused": by_class.confused_pairs(pairs)}
        if all(output.probabilities is not None for output in group.outputs):
            found["calibration"] = by_class.calibration(pairs)
    return found


def _worst(measured: Sequence[tuple[Group, Measured]], primary: Measured) -> list[dict[str, Any]]:
    for group, _ in measured:
        if group.outputs and (group.outputs[0].label is not None or group.outputs[0].labels is not None):
            return worst_labels(group.examples, group.outputs)
    chosen = next((pair for pair in measured if pair[1].name == "rouge_l"), None)
    group, one = chosen or next(pair for pair in measured if pair[1] is primary)
    return worst_scores(one, group.outputs)


def _hints(
    report: Mapping[str, Any],
    measured: Sequence[tuple[Group, Measured]],
    primary: Measured,
    scores: Mapping[str, Mapping[str, Score]],
    resampling: Resampling,
    log: Sequence[Mapping[str, Any]],
) -> list[str]:
    found = hints.few_rows(report["n"]) + hints.overfitting(log)
    found += hints.sureness(report.get("calibration", ())) + hints.silent_classes(report.get("per_class", {}))
    for answered in {id(group): group for group, _ in measured}.values():
        found += hints.sameness(*_texts(answered))
    return found + hints.side_effects(_other_groups(measured, primary, scores, resampling))


def _texts(group: Group) -> tuple[list[str], list[str]]:
    """Return the texts that the tuned model wrote, and those that the data hold for them."""
    given = [output.text for output in group.outputs if output.text is not None]
    last = [example.messages[-1] for example in group.examples if example.messages] if given else []
    return given, [message.content for message in last if message.role == "assistant"]


def _other_groups(
    measured: Sequence[tuple[Group, Measured]],
    primary: Measured,
    scores: Mapping[str, Mapping[str, Score]],
    resampling: Resampling,
) -> list[tuple[str, Comparison]]:
    """Each metric of the groups that the verdict does not speak of, against its best baseline."""
    home = next(group for group, one in measured if one is primary)
    compared = []
    for group, one in measured:
        best = best_baseline(one, {name: score for name, score in scores[one.name].items() if name != "tuned"})
        if group is not home and best is not None:
            compared.append((one.name, compare(one, best, resampling)))
    return compared
