"""The verbs as functions, for notebooks and programs. The command line calls the same stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from whet.recipe import Recipe
from whet.recipe_file import load_recipe
from whet.registry import CHALLENGER, CHAMPION, FOLDER
from whet.report.monitor import Settings as MonitorSettings
from whet.run import RUNS, Run
from whet.stages import registry as _registry
from whet.stages.annotate import Options as AnnotateOptions
from whet.stages.annotate import annotate as _annotate
from whet.stages.annotate_exchange import agreement as _agreement
from whet.stages.annotate_exchange import export as _export_annotations
from whet.stages.annotate_exchange import import_from as _import_annotations
from whet.stages.auto import auto as _auto
from whet.stages.compress import compress as _compress
from whet.stages.deploy import deploy as _deploy
from whet.stages.evaluate import evaluate as _evaluate
from whet.stages.export import export as _export
from whet.stages.monitor import Alerts
from whet.stages.monitor import monitor as _monitor
from whet.stages.new import new as _new
from whet.stages.plan import plan as _plan
from whet.stages.predict import Prediction as Prediction
from whet.stages.predict import Predictor
from whet.stages.predict import load as _load
from whet.stages.prepare import prepare_run
from whet.stages.profile import profile_run
from whet.stages.retrain import Promote, Start
from whet.stages.retrain import result_of as _challenge
from whet.stages.retrain import resume as _resume_retrain
from whet.stages.retrain import retrain as _retrain
from whet.stages.search import resume as _resume_search
from whet.stages.search import search as _search
from whet.stages.serve import Options as ServeOptions
from whet.stages.serve import serve as _serve
from whet.stages.train import resume as _resume
from whet.stages.train import train as _train

Place = str | Path


def new(files: Place | Sequence[Place], out: Place = "recipe.yaml", model: str | None = None) -> Path:
    """Look at a file or files, an address or a database, and write the recipe that fits, for `model` or a built-in one. Returns the recipe's path.

    Raises DataError where nothing fits, RecipeError where `out` exists.
    """
    return _new([files] if isinstance(files, str | Path) else list(files), out=Path(out), model=model)[0]


def prepare(
    recipe: Recipe | Place, *, sets: Sequence[str] = (), out: Place | None = None, fresh: bool = False, profile: bool = False
) -> Run:
    """Collect, read, clean, deduplicate and split the data of a recipe into a run. Raises DataError, RecipeError, Refused.

    `fresh`: what its sources have given before is collected anew. `profile`: the run gets profile.html and profile.json too.
    """
    loaded, folder = _recipe(recipe, sets)
    run = prepare_run(loaded, folder=folder, out=_optional(out), fresh=fresh)
    if profile:
        profile_run(run, loaded, Path("RECIPE") if isinstance(recipe, Recipe) else Path(recipe))
    return run


def annotate(target: Place, *, options: AnnotateOptions = AnnotateOptions()) -> None:
    """Be the page on which people label the rows of a recipe or a data file, until the process is stopped.

    `options` are those of `whet annotate`. Raises DataError, RecipeError, ServerError before it listens.
    """
    _annotate(Path(target), options=options)


def export_annotations(
    target: Place, out: Place, *, form: str | None = None, store: Place | None = None, only_annotated: bool = False
) -> dict[str, Any]:
    """Write what was annotated: `form` is jsonl, csv, label-studio or argilla. Returns what was written and left out.

    Raises DataError.
    """
    return _export_annotations(Path(target), Path(out), form=form, store=_optional(store), only_annotated=only_annotated)


def import_annotations(
    target: Place,
    file: Place,
    *,
    form: str | None = None,
    store: Place | None = None,
    annotator: str = "imported",
    replace: bool = False,
) -> dict[str, Any]:
    """Bring in answers that were given elsewhere. Returns how many were new, known, kept, replaced or wrong. Raises DataError."""
    return _import_annotations(
        Path(target), Path(file), form=form, store=_optional(store), annotator=annotator, replace=replace
    )  # fmt: skip


def agreement(target: Place, *, store: Place | None = None) -> dict[str, Any]:
    """Return how far annotators agree: Cohen's kappa of each pair, Fleiss' kappa, Krippendorff's alpha. Raises DataError."""
    return _agreement(Path(target), store=_optional(store))


