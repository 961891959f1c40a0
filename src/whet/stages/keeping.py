"""Whether what frozen blocks make of each row is kept while a job trains, and where. Nothing of it changes a result."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from whet.engine.machine import computing, free_memory
from whet.engine.parallel import on_this_machine
from whet.engine.state_store import StateStore
from whet.errors import RecipeError
from whet.files import cache_folder
from whet.models.frozen import Bottom, Frozen, frozen_bottom, obstacle, why_not_kept
from whet.report.plan import size
from whet.stages.decide import Decision
from whet.stages.job import Job
from whet.stages.narrate import Narrator
from whet.types import Row

POOLED = {"classify", "value"}
"""Heads that read one vector of a row."""
DISK_SHARE = 4
"""At most one part in so many of the free disk is taken."""


def decided_keeping(job: Job) -> list[Decision]:
    """Return what came of `train.keep_states: auto`, and why. Raises RecipeError where it is `true` and nothing can be kept."""
    asked = job.recipe.train.keep_states
    if asked is False:
        return []
    bottom, why = _keepable(job)
    if asked is True:
        if bottom is None:
            raise RecipeError(f"train.keep_states is true, and {why}. Set it to auto.")
        return []
    if bottom is not None:
        why = f"{_frozen(bottom)}: {size(needed_bytes(job, bottom))} for {len(_rows(job)):,} rows"
    return [Decision("train.keep_states", bottom is not None, why)]


def kept_bytes(job: Job, total: int) -> int:
    """Return the memory that kept states take, where all else takes `total`: half of what is left, at most."""
    if job.recipe.train.keep_states is False or _obstacle(job):
        return 0
    bottom = frozen_bottom(job.policy)
    return min(needed_bytes(job, bottom), _room(total)) if bottom.blocks else 0


@contextmanager
def keeping(job: Job, total: int, narrator: Narrator) -> Iterator[None]:
    """Within this, what the frozen blocks of the job's policy make of each row is kept, where it can be; `total` is what all else takes."""
    bottom, why = (None, "") if job.recipe.train.keep_states is False else _keepable(job)
    if bottom is None:
        if job.recipe.train.keep_states is True:
            narrator.say(f"States of frozen blocks are not kept, since {why}.")
        yield
        return
    if job.store is None:
        job.store = _store(total)
    narrator.say(f"Computed once for each row and kept, since {_frozen(bottom)}: what these make of it (train.keep_states).")
    with computing(job.plan.precision, job.policy.device):
        frozen = Frozen(job.policy, bottom, job.store, _rows(job))
    job.policy.frozen = frozen
    try:
        yield
    finally:
        job.policy.frozen = None
    if frozen.asked:
        narrator.say(_ending(frozen, job.store))


def _store(total: int) -> StateStore:
    """Return an empty store; one in memory alone where there is no folder for a file."""
    try:
        folder = cache_folder("states")
        return StateStore(_room(total), shutil.disk_usage(folder).free // DISK_SHARE, folder)
    except (OSError, RuntimeError):  # no home, or one that cannot be written to
        return StateStore(_room(total))


def needed_bytes(job: Job, bottom: Bottom) -> int:
    """Return what the states of all rows take, in memory or on the disk."""
    rows, width = _rows(job), job.policy.width
    if bottom.whole and job.objective.head in POOLED:
        return 4 * width * len(rows)
    return 4 * width * sum(row.num_tokens for row in rows)


def _keepable(job: Job) -> tuple[Bottom | None, str]:
    """Return the part of the policy whose states are kept; else None and the reason, as the end of a sentence."""
    if why := _obstacle(job):
        return None, why
    bottom = frozen_bottom(job.policy)
    if not bottom.blocks:
        return None, "what learns begins in the lowest block or below"
    if job.recipe.train.keep_states == "auto" and job.plan.num_steps <= job.steps_per_epoch:
        return None, "no row is met twice"
    with computing(job.plan.precision, job.policy.device):
        why = why_not_kept(job.policy, bottom, _rows(job))
    return (None, why) if why else (bottom, "")


def _obstacle(job: Job) -> str:
    if job.objective.online:
        return "rows are written while it learns"
    if job.objective.head == "masked":
        return "other tokens of a row are hidden in each epoch"
    if job.stream is not None:
        return "rows are streamed"
    if job.way == "fsdp":
        return "the model lies in shares"
    if job.recomputed:
        return "blocks are computed again to save memory"
    return obstacle(job.policy)


def _rows(job: Job) -> list[Row]:
    return [row for unit in (*job.train_units, *job.validation_units) for row in unit]


def _room(total: int) -> int:
    return max(0, free_memory() // on_this_machine() - total) // 2


def _frozen(bottom: Bottom) -> str:
    number = len(bottom.blocks)
    return f"all {number} blocks are frozen" if bottom.whole else f"the lower {number} of {bottom.num_blocks} blocks are frozen"


def _ending(frozen: Frozen, store: StateStore) -> str:
    """Return what was computed of what was asked for, and where it lay."""
    held = f"{size(store.in_memory)} in memory"
    held += f" and {size(store.on_disk)} on the disk" if store.on_disk else ""
    failed = f"; the disk took no more ({store.failed})" if store.failed else ""
    return f"Frozen blocks computed {frozen.computed:,} of the {frozen.asked:,} rows that were asked for; {held}{failed}."
