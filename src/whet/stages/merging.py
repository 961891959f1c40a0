"""One adapter for each stage, all learnt from the same base, and folded into it together when the last is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from whet.errors import RecipeError, RunError
from whet.models.merging import merge_updates
from whet.models.policy import Policy
from whet.models.save import load_base, read_card
from whet.recipe import Continual
from whet.recipe_file import load_recipe
from whet.recipe_parts import Choice
from whet.run import Run, open_run
from whet.stages.build import build_technique
from whet.stages.job import Job
from whet.stages.lineage import find_parents, folded, parents_now

OWN = "adapter"
"""Folder in a merged model: what its own stage learnt, beside the base."""


def merge_stages(job: Job, folder: Path | None, model: Path) -> None:
    """Keep the stage's own adapter in the model's folder, and put the base with all stages' updates into the policy, in place."""
    (model / OWN).mkdir()
    job.technique.save(job.policy, model / OWN)
    job.technique.merge(job.policy)
    base = load_base(job.card())
    start = {name: weight.detach() for name, weight in base.network.named_parameters()}
    stages = _stages([parent.run for parent in find_parents(job.recipe, folder)])
    updates: dict[str, list[Tensor]] = {name: [] for name in start}
    for run in stages:
        _add(updates, _own_policy(run, folder), start)
    _add(updates, job.policy, start)
    settings = job.recipe.continual
    assert settings.merge != "none"
    weights = stage_weights(settings, len(stages) + 1)
    with torch.no_grad():
        for name, weight in job.policy.network.named_parameters():
            found = updates.pop(name)
            if any(bool(update.any()) for update in found):
                weight.copy_(start[name] + merge_updates(found, settings.merge, weights, settings.density))


def stage_weights(settings: Continual, num_stages: int) -> tuple[float, ...]:
    """Return the weight of each stage's update, oldest first. Raises RecipeError where the recipe gives another number of them."""
    if settings.weights == "auto":
        return (1.0 if settings.merge == "ties" else 1.0 / num_stages,) * num_stages
    if len(settings.weights) != num_stages:
        raise RecipeError(
            f"continual.weights has {len(settings.weights)} numbers, and {num_stages} stages are merged: those of the parents, oldest first, "
            f"and the new one. Give {num_stages}, or auto."
        )
    return settings.weights


def check_merge(job: Job, folder: Path | None) -> None:
    """Raise RecipeError where the stages cannot be merged as the recipe says."""
    stage_weights(job.recipe.continual, len(_stages([parent.run for parent in find_parents(job.recipe, folder)])) + 1)


def _stages(parents: Sequence[Run]) -> list[Run]:
    """Return the runs whose updates are merged, oldest first; one that was merged itself stands for its own stage and those before it."""
    found: dict[Path, Run] = {}
    for run in parents:
        before = [open_run(path) for path in parents_now(run)] if _is_merged(run) else []
        for one in (*_stages(before), run):
            found.setdefault(one.path.resolve(), one)
    return list(found.values())


def _is_merged(run: Run) -> bool:
    return (run.model / OWN).is_dir()


def _own_policy(run: Run, folder: Path | None) -> Policy:
    """Return the base with what this run's own stage has learnt in it. Raises RunError where its adapter is missing or damaged."""
    card = read_card(run.model)
    if not _is_merged(run):
        return folded(run, card, folder)
    stored = load_recipe(run.path / "recipe.yaml")
    if stored.continual.merge == "none" or not isinstance(stored.technique, Choice):
        raise RunError(f"{run.model / OWN}: is there, and the run's recipe merges nothing. Restore the run from a backup.")
    technique, policy = build_technique(stored.technique, folder), load_base(card)
    technique.load(policy, run.model / OWN)
    technique.merge(policy)
    return policy


def _add(updates: dict[str, list[Tensor]], policy: Policy, start: dict[str, Tensor]) -> None:
    for name, weight in policy.network.named_parameters():
        updates[name].append(weight.detach() - start[name].to(weight.device))