def plan(
    recipe: Recipe | Place,
    *,
    sets: Sequence[str] = (),
    device_memory: str | None = None,
    probe: bool = True,
    price_per_hour: float | None = None,
) -> dict[str, Any]:
    """What training by a recipe takes, before anything is trained: `fits`, `sentence`, `memory`, `seconds`, `disk`, `techniques`, `models`, `advice`.

    `device_memory` is another machine's accelerator, such as "16GiB" or "A100". That it does not fit is an answer, no error. Raises
    RecipeError, DataError, ModelError, Refused.
    """
    loaded, folder = _recipe(recipe, sets)
    return _plan(loaded, folder=folder, device_memory=device_memory, probe=probe, price_per_hour=price_per_hour)


def train(
    recipe: Recipe | Place | None = None, *, sets: Sequence[str] = (), out: Place | None = None, resume: Place | None = None
) -> Run:
    """Train by a recipe (a file or a Recipe), or go on with a run that was stopped. Returns the run.

    `sets` are overrides such as "train.epochs=3". Raises WhetError: RecipeError, DataError, ModelError, Refused, TrainingError,
    Interrupted.
    """
    if resume is not None:
        return _resume(Path(resume), recipe=None if recipe is None or isinstance(recipe, Recipe) else Path(recipe))
    if recipe is None:
        raise TypeError("train() needs a recipe, or resume=RUN")
    loaded, folder = _recipe(recipe, sets)
    return _train(loaded, folder=folder, out=_optional(out))


def evaluate(
    run: Run | Place,
    *,
    test: Place | Sequence[Place] = (),
    sets: Sequence[str] = (),
    recipe: Place | None = None,
    keep_learnt: bool = False,
    task: str | None = None,
) -> Run:
    """Judge a trained run on its test rows, or on other files. Returns the run; its `report` holds the scores and the verdict.

    The report on other files lies in evaluations/NAME, beside the run's own; rows of theirs that were learnt from are left out,
    unless `keep_learnt`. `sets` are overrides of the recipe's `evaluate`, such as "evaluate.metric=macro_f1". `recipe` is needed only where the run uses
    plugin files of your own, which lie beside it; `task` where the run has several: the one that the files are for.
    """
    path = run.path if isinstance(run, Run) else Path(run)
    return _evaluate(path, test=_paths(test), sets=sets, recipe=_optional(recipe), keep_learnt=keep_learnt, task=task)


def compress(
    run: Run | Place,
    method: str,
    *,
    sets: Sequence[str] = (),
    out: Place | None = None,
    recipe: Place | None = None,
    ignore_gate: bool = False,
) -> Run:
    """Make a trained run smaller: int8, int4, dynamic_int8, magnitude or wanda. Returns a run of its own, which answers as any other.

    `compression.json` in it says what was gained and lost. `sets` are the method's settings, such as "sparsity=0.4".
    """
    place = run.path if isinstance(run, Run) else Path(run)
    return _compress(place, method, sets=sets, out=_optional(out), recipe=_optional(recipe), ignore_gate=ignore_gate)


def export(
    run: Run | Place,
    form: str,
    *,
    sets: Sequence[str] = (),
    out: Place | None = None,
    recipe: Place | None = None,
    ignore_gate: bool = False,
    task: str | None = None,
) -> Run:
    """Write a trained run as adapter, merged, gguf or onnx, checked on its own test rows. Returns the folder; its manifest holds the check.

    `sets` are the format's settings, such as "type=q8_0"; `task` is the one of several to write. Raises Refused where the artefact answers differently than the run.
    """
    place = run.path if isinstance(run, Run) else Path(run)
    return _export(place, form, sets=sets, out=_optional(out), recipe=_optional(recipe), ignore_gate=ignore_gate, task=task)


