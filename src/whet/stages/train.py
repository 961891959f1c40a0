"""`whet train`: a recipe becomes a run with a trained model; or a run that was stopped goes on to the same end."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import whet
from whet.data.dataset import Dataset
from whet.display import quoted
from whet.engine.fit import TrainPlan, calibrate
from whet.engine.machine import describe, peak_accelerator_memory, peak_memory
from whet.engine.parallel import from_first, leads, size, wait
from whet.engine.projections import lasting_products
from whet.engine.shards import gather
from whet.errors import Interrupted, RunError
from whet.files import whole_folder, write_whole
from whet.models.memory import GIB
from whet.models.named import check_unchanged, is_run, named_hash
from whet.models.save import check_base, read_card, save_policy
from whet.plugins import named_places
from whet.recipe import Recipe
from whet.recipe_file import dump_recipe, load_recipe
from whet.recipe_parts import Choice
from whet.run import Run, free_path, new_run, open_run
from whet.stages.attending import attention_of, why_blocks_are_slower, why_slower
from whet.stages.build import (
    build_technique,
    check_plugins,
    plugin_files,
    plugin_folder,
    recipe_beside,
    watched_metric,
    with_places,
)
from whet.stages.consolidate import anchored, measured_fisher
from whet.stages.estimate import Pace, estimate_job
from whet.stages.fitting import choose, decided, make_fit, room_here
from whet.stages.job import Job, build_job, loading, on_all_rows, refuse
from whet.stages.keeping import decided_keeping
from whet.stages.lineage import as_stored, find_parents
from whet.stages.merging import check_merge, merge_stages
from whet.stages.mirror import mirrored
from whet.stages.narrate import SILENT, Narrator
from whet.stages.phase import Outcome, resumable, run_phase
from whet.stages.prepare import prepare_data, slug, stored_dataset
from whet.stages.score import scoring
from whet.stages.settle import as_settled
from whet.stages.together import announce, in_turn, led

WHOLE = Choice(name="full")
"""How weights are kept that a technique was folded into."""


def train(recipe: Recipe, *, folder: Path | None = None, out: Path | None = None, narrator: Narrator = SILENT) -> Run:
    """Prepare the data, look before training, and train. Returns the run.

    `folder` is the recipe's own, where the user's plugin files lie. Raises WhetError; a refusal leaves no run behind. Where torchrun has
    started several processes, all call this, and all get the run.
    """
    return led(lambda: _begun(recipe, folder, out, narrator), follow)


def _begun(recipe: Recipe, folder: Path | None, out: Path | None, narrator: Narrator) -> Run:
    path = free_path(out, slug(recipe))
    for name in compared(recipe):
        free_path(alone_path(path, name), "")
    check_plugins(recipe, folder)
    recipe = with_places(recipe, folder)
    return train_on(recipe, prepare_data(recipe, folder, narrator), path, folder, narrator)


def train_on(
    recipe: Recipe,
    dataset: Dataset,
    path: Path,
    folder: Path | None,
    narrator: Narrator,
    parents: Sequence[str] = (),
    noted: Mapping[str, Any] = MappingProxyType({}),
) -> Run:
    """Train on data that are prepared, into the folder `path`, which is free. `parents` are the runs that this one comes from.

    `noted` is what the manifest says besides, from its first moment on.
    """
    came_from = [parent.record() for parent in find_parents(recipe, folder)]
    narrator.say(loading(came_from[-1]["path"] if came_from else recipe.model, recipe, folder))
    begun = time.monotonic()
    job = build_job(recipe, dataset, folder)
    load_s = time.monotonic() - begun
    _tell(job, narrator)
    refuse(job.findings)
    if recipe.continual.merge != "none":
        check_merge(job, folder)
    memory = _foreseen(job, narrator)
    manifest = _manifest(job, folder)
    manifest["plan"]["memory"] = memory
    taught = [name for name in manifest["learnt_from"] if is_run(name)]
    with new_run(path, manifest | {"parents": [*came_from, *parents, *taught], **noted}) as run:
        write_run(run, job.recipe, job)
    run = Run(path)
    announce(path, folder)
    with run.lock(), resumable(run), mirrored(run, job.recipe, folder, narrator) as watched, _timed(run):
        _train(job, watched, folder, narrator, load_s)
    _train_each_alone(run, dataset, folder, narrator)
    return run


def resume(path: Path, *, recipe: Path | None = None, narrator: Narrator = SILENT) -> Run:
    """Go on with a run that was stopped or killed, to the same bytes as if it had not been. Returns the run.

    On another number of devices than before it ends in the same weights but for rounding.
    """
    return led(lambda: _gone_on(path, recipe, narrator), follow)


def follow_all() -> None:
    """Follow the process that leads, in one that torchrun has started beside it."""
    led(_nothing_to_lead, follow)


def _nothing_to_lead() -> Run:
    raise AssertionError("a process that follows does not lead")


def follow(path: Path, folder: Path | None) -> None:
    """Learn a share of a run that another process leads; it is there already, and nothing is written."""
    run = replace(open_run(path), owned=False)
    folder = plugin_folder(run, recipe_beside(run, folder))
    stored = _settled(run, as_stored(run, load_recipe(run.path / "recipe.yaml")), folder)
    begun = time.monotonic()
    job = build_job(stored, stored_dataset(run), folder, num_steps=run.manifest["plan"]["num_steps"])
    _train(job, run, folder, SILENT, time.monotonic() - begun)


def _gone_on(path: Path, recipe: Path | None, narrator: Narrator) -> Run:
    run = open_run(path)
    with run.lock(), resumable(run):
        run.sweep()
        manifest = run.manifest
        if manifest["kind"] != "train":
            raise RunError(f"{path}: a run of kind '{manifest['kind']}' cannot be resumed; only one of training can.")
        stored = load_recipe(run.path / "recipe.yaml")
        if _is_trained(run, narrator):
            narrator.say(f"{path} is already trained.")
        else:
            stored = as_stored(run, stored)
            folder = plugin_folder(run, recipe)
            stored = _settled(run, stored, folder)
            check_unchanged(manifest.get("learnt_from", {}))
            begun = time.monotonic()
            job = build_job(stored, stored_dataset(run), folder, num_steps=manifest["plan"]["num_steps"])
            load_s = time.monotonic() - begun
            check_base(job.policy, manifest["base"]["sha256"])
            announce(run.path, folder)
            with mirrored(run, stored, folder, narrator) as watched, _timed(run):
                _train(job, watched, folder, narrator, load_s)
    if compared(stored):
        _train_each_alone(run, stored_dataset(run), plugin_folder(run, recipe), narrator)
    return run


def _settled(run: Run, stored: Recipe, folder: Path | None) -> Recipe:
    return as_settled(stored, run.manifest.get("decisions", []), folder)


def alone_path(path: Path, task: str) -> Path:
    """Return the folder of the run of one of several tasks that is trained alone, beside the run of all of them."""
    return path.with_name(f"{path.name}-{task}-alone")


def compared(recipe: Recipe) -> tuple[str, ...]:
    """Return the tasks that are trained alone too, to tell whether sharing helped."""
    return tuple(recipe.tasks or ()) if recipe.mixture is not None and recipe.mixture.compare else ()


def _train_each_alone(run: Run, dataset: Dataset, folder: Path | None, narrator: Narrator) -> None:
    """Train each task as a run of its own, with the settings and rows of the run of all; goes on where that was begun."""
    recipe = load_recipe(run.path / "recipe.yaml")
    for name in compared(recipe):
        place, parents = alone_path(run.path, name), [str(run.path)]
        try:
            if not place.exists():
                narrator.say(f"Training {name} alone, to compare with ...")
                rows = dataset.of_task(name)
                alone = _alone(_settled(run, recipe, folder), name, run, len(rows.train) / len(dataset.train))
                train_on(alone, rows, place, folder, narrator, parents)
                continue
            child = open_run(place)
            if child.manifest.get("parents") != parents:
                raise RunError(f"{place}: is there, and does not belong to {run.path}. Move it elsewhere, and go on.")
            if not child.model.exists():
                _gone_on(place, recipe_beside(child, folder), narrator)
        except Interrupted:
            raise Interrupted(
                f"Stopped while training {name} alone; everything is saved. Go on with: whet train --resume {quoted(run.path)}"
            ) from None


def _alone(recipe: Recipe, name: str, run: Run, share: float) -> Recipe:
    """Return the recipe of one task alone: what was decided for all stays as it is, but what counts steps follows the task's rows."""
    single = recipe.of_task(name)
    train, decided = single.train, {decision["key"] for decision in run.manifest["decisions"]}
    changes: dict[str, Any] = {}
    if "train.validate_every" in decided:
        changes["validate_every"] = "auto"
    if "train.checkpoint.every" in decided:
        changes["checkpoint"] = train.checkpoint.model_copy(update={"every": "auto"})
    if train.max_steps is not None:
        changes["max_steps"] = max(1, round(train.max_steps * share))
    return single.model_copy(update={"train": train.model_copy(update=changes), "name": None})


