"""A trained run, loaded: what every verb that answers, judges or changes a model begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from whet.display import quoted
from whet.engine.machine import Precision, computing
from whet.errors import RecipeError, RunError
from whet.models.policy import Policy
from whet.models.save import Card, load_tuned, read_card
from whet.protocols import Objective
from whet.recipe import Evaluate, Recipe
from whet.recipe_file import load_recipe
from whet.recipe_parts import Choice
from whet.run import Run, open_run
from whet.stages.build import asked_metrics, build_objective, build_technique, check_few_shot, measured_by, plugin_folder
from whet.stages.gate import check_gate
from whet.types import Example, Output

WITH_MODEL = {"train", "compress", "deploy"}
"""Kinds of run that end in a model."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """A trained run, loaded."""

    run: Run
    recipe: Recipe
    card: Card
    policy: Policy
    objective: Objective
    folder: Path | None
    """Where plugin files of the user's own lie."""
    task: str = ""
    """Which of several tasks this is; none where the run has one only, or this is all of them."""

    @property
    def precision(self) -> Precision:
        assert self.recipe.train.precision != "auto"
        return self.recipe.train.precision

    def of_task(self, name: str) -> Tuned:
        """Return one of several tasks, as if it had been trained alone. Raises RecipeError where there is no such task."""
        if name not in self.card.tasks:
            known = ", ".join(self.card.tasks) or "none: it was trained for one only"
            raise RecipeError(f"{self.run.path}: has no task '{name}'. Allowed: {known}.")
        recipe, policy = self.recipe.of_task(name), self.policy.task(name)
        card = replace(
            self.card,
            objective=recipe.objective.name,
            objective_settings=recipe.objective.settings,
            classes=policy.classes,
            tasks={},
        )
        return replace(
            self, recipe=recipe, card=card, policy=policy, objective=build_objective(recipe.objective, self.folder), task=name
        )

    def outputs(self, policy: Policy, examples: Sequence[Example]) -> list[Output]:
        """Return what a policy answers, in the precision of the run."""
        with computing(self.precision, policy.device), torch.no_grad():
            return list(self.objective.outputs(policy, examples, self.card.max_length))

    def finite_outputs(self, policy: Policy, examples: Sequence[Example]) -> list[Output]:
        """Return what a policy answers. Raises RunError where its scores are not finite: such rows cannot be judged."""
        found = self.outputs(policy, examples)
        wrong = [example for example, output in zip(examples, found, strict=True) if not output.is_finite]
        if wrong:
            first = f"{wrong[0].file}:{wrong[0].line}"
            raise RunError(
                f"{self.run.path}: the model's scores for {len(wrong):,} of {len(examples):,} rows are not finite numbers (first: "
                f"{first}), so it cannot be judged. Train again with a lower rate, or in --set train.precision=fp32."
            )
        return found


def load_run(path: Path, recipe: Path | None = None, sets: Sequence[str] = (), task: str | None = None) -> Tuned:
    """Return a trained run of one task, or one task of a run of several, with its policy. Raises RunError, RecipeError.

    `recipe` is needed where the run uses plugin files of the user's own; `sets` override how it is judged: keys of `evaluate` only.
    """
    tuned = load_whole(path, recipe, sets)
    if task is not None:
        return tuned.of_task(task)
    if tuned.card.tasks:
        raise RunError(
            f"{path}: is a run of several tasks ({', '.join(tuned.card.tasks)}), and this takes one. Where the verb has --task, name one; "
            "else train that task by itself."
        )
    return tuned


def load_whole(path: Path, recipe: Path | None = None, sets: Sequence[str] = ()) -> Tuned:
    """Return a trained run with its policy, all of its tasks together. Otherwise as `load_run`."""
    run = open_run(path)
    if run.manifest["kind"] not in WITH_MODEL:
        raise RunError(f"{path}: a run of kind '{run.manifest['kind']}' has no model. Train one with: whet train RECIPE")
    folder = plugin_folder(run, recipe, sets)
    card = read_card(run.model)
    stored = _stored_recipe(run, sets)
    technique = build_technique(Choice(name=card.technique, **card.technique_settings), folder)
    objective = build_objective(Choice(name=card.objective, **card.objective_settings), folder)
    for single in stored.singles.values():
        measured_by(build_objective(single.objective, folder), tuple(asked_metrics(single).values()), folder)
    check_gate(stored, folder)
    check_few_shot(stored, objective)
    policy = load_tuned(run.model, technique)
    if objective.head not in {"lm", "seq2seq", "masked"} and not len(policy.heads):
        raise RunError(
            f"{run.model}: its head is missing. Delete the folder, and make it again with: whet train --resume {quoted(path)}"
        )
    return Tuned(run, stored, card, policy, objective, folder)


def _stored_recipe(run: Run, sets: Sequence[str]) -> Recipe:
    for assignment in sets:
        if assignment.partition("=")[0].strip().partition(".")[0] not in {"evaluate", "gate"}:
            allowed = ", ".join([*(f"evaluate.{name}" for name in Evaluate.model_fields), "gate"])
            raise RecipeError(
                f"--set {assignment}: what was trained stays as it is; only how it is judged is set. Allowed: {allowed}."
            )
    return load_recipe(run.path / "recipe.yaml", sets)
