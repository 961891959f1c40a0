"""What a tracker is told of a run: its recipe as parameters, its log as numbers. Texts of the data are never among it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from whet.errors import installing

EXTRA = installing("track")
WITHOUT = frozenset({"kind", "phase", "step", "metric"})
"""Keys of a record that are no measurement."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """The run, as a tracker knows it."""

    name: str
    """The run's own name."""
    folder: Path
    """The run's folder, where a tracker may keep a file of its own in one of its name."""
    parameters: Mapping[str, str | int | float | bool]
    """The recipe, dotted: `train.batch_size`."""
    key: str | None = None
    """What an earlier start of the same run gave as its `key`, to go on in the same place; none: the first start."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Numbers at one step of a phase, by name."""

    step: int
    numbers: Mapping[str, float]
    tags: Mapping[str, str]
    """The few words that go with them, of whet's own choosing: the verdict's decision, its metric and baseline."""


def parameters(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """Return a recipe as one flat mapping; a list is written as its items, with commas."""
    found: dict[str, str | int | float | bool] = {}
    for key, value in recipe.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= parameters(value, f"{name}.")
        elif isinstance(value, list | tuple) and any(isinstance(one, Mapping) for one in value):
            for place, one in enumerate(value):
                found |= parameters(one if isinstance(one, Mapping) else {"": one}, f"{name}.{place}.")
        elif isinstance(value, list | tuple):
            found[name] = ", ".join(map(str, value))
        elif value is not None:
            found[name] = value if isinstance(value, bool | int | float) else str(value)
    return found


def measured(record: Mapping[str, Any]) -> Measured | None:
    """Return a line of a run's log as numbers named `PHASE/...`; none where it has none. Anything that is no number stays behind."""
    if record.get("kind") == "evaluation":
        return _judged(record)
    phase, step = record.get("phase"), record.get("step")
    if not isinstance(phase, str) or not isinstance(step, int):
        return None
    prefix = f"{phase}/validation_" if record.get("kind") == "validation" else f"{phase}/"
    numbers: dict[str, float] = {}
    for key, value in record.items():
        if key in WITHOUT:
            continue
        name = record["metric"] if key == "score" and isinstance(record.get("metric"), str) else key
        several = value if isinstance(value, Mapping) else {"": value}
        if isinstance(value, Mapping) and key == "losses" and len(value) == 1:
            continue  # the one term is the loss itself
        for inner, number in several.items():
            if isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number):
                numbers[f"{prefix}{name}/{inner}" if inner else f"{prefix}{name}"] = float(number)
    return Measured(step, numbers, {}) if numbers else None


def judgement(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report as a record: scores, baselines' scores, and the verdict's decision. No slice and no row is named in it."""
    verdict = report["verdict"]
    numbers = {f"test/{name}": score["value"] for name, score in report["metrics"].items()}
    for metric, score in report["metrics"].items():
        numbers |= {f"test/{metric}_{end}": score[end] for end in ("low", "high")}
    for baseline, entry in report["baselines"].items():
        numbers |= {f"test/{baseline}/{name}": score["value"] for name, score in entry["metrics"].items()}
    if verdict.get("difference"):
        numbers |= {f"verdict/difference_{end}": verdict["difference"][end] for end in ("value", "low", "high")}
    tags = {"verdict": verdict["decision"], "verdict_metric": verdict.get("metric"), "verdict_baseline": verdict["baseline"]}
    if "gate" in report:
        tags["gate"] = report["gate"]["decision"]
    return {"kind": "evaluation", "numbers": numbers | {"test/n": report["n"]}, "tags": tags}


def secret_in(address: str) -> bool:
    """Whether an address carries a user's name or password, which would then stand in the run's recipe."""
    try:
        split = urlsplit(address)
        return bool(split.username or split.password)
    except ValueError:
        return False


def merged(records: Sequence[Measured]) -> list[tuple[int, dict[str, float]]]:
    """Return numbers step by step in order, those of one step together."""
    found: list[tuple[int, dict[str, float]]] = []
    for record in records:
        if found and found[-1][0] == record.step and not found[-1][1].keys() & record.numbers.keys():
            found[-1][1].update(record.numbers)
        else:
            found.append((record.step, dict(record.numbers)))
    return found


def _judged(record: Mapping[str, Any]) -> Measured:
    finite = {name: float(value) for name, value in record["numbers"].items() if value is not None and math.isfinite(value)}
    return Measured(0, finite, {name: str(word) for name, word in record["tags"].items() if word is not None})