def write_run(run: Run, recipe: Recipe, job: Job) -> None:
    """Fill a new run with what is known before training."""
    comments = {decision.key: f"auto: {decision.reason}" for decision in job.decisions}
    write_whole(run.path / "recipe.yaml", dump_recipe(recipe, comments))
    job.dataset.write(run.path)
    run.checkpoints.mkdir()


@lasting_products()
def _train(job: Job, run: Run, folder: Path | None, narrator: Narrator, load_s: float) -> None:
    begun = time.monotonic()
    run = _paced(job, run, load_s)
    make_fit(job, narrator)
    phases: dict[str, Any] = from_first(run.manifest.get("phases", {}))
    refit = job.recipe.train.refit is True and bool(job.validation_units)
    fisher = in_turn(lambda: measured_fisher(job, folder, narrator, run)) if job.recipe.continual.ewc else None
    if fisher is not None:
        job.anchor = anchored(job, fisher)
    if not refit or "fit" not in phases:  # a finished phase only brings its best weights back
        watched = watched_metric(job.recipe)
        rows, limit = job.dataset.validation, job.plan.max_length
        watch = scoring(watched, job.recipe, job.objective, rows, limit, folder) if watched else None
        phases["fit"] = asdict(run_phase("fit", job, run, narrator, scoring=watch))
        run.note(phases=phases)
        if job.stream is not None:
            narrator.say(job.stream.sentence())
            run.note(streamed=dict(job.stream.counts))
    if refit:
        fitted = Outcome(**phases["fit"])
        num_train, num_validation = len(job.dataset.train), len(job.dataset.validation)
        narrator.say(
            f"Training again from the {'parent' if job.recipe.parents else 'untuned'} model on all {num_train + num_validation:,} training and validation rows, for as many "
            f"epochs as were best: {num_validation:,} rows that were only stopped by are learnt from too (train.refit)."
        )
        job = on_all_rows(job, folder, epochs=fitted.best_step / job.steps_per_epoch)
        job.policy.temperature = fitted.temperature
        job.policy.take_temperatures(fitted.temperatures)
        job.anchor = anchored(job, fisher) if fisher is not None else None
        phases["refit"] = asdict(run_phase("refit", job, run, narrator, fitted.log_bytes))
    seconds = from_first(run.manifest["actual"]["train_s"]) + time.monotonic() - begun
    tokens = sum(record.get("tokens", 0) for record in run.records())
    learning = sum(tensor.numel() for _, tensor in job.policy.trainable())
    gather(job.policy)
    if leads():
        with whole_folder(run.model) as model:  # appears last: a run that has it is trained
            _save(job, folder, model)
            run.note(phases=phases, trainable_parameters=learning, actual=_actual(seconds, tokens, job))
    wait()


