"""The report of several tasks: each one's own report, whether sharing the network helped it, and one sentence over all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from whet.report.scores import Group, Resampling, measure
from whet.report.verdict import Openings, compare, say
from whet.report.wording import as_json
from whet.types import Output

ALONE = "alone"


def build_sharing(
    task: str, metric: str, group: Group, alone: Sequence[Output], resampling: Resampling, folder: Path | None = None
) -> dict[str, Any]:
    """Return how a task of several compares, paired on the same rows, with `alone`: what the same task gives that was trained alone.

    `better` means that sharing helped. One training of each is compared: what another seed would have given is not in the interval.
    """
    pair = Group((metric,), group.examples, group.outputs, {ALONE: alone}, group.settings)
    (measured,) = measure(pair, folder)
    compared = compare(measured, ALONE, resampling)
    shared = resampling.score(measured, measured.tuned)
    openings = Openings(f"Sharing helped {task}", f"Sharing hurt {task}", f"Sharing made no clear difference to {task}")
    return {
        "decision": compared.decision,
        "metric": measured.name,
        "n": shared.n,
        "shared": as_json(shared),
        ALONE: as_json(resampling.score(measured, measured.baselines[ALONE])),
        "difference": as_json(compared.difference),
        "num_differing": compared.num_differing,
        "sentence": say(measured.name, shared, compared, f"{task} trained alone", openings) + ".",
    }


def build_tasks_report(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return everything report.json holds of several tasks: `tasks.NAME` has the shape of a report of one task.

    Above them stand the metrics of the tasks' verdicts, as TASK/METRIC, and a verdict over all: worse where any task is.
    """
    named = {name: (f"{name}/{one['metric']}", one) for name, one in reports.items()}
    decisions = {name: one["verdict"]["decision"] for name, one in reports.items()}
    found = set(decisions.values())
    decision = next((one for one in ("worse", "better", "same") if one in found), None)
    sharing = {name: one["sharing"]["decision"] for name, one in reports.items() if "sharing" in one}
    sentences = [_counted("Tuning", "in", decisions)] + ([_counted("Sharing the network", "for", sharing)] if sharing else [])
    sentence = " ".join(sentences)
    return {
        "objective": "tasks",
        "metric": next(iter(named.values()))[0],
        "n": sum(one["n"] for one in reports.values()),
        "metrics": {key: one["metrics"][one["metric"]] for key, one in named.values()},
        "higher_is_better": {key: one["higher_is_better"][one["metric"]] for key, one in named.values()},
        "baselines": {},
        "verdict": {
            "decision": decision,
            "metric": None,
            "baseline": None,
            "difference": None,
            "sentence": sentence,
            "tasks": decisions,
            "sharing": sharing,
        },
        "hints": [f"{name}: {hint}" for name, one in reports.items() for hint in one["hints"]],
        "tasks": dict(reports),
    }


def _counted(what: str, where: str, decisions: Mapping[str, str | None]) -> str:
    """Return in how many tasks something helped, hurt, or did neither, each by name."""
    verbs = {"better": "helped", "worse": "hurt", "same": "made no clear difference", None: "had nothing to be compared with"}
    names = {key: [name for name, one in decisions.items() if one == key] for key in verbs}
    parts = [
        f"{verb} {where} {len(names[key])} of {len(decisions)} tasks ({', '.join(names[key])})"
        for key, verb in verbs.items()
        if names[key]
    ]
    return f"{what} {', '.join(parts[:-1])}{' and ' if parts[1:] else ''}{parts[-1]}."
