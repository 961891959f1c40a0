"""One trial of a search: trained in memory from the same weights and rows as every other, so that none depends on those before it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from whet.data.dataset import Dataset
from whet.engine.fit import Training, fit, validation
from whet.errors import DataError, TrainingError
from whet.models.policy import Policy
from whet.recipe import Recipe
from whet.stages.consolidate import anchored, measured_fisher
from whet.stages.job import Job, Kept, build_job, refuse
from whet.stages.narrate import SILENT
from whet.stages.phase import Flag, Stopper, learnt_at
from whet.stages.score import scoring
from whet.types import Cursor, Unit


class Shared(Kept):
    """Base models and tokenised rows, read once; every job gets a copy of the model, and the one that was read never learns."""

    def __init__(self) -> None:
        self.models: dict[Hashable, Policy] = {}
        self.rows: dict[Hashable, list[Unit]] = {}
        self.important: dict[str, dict[str, Tensor]] = {}

    def base(self, key: Hashable, make: Callable[[], Policy]) -> Policy:
        if key not in self.models:
            self.models = {key: make()}  # one at a time: a search over models must not hold them all
        return copy.deepcopy(self.models[key])

    def units(self, key: Hashable, make: Callable[[], list[Unit]]) -> list[Unit]:
        if key not in self.rows:
            self.rows[key] = make()
        return self.rows[key]

    def fisher(self, key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        if key not in self.important:
            self.important = {key: make()}
        return self.important[key]


class Stopped(Exception):
    """A signal asked to stop."""


class Pruned(Exception):
    """The pruner gave the trial up."""


@dataclass(slots=True)
class Trial:
    """A trial that is done."""

    value: float
    """The score of the step whose weights training would keep."""
    best_step: int
    steps: int
    recipe: Recipe
    """With every `auto` decided."""
    scores: list[float] = field(default_factory=list)
    """Of each validation, in order."""


def run_trial(
    recipe: Recipe,
    dataset: Dataset,
    metric: str,
    kept: Kept,
    folder: Path | None,
    flag: Flag,
    report: Callable[[int, float], bool],
) -> Trial:
    """Train by a recipe as `whet train` would, and return the best validation score.

    `report` takes each validation's number from 1, and its score, and says whether to give up. Raises Pruned, Stopped, and
    WhetError where it cannot be trained.
    """
    early = recipe.train.early_stopping
    if early and metric != "loss":
        train = recipe.train.model_copy(update={"early_stopping": early.model_copy(update={"metric": metric})})
        recipe = recipe.model_copy(update={"train": train})
    job = build_job(recipe, dataset, folder, kept=kept)
    refuse(job.findings)
    if not job.validation_units:
        raise DataError("a search compares by validation rows, and there are none. Give data.split.validation a share.")
    watch = (
        None if metric == "loss" else scoring(metric, job.recipe, job.objective, dataset.validation, job.plan.max_length, folder)
    )
    sign = watch.sign if watch else -1
    by_metric = bool(watch and early)  # without early stopping, training keeps the step of the least loss
    learnt = learnt_at(job.objective)
    stopper = Stopper(early.patience, early.min_improvement, sign if by_metric else -1, learnt) if early else Stopper(0, sign=-1)
    if job.recipe.continual.ewc:
        key = f"{job.recipe.technique} {job.recipe.objective} {job.plan.max_length}"
        job.anchor = anchored(job, kept.fisher(key, lambda: measured_fisher(job, folder, SILENT)))
    training = Training.begin(job.policy, job.objective, job.plan)
    at_step: dict[int, float] = {}
    steps = job.steps(training.cursor, training.objective_state)
    assert training.cursor == Cursor()
    for step in fit(job.policy, job.objective, steps, job.plan, training, job.anchor):
        if flag.raised:
            raise Stopped
        last = step.number == job.plan.num_steps
        if not last and step.number % int(job.recipe.train.validate_every):
            continue
        judged = (job.train_units, job.validation_units, job.plan, training.objective_state)
        loss = sum(validation(job.policy, job.objective, *judged).values())
        score = watch(job.policy) if watch else loss
        at_step[step.number] = score
        stopper.see(loss, step.number, score if by_metric else None)
        gives_up = math.isfinite(score) and report(len(at_step), score)
        if stopper.done or last:
            break
        if gives_up:
            raise Pruned
    return _ended(job, stopper, at_step, training.step, metric)


def _ended(job: Job, stopper: Stopper, at_step: dict[int, float], steps: int, metric: str) -> Trial:
    value = at_step.get(stopper.best_step, math.nan)
    if not math.isfinite(value):
        raise TrainingError(f"the validation {metric} was never a finite number")
    return Trial(value, stopper.best_step, steps, job.recipe, list(at_step.values()))