@contextmanager
def _timed(run: Run) -> Iterator[None]:
    """Within this, a run that is stopped notes how long it has trained, so that what it took in the end counts that too."""
    begun = time.monotonic()
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        if leads():
            so_far = run.manifest["actual"]
            run.note(actual=so_far | {"train_s": round(so_far["train_s"] + time.monotonic() - begun, 2)})
        raise


def _foreseen(job: Job, narrator: Narrator) -> dict[str, Any]:
    """Return the memory that the formula foresees, say where it is more than there is, and note how the job is made to fit."""
    free = room_here(job)
    chosen = choose(job, free)
    job.decisions += decided(job, chosen, free)
    fitted = replace(job, way=chosen.way, recomputed=chosen.recomputed)
    job.decisions += decided_keeping(fitted)
    needed = estimate_job(fitted)
    if needed.total > free:
        told = f"Note: this is estimated to take {needed.total / GIB:,.1f} GiB, and {free / GIB:,.1f} GiB are free."
        narrator.say(f"{told} What would fit: whet plan RECIPE")
    return needed.record() | {"gradient_checkpointing": chosen.recomputed}


def _paced(job: Job, run: Run, load_s: float) -> Run:
    """Return the run as one that foresees its time after its first steps, once, and notes it."""
    pace = Pace(job, load_s)

    def see(record: Mapping[str, Any]) -> None:
        run.tell(record)
        known = pace.seconds
        pace.see(record)
        if known is None and pace.seconds is not None and "seconds" not in (plan := run.manifest["plan"]):
            run.note(plan=plan | {"seconds": pace.seconds.record()})

    return replace(run, mirror=see)