def deploy(
    run: Run | Place,
    target: str,
    *,
    sets: Sequence[str] = (),
    out: Place | None = None,
    recipe: Place | None = None,
    ignore_gate: bool = False,
) -> Path:
    """Bundle a trained run for docker, kubernetes, systemd, sagemaker, vertex or azureml. Returns the folder; its README.md says what to type.

    `sets` are the target's settings, such as "memory_mib=4096". Raises RecipeError, RunError, ServerError where the run has nothing to
    answer with, and Refused where its gate has refused it.
    """
    place = run.path if isinstance(run, Run) else run
    return _deploy(place, target, sets=sets, out=_optional(out), recipe=_optional(recipe), ignore_gate=ignore_gate)


def load(run: Run | Place, *, recipe: Place | None = None, task: str | None = None) -> Predictor:
    """Return a trained run that answers: `load(run).predict(["some text"])`; of several tasks the one named. Raises RunError."""
    return _load(run.path if isinstance(run, Run) else Path(run), _optional(recipe), task)


def auto(
    files: Place | Sequence[Place],
    *,
    test: Place | Sequence[Place] = (),
    out: Place | None = None,
    model: str | None = None,
    sets: Sequence[str] = (),
) -> Run:
    """From files to a judged model: look, choose everything, train, evaluate. Returns the run."""
    return _auto(_paths(files), test=_paths(test), out=_optional(out), model=model, sets=sets)


def search(
    recipe: Recipe | Place | None = None, *, sets: Sequence[str] = (), out: Place | None = None, resume: Place | None = None
) -> Run:
    """Look for better settings as the recipe's `search` says, or go on with a search. Returns the run of the search.

    `search.json` in it holds every trial and whether the recipe's own setting was beaten; `best.yaml` is the best recipe; the run
    beside it, NAME-best, is that one trained and judged. Raises WhetError, Interrupted.
    """
    if resume is not None:
        return _resume_search(Path(resume), recipe=None if recipe is None or isinstance(recipe, Recipe) else Path(recipe))
    if recipe is None:
        raise TypeError("search() needs a recipe, or resume=RUN")
    loaded, folder = _recipe(recipe, sets)
    return _search(loaded, folder=folder, out=_optional(out))


def serve(
    runs: Run | Place | Sequence[Run | Place],
    *,
    names: Sequence[str] = (),
    options: ServeOptions = ServeOptions(),
    recipe: Place | None = None,
) -> None:
    """Serve trained runs behind OpenAI's API until the process is stopped. `names` are what clients call them, in order.

    `options` are those of `whet serve`. Raises ServerError, RunError, ModelError before it listens.
    """
    several = [runs] if isinstance(runs, Run | str | Path) else list(runs)
    references = [str(run.path if isinstance(run, Run) else run) for run in several]
    _serve(references, names=names, options=options, recipe=_optional(recipe))


def monitor(
    reference: Run | Place,
    *,
    log: Place = RUNS / "requests.sqlite",
    since: str | None = None,
    until: str | None = None,
    checks: Sequence[str] = (),
    settings: MonitorSettings = MonitorSettings(),
    alerts: Alerts = Alerts(),
    registry: Place = FOLDER,
    out: Place | None = None,
) -> dict[str, Any]:
    """Compare what a served run was asked and answered with its test rows. Returns what monitor.json holds.

    `reference` is a run, or a registered NAME or NAME@ALIAS; `since` and `until` are times, or so long ago: "7d". Quality, drift and
    latency have their alarms in `alarms`, and `verdict` says fine, look or retrain. `report` is the page. Raises RunError, ServerError.
    """
    folder, found = _monitor(
        _reference(reference), log=Path(log), since=since, until=until, checks=checks, settings=settings, alerts=alerts,
        registry=Path(registry), out=_optional(out),
    )  # fmt: skip
    return {**found, "report": str(folder / "monitor.html")}


