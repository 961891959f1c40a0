"""The gate of a run: its rules are checked before training, its decision is stored, and later verbs ask here."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whet import plugins
from whet.display import quoted
from whet.errors import RecipeError, Refused, RunError
from whet.files import write_json
from whet.protocols import Metric
from whet.recipe import Recipe
from whet.recipe_file import load_recipe
from whet.report.gate import refusals
from whet.report.wording import BASELINES
from whet.run import Run

GATE = "gate.json"
CHALLENGE = "retrain.json"
"""What `whet retrain` found of a challenger beside its champion."""


def check_gate(recipe: Recipe, folder: Path | None) -> None:
    """Raise RecipeError, with its place, for a rule that can never be decided: a wrong direction, a column that is no slice."""
    for number, rule in enumerate(recipe.gate):
        metric: Metric = plugins.build("metrics", rule.metric, {}, folder)
        wrong, right = ("maximum", "minimum") if metric.higher_is_better else ("minimum", "maximum")
        if wrong in rule.demands:
            better = "higher" if metric.higher_is_better else "lower"
            raise RecipeError(
                f"{recipe.place('gate', str(number), wrong)}: '{rule.metric}' is better the {better} it is, so it has no {wrong}. "
                f"Allowed: {right}, max_loss."
            )
        if rule.baseline not in {"auto", *BASELINES} and not recipe.objective.name.endswith(".py"):
            near = difflib.get_close_matches(rule.baseline, BASELINES, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise RecipeError(
                f"{recipe.place('gate', str(number), 'baseline')}: no baseline is called '{rule.baseline}'.{hint} Allowed: auto, "
                f"{', '.join(BASELINES)}, as far as this objective has them."
            )
        unknown = [column for column in rule.slices if column not in recipe.data.slices]
        if unknown:
            raise RecipeError(
                f"{recipe.place('gate', str(number), 'slices')}: '{unknown[0]}' is no slice. "
                f"Allowed: {', '.join(recipe.data.slices) or 'none'}; name more in data.slices."
            )


def store_gate(run: Run, decided: Mapping[str, Any] | None) -> None:
    """Write what the gate decided, or take an old decision away where the recipe has no gate."""
    if decided is None:
        (run.path / GATE).unlink(missing_ok=True)
    else:
        write_json(run.path / GATE, gate_record(decided))


def gate_record(decided: Mapping[str, Any]) -> dict[str, Any]:
    """Return what gate.json holds."""
    return {"passed": decided["decision"] == "pass", **decided}


def stored_gate(run: Run) -> dict[str, Any] | None:
    """What the gate decided; None where the run was not judged by one. Raises RunError where the file is damaged."""
    file = run.path / GATE
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        damage = "" if _is_decision(found) else "it holds no decision"
    except ValueError as error:
        damage = str(error)
    if damage:
        raise RunError(f"{file}: damaged ({damage}). Write it again with: whet evaluate {quoted(run.path)}")
    decided: dict[str, Any] = found
    return decided


def _is_decision(found: Any) -> bool:
    whole = isinstance(found, dict) and all(isinstance(found.get(name), list) for name in ("rules", "rulings"))
    return whole and found.get("decision") in {"pass", "fail", "undecided"}


def objection(run: Run) -> str | None:
    """Why this run should not be used, by its gate; None where there is no gate, or it has passed it.

    A gate that was never judged, or whose rules have changed since, is an objection too; so is, of a challenger, that it was not
    found to be as good as its champion, or not compared yet.
    """
    return _by_its_gate(run) or _beside_its_champion(run)


def _by_its_gate(run: Run) -> str | None:
    file = run.path / "recipe.yaml"
    rules = [rule.model_dump(mode="json") for rule in load_recipe(file).gate] if file.is_file() else []
    decided = stored_gate(run)
    if decided is None:
        return f"{run.path}: its gate has not been judged yet. Run: whet evaluate {quoted(run.path)}" if rules else None
    if rules and decided["rules"] != rules:
        return f"{run.path}: the rules of its gate have changed since it was judged. Run: whet evaluate {quoted(run.path)}"
    if decided["decision"] == "pass":
        return None
    word = "failed" if decided["decision"] == "fail" else "could not be decided"
    return f"{run.path}: its gate {word}. " + " ".join(refusals(decided))


def _beside_its_champion(run: Run) -> str | None:
    """Why a challenger should not be used, by what `whet retrain` found."""
    if "retrain" not in run.manifest:
        return None
    found = stored_challenge(run)
    if found is None:
        return f"{run.path}: has not been compared with its champion yet. Run: whet retrain --resume {quoted(run.path)}"
    if found["gate"]["decision"] == "pass":
        return None
    word = "is worse than its champion" if found["gate"]["decision"] == "fail" else "may be worse than its champion"
    return f"{run.path}: {word}. " + " ".join(refusals(found["gate"]))


def stored_challenge(run: Run) -> dict[str, Any] | None:
    """What `whet retrain` found of a challenger; None where it has not come so far. Raises RunError where the file is damaged."""
    file = run.path / CHALLENGE
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        gate = found.get("gate") if isinstance(found, dict) else None
        whole = isinstance(gate, dict) and gate.get("decision") in {"pass", "fail", "undecided"} and "rulings" in gate
        damage = "" if whole else "it holds no decision"
    except ValueError as error:
        damage = str(error)
    if damage:
        raise RunError(
            f"{file}: damaged ({damage}). Delete it, and write it again with: whet retrain --resume {quoted(run.path)}"
        )
    decided: dict[str, Any] = found
    return decided


def respect_gate(run: Run, verb: str, ignore: bool) -> None:
    """Raise Refused where the gate objects. Where that is to be ignored, the verb and the objection go into the manifest instead."""
    why = objection(run)
    if why is None:
        return
    if not ignore:
        raise Refused(f"{why} Train a better model, or go on all the same with --ignore-gate, which is recorded.")
    record = {"verb": verb, "objection": why}
    before = run.manifest.get("gate_ignored", [])
    if record not in before:
        run.note(gate_ignored=[*before, record])