def _actual(seconds: float, tokens: int, job: Job) -> dict[str, Any]:
    """Return what training took: seconds, tokens, and the most memory that this process has held; of several devices also their number."""
    found: dict[str, Any] = {"train_s": round(seconds, 2), "tokens": tokens, "peak_memory_bytes": peak_memory()}
    found |= {"devices": size(), "parallel": job.way} if size() > 1 else {}
    found |= {"gradient_checkpointing": True} if job.recomputed else {}
    on_accelerator = peak_accelerator_memory()
    return found if on_accelerator is None else found | {"peak_accelerator_bytes": on_accelerator}


def _save(job: Job, folder: Path | None, model: Path) -> None:
    """Write the model. One that went on from parents has its technique folded in, so that it needs neither them nor their adapters."""
    technique, card = job.technique, job.card()
    if job.recipe.continual.merge != "none":
        merge_stages(job, folder, model)
        calibrate(job.policy, job.objective, job.train_units, job.validation_units, job.plan)
    elif job.recipe.parents:
        technique.merge(job.policy)
    if job.recipe.parents:
        technique, card = build_technique(WHOLE, None), replace(card, technique=WHOLE.name, technique_settings={})
    job.policy.fold_temperature()
    save_policy(job.policy, technique, card, model)


def _is_trained(run: Run, narrator: Narrator) -> bool:
    """Whether the model is there. One whose card cannot be read is made again from the last checkpoint."""
    if not run.model.exists():
        return False
    try:
        read_card(run.model)
    except RunError as error:
        narrator.say(f"{error} It is made again from the last checkpoint.")
        return False
    return True


def _manifest(job: Job, folder: Path | None) -> dict[str, Any]:
    difference = job.policy.ability.difference
    return {
        "kind": "train",
        "whet": whet.__version__,
        "parents": [],
        "data_sha256": job.dataset.hash,
        "base": {
            "name": job.policy.source.name,
            "sha256": job.policy.source.sha256,
            "parameters": job.policy.num_parameters,
            "kind": job.policy.kind,
        },
        "learnt_from": {name: named_hash(name) for name in named_places(job.objective)},
        "plugins": plugin_files(job.recipe, folder),
        "plan": _plan(job),
        "packs": job.policy.ability.packs,
        "unfused": job.policy.ability.unfused or None,
        "packing_difference": difference if math.isfinite(difference) else None,
        "decisions": [asdict(decision) for decision in job.decisions],
        "preflight": [asdict(finding) for finding in job.findings],
        "machine": describe() | ({} if (attention := attention_of(job)) is None else {"attention": attention}),
        "phases": {},
        "actual": {"train_s": 0.0},
    }


def _plan(job: Job) -> dict[str, Any]:
    """Return the whole plan, its plugins by name with every setting they run with."""
    train = job.recipe.train
    named = {name: getattr(job.plan, name) for name in TrainPlan.__dataclass_fields__}
    return named | {
        "schedule": _named(train.schedule, job.plan.schedule),
        "optimiser": _named(train.optimiser, job.plan.optimiser),
    }


def _named(choice: Choice, made: Any) -> dict[str, Any]:
    return {"name": choice.name, **asdict(made)}


def _tell(job: Job, narrator: Narrator) -> None:
    for finding in job.findings:
        if finding.level == "warn":
            narrator.say(f"Note: {finding.sentence} {finding.remedy}")
    if not job.policy.ability.packs and job.policy.kind != "encoder-decoder":
        narrator.say("This architecture does not keep packed rows apart, so rows are padded: slower, same result.")
    elif (reason := why_slower(job)) is not None:
        narrator.say(f"Attention runs through torch's kernels, since {reason}: slower.")
    if (reason := why_blocks_are_slower(job)) is not None:
        narrator.say(f"Blocks are computed by transformers' modules, since {reason}: slower.")