def retrain(
    reference: Run | Place | None = None,
    files: Place | Sequence[Place] = (),
    *,
    log: Place | None = None,
    promote: Promote = "never",
    tolerance: float | None = None,
    start: Start = "base",
    sets: Sequence[str] = (),
    registry: Place = FOLDER,
    why: str = "",
    out: Place | None = None,
    recipe: Place | None = None,
    resume: Place | None = None,
) -> tuple[Run, dict[str, Any]]:
    """Train a challenger with new labelled rows, compare it with its champion, register it; or go on with a retraining.

    Returns the challenger's run, and what was found: `passed`, `better`, `sets` (scores and paired differences on the old and on the
    new test rows), `sentence`, `registered`, `promoted`. `reference` is a registered name, whose champion it is then, or a run; `log`
    a request log whose feedback is learnt from. `start`: "base" trains anew on all rows, "champion" goes on from its weights.
    `promote`: "never", "if-passed" or "if-better". A challenger that does not pass raises nothing. Raises WhetError.
    """
    place = _optional(recipe)
    if resume is not None:
        run = _resume_retrain(Path(resume), recipe=place)
    elif reference is None:
        raise TypeError("retrain() needs a registered name or a run, or resume=RUN")
    else:
        run = _retrain(
            _reference(reference), _paths(files), log=_optional(log), promote=promote, tolerance=tolerance, start=start, sets=sets,
            registry=Path(registry), why=why, out=_optional(out), recipe=place,
        )  # fmt: skip
    return run, _challenge(run)


def register(
    name: str,
    run: Run | Place,
    *,
    alias: str | None = CHALLENGER,
    why: str = "",
    who: str | None = None,
    ignore_gate: bool = False,
    registry: Place = FOLDER,
) -> dict[str, Any]:
    """Register a run as the next version of a name; the first one becomes its champion too. Returns the version.

    Raises RunError, and Refused where the run's gate objects and `ignore_gate` does not say to go on.
    """
    path = run.path if isinstance(run, Run) else Path(run)
    return _registry.add(name, path, registry=Path(registry), alias=alias, why=why, who=who, ignore_gate=ignore_gate)


def promote(
    name: str,
    which: str | int,
    *,
    alias: str = CHAMPION,
    why: str = "",
    who: str | None = None,
    ignore_gate: bool = False,
    registry: Place = FOLDER,
) -> dict[str, Any]:
    """Let an alias of a registered name point to a version, by its number or another alias. Returns the version.

    Raises RunError, and Refused where the run's gate objects by now.
    """
    return _registry.promote(
        name, str(which), registry=Path(registry), alias=alias, why=why, who=who, ignore_gate=ignore_gate
    )  # fmt: skip


def rollback(
    name: str, *, alias: str = CHAMPION, why: str = "", who: str | None = None, registry: Place = FOLDER
) -> dict[str, Any]:
    """Let an alias point to the version that it was at before. Returns that version. Raises RunError."""
    return _registry.rollback(name, registry=Path(registry), alias=alias, why=why, who=who)


def registered(name: str | None = None, *, registry: Place = FOLDER) -> list[dict[str, Any]]:
    """Return every registered name, or one, with its versions, aliases and history. Raises RunError."""
    found = _registry.show(name, Path(registry))
    return [found] if name is not None else list(found["models"])


def _reference(run: Run | Place) -> str:
    return str(run.path if isinstance(run, Run) else run)


def _paths(files: Place | Sequence[Place]) -> list[Path]:
    return [Path(files)] if isinstance(files, str | Path) else [Path(file) for file in files]


def _optional(place: Place | None) -> Path | None:
    return None if place is None else Path(place)


def _recipe(recipe: Recipe | Place, sets: Sequence[str]) -> tuple[Recipe, Path | None]:
    if isinstance(recipe, Recipe):
        return recipe, None
    path = Path(recipe)
    return load_recipe(path, sets), path.parent
