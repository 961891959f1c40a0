"""Elastic weight consolidation in a run: how much each weight mattered to the parents is measured once, and kept with the checkpoints."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from torch import Tensor

from whet.data.alike import Families
from whet.data.replay import old_rows, stratified
from whet.engine import checkpoint
from whet.engine.consolidate import Anchor, all_weights, fisher_diagonal, held_weights, hold
from whet.errors import RunError
from whet.run import Run
from whet.stages.job import Job, learnable
from whet.stages.lineage import start_policy
from whet.stages.narrate import Narrator
from whet.stages.prepare import past_of


def measured_fisher(job: Job, folder: Path | None, narrator: Narrator, run: Run | None = None) -> dict[str, Tensor]:
    """Return the Fisher information of the last parent's weights, over rows that the parents have learnt from; of a run it is read back.

    Its head is the parent's, with the classes of then. Raises RecipeError for a technique that does not learn weights, RunError where
    no row is left.
    """
    place = None if run is None else run.checkpoints / "fisher"
    found = None if place is None else checkpoint.load(place, 0)
    if found is not None:
        return found.tensors
    settings, dataset = job.recipe.continual, job.dataset
    start = start_policy(job.recipe, folder)
    start.max_tokens = job.policy.max_tokens
    names = held_weights(job.policy, all_weights(start))
    pasts, held = past_of(job.recipe, folder), (*dataset.validation, *dataset.test)
    before = chain(*(chain(*past.dataset.parts.values()) for past in pasts))
    pool, _ = old_rows(pasts, held, Families(chain(held, before), dataset.columns.duplicates))
    rows = stratified(pool, settings.ewc_rows, settings.seed)
    units = learnable(job.objective.units(rows, start, job.plan.max_length))
    if not units:
        raise RunError(
            "continual.ewc: the parents have no row left that may be learnt from again, so what matters to them is not known."
        )
    narrator.say(f"Measuring on {len(units):,} rows of the parents which weights matter to them ...")
    fisher = fisher_diagonal(start, job.objective, units, names)
    if place is not None:
        place.mkdir(parents=True, exist_ok=True)
        checkpoint.save(place, 0, fisher, {"rows": len(units)})
    return fisher


def anchored(job: Job, fisher: dict[str, Tensor]) -> Anchor:
    """Return what holds a fresh job's policy to where it begins."""
    return hold(job.policy, job.recipe.continual.ewc, fisher)
