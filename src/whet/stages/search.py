"""`whet search`: better settings than the recipe's own, looked for on the validation rows; the best is trained and judged once."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import whet
from whet import plugins
from whet.data.dataset import Dataset
from whet.display import quoted
from whet.engine.machine import describe
from whet.engine.study import open_study, optuna
from whet.errors import DataError, Interrupted, RecipeError, RunError, TrainingError, WhetError
from whet.files import write_json, write_together, write_whole
from whet.protocols import Metric, Pruner, Sampler
from whet.recipe import Recipe
from whet.recipe_file import dump_recipe, load_recipe
from whet.report.search import describe_search, render_search
from whet.run import Run, free_path, new_run, open_run
from whet.stages import train as training
from whet.stages.build import (
    build_objective,
    check_plugins,
    measured_by,
    plugin_files,
    plugin_folder,
    recipe_beside,
    watched_metric,
    with_places,
)
from whet.stages.evaluate import evaluate
from whet.stages.lineage import located_parents
from whet.stages.narrate import SILENT, Bar, Narrator
from whet.stages.phase import Flag, stop_signals
from whet.stages.prepare import located_recipe, prepare_data, slug, stored_dataset
from whet.stages.space import SearchSpace, build_space, meant, value_at
from whet.stages.trials import Pruned, Shared, Stopped, Trial, run_trial

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

STUDY, RESULT, BEST = "study.log", "search.json", "best.yaml"
FAILURES = (WhetError, RuntimeError, MemoryError, ArithmeticError)
"""What one trial may fail by while the search goes on: settings that do not fit, memory, numbers that are not finite."""


@dataclass(slots=True)
class Work:
    """A search under way."""

    run: Run
    recipe: Recipe
    dataset: Dataset
    folder: Path | None
    space: SearchSpace
    metric: str
    higher_is_better: bool
    study: Study
    sampler: Sampler
    shared: Shared
    flag: Flag
    bar: Bar


def search(recipe: Recipe, *, folder: Path | None = None, out: Path | None = None, narrator: Narrator = SILENT) -> Run:
    """Look for better settings as `recipe.search` says, then train and judge the best once. Returns the run of the search.

    Raises RecipeError, DataError, Refused before anything is trained, with nothing left behind; Interrupted, resumable.
    """
    if recipe.search is None:
        raise RecipeError(
            "the recipe has no `search:` section, so there is nothing to search. Add one, such as\n"
            "search:\n  space:\n    train.learning_rate: {low: 1.0e-5, high: 1.0e-3, log: true}"
        )
    optuna()
    path = free_path(out, f"{slug(recipe)}-search")
    _child_path(path)
    check_plugins(recipe, folder)
    recipe = with_places(recipe, folder)
    _metric(recipe, folder)
    build_space(recipe, folder)
    dataset = prepare_data(recipe, folder, narrator)
    if not dataset.validation:
        raise DataError("a search compares by validation rows, and there are none. Give data.split.validation a share.")
    manifest = {
        "kind": "search",
        "whet": whet.__version__,
        "parents": [],
        "data_sha256": dataset.hash,
        "plugins": plugin_files(recipe, folder),
        "machine": describe(),
        "actual": {},
    }
    with new_run(path, manifest) as run:
        placed = located_recipe(recipe, folder).model_copy(update={"parents": located_parents(recipe, folder)})
        write_whole(run.path / "recipe.yaml", dump_recipe(placed))
        dataset.write(run.path)
    return _search(Run(path), load_recipe(path / "recipe.yaml"), dataset, folder, narrator)


def resume(path: Path, *, recipe: Path | None = None, narrator: Narrator = SILENT) -> Run:
    """Go on with a search that was stopped or killed; its trials are those of one that was not. Returns the run."""
    run = open_run(path)
    if run.manifest["kind"] != "search":
        raise RunError(
            f"{path}: a run of kind '{run.manifest['kind']}', not a search. For one of training: whet train --resume {quoted(path)}"
        )
    folder = plugin_folder(run, recipe)
    return _search(run, load_recipe(path / "recipe.yaml"), stored_dataset(run), folder, narrator)


def _search(run: Run, recipe: Recipe, dataset: Dataset, folder: Path | None, narrator: Narrator) -> Run:
    go_on = f"Everything that was tried is kept. Go on with: whet search --resume {quoted(run.path)}"
    with run.lock():
        run.sweep()
        try:
            result = _try_all(run, recipe, dataset, folder, narrator)
            _train_best(run, result, dataset, folder, narrator)
        except (KeyboardInterrupt, Stopped, Interrupted):
            raise Interrupted(f"Stopped. {go_on}") from None
        except OSError as error:
            raise TrainingError(f"{run.path}: {error.strerror or error}. {go_on}") from None
    return run


def _try_all(run: Run, recipe: Recipe, dataset: Dataset, folder: Path | None, narrator: Narrator) -> dict[str, Any]:
    """Run all trials that are left, and write what was found."""
    settings = recipe.search
    assert settings is not None
    metric, higher = _metric(recipe, folder)
    space = build_space(recipe, folder)
    sampler: Sampler = plugins.build("samplers", settings.sampler.name, settings.sampler.settings, folder)
    pruner: Pruner = plugins.build("pruners", settings.pruner.name, settings.pruner.settings, folder)
    study = open_study(run.path / STUDY, higher)
    study.pruner = pruner.build()
    size = sampler.size(space.distributions)
    total = settings.trials if size is None else min(settings.trials, size + 1)
    title = f"Searching {len(space.distributions)} settings"
    with stop_signals() as flag, narrator.bar(title, total) as bar:
        work = Work(run, recipe, dataset, folder, space, metric, higher, study, sampler, Shared(), flag, bar)
        for number in range(total):
            trials = study.get_trials(deepcopy=False)
            if number < len(trials) and trials[number].state.is_finished():
                continue
            if number and settings.timeout is not None and _seconds(trials) >= settings.timeout:
                narrator.say(f"No further trial begins: {settings.timeout:g} s are over (search.timeout).")
                break
            _default(work) if number == 0 else _next(work, number)
            bar.advance(number + 1, _note(work))
    return _write(work)


def _default(work: Work) -> None:
    """Try the recipe's own setting. It is trial 0, and stored once it is done."""
    module, begun = optuna(), time.monotonic()
    seen: dict[int, float] = {}

    def report(number: int, score: float) -> bool:
        seen[number] = score
        return False

    attributes: dict[str, Any] = {"default": True}
    params: dict[str, Any] | None = None
    state, value = module.trial.TrialState.COMPLETE, None
    try:
        done = run_trial(work.recipe, work.dataset, work.metric, work.shared, work.folder, work.flag, report)
        value, params = done.value, work.space.inside(done.recipe, work.folder)
        setting = {key: value_at(done.recipe, key, work.folder) for key in work.space.distributions}
        attributes |= {"value": done.value, "best_step": done.best_step, "steps": done.steps, "setting": setting}
        if params is None:  # samplers that model the whole space would find it empty by a complete trial without parameters
            state, attributes["outside"] = module.trial.TrialState.PRUNED, True
    except FAILURES as error:
        _reraise(error)
        state, attributes["error"] = module.trial.TrialState.FAIL, _said(error)
    attributes["seconds"] = round(time.monotonic() - begun, 3)
    work.study.add_trial(
        module.trial.create_trial(
            state=state,
            value=value,
            params=params or {},
            distributions=dict(work.space.distributions) if params else {},
            intermediate_values=seen,
            user_attrs=attributes,
        )
    )


def _next(work: Work, number: int) -> None:
    """Try what the sampler says next; or go on with the trial that a killed search was at."""
    module, begun = optuna(), time.monotonic()
    assert work.recipe.search is not None
    seed = int(np.random.SeedSequence([work.recipe.search.seed, number]).generate_state(1)[0])
    work.study.sampler = work.sampler.build(work.space.distributions, seed)
    left = [trial for trial in work.study.get_trials(deepcopy=False) if trial.number == number]
    if left:
        trial = module.trial.Trial(work.study, left[0]._trial_id)
        for key, distribution in work.space.distributions.items():
            trial._suggest(key, distribution)
    else:
        trial = work.study.ask(fixed_distributions=dict(work.space.distributions))
    states = module.trial.TrialState
    twin = _twin(work.study, trial.params)
    if twin is not None:
        trial.set_user_attr("same_as", twin.number)
        for name in ("best_step", "steps"):
            trial.set_user_attr(name, twin.user_attrs[name])
        work.study.tell(trial, twin.value)
        return
    reported = dict(left[0].intermediate_values) if left else {}

    def report(validation: int, score: float) -> bool:
        if validation not in reported:
            trial.report(score, validation)
        return bool(trial.should_prune())

    found: Trial | None = None
    state = states.COMPLETE
    try:
        recipe = work.space.apply(trial.params)
        check_plugins(recipe, work.folder)
        found = run_trial(recipe, work.dataset, work.metric, work.shared, work.folder, work.flag, report)
        trial.set_user_attr("best_step", found.best_step)
        trial.set_user_attr("steps", found.steps)
    except Pruned:
        state = states.PRUNED
    except FAILURES as error:
        _reraise(error)
        state = states.FAIL
        trial.set_user_attr("error", _said(error))
    trial.set_user_attr("seconds", round(time.monotonic() - begun, 3))
    if found is None:
        work.study.tell(trial, state=state)
    else:
        work.study.tell(trial, found.value)


def _twin(study: Study, params: dict[str, Any]) -> FrozenTrial | None:
    """Return a complete trial of the same setting: the same seed would only give the same result again."""
    done = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE" and trial.params]
    return next((trial for trial in done if trial.params == params), None)


def _reraise(error: BaseException) -> None:
    if isinstance(error, Interrupted):
        raise error


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, WhetError) else f"{type(error).__name__}: {text}"


def _metric(recipe: Recipe, folder: Path | None) -> tuple[str, bool]:
    """Return what trials are compared by, and whether higher is better. Raises RecipeError where the objective lacks it."""
    assert recipe.search is not None
    asked = recipe.search.metric
    name = (watched_metric(recipe) or "loss") if asked == "auto" else asked
    if name == "loss":
        return name, False
    try:
        measured_by(build_objective(recipe.objective, folder), name, folder)
        metric: Metric = plugins.build("metrics", name, {}, folder)
    except RecipeError as error:
        raise RecipeError(f"{recipe.place('search', 'metric')}: {error}") from None
    return name, metric.higher_is_better


def _seconds(trials: list[FrozenTrial]) -> float:
    return sum(float(trial.user_attrs.get("seconds", 0.0)) for trial in trials)


def _records(work: Work) -> list[dict[str, Any]]:
    """Return all trials as the result holds them."""
    found = []
    for trial in work.study.get_trials(deepcopy=False):
        attributes = trial.user_attrs
        outside = attributes.get("outside", False)
        state = "complete" if outside else trial.state.name.lower()
        setting = attributes.get("setting") or {key: meant(value) for key, value in trial.params.items()}
        found.append(
            {
                "number": trial.number,
                "state": state,
                "value": trial.value if state == "complete" else None,
                "last": trial.intermediate_values[max(trial.intermediate_values)] if trial.intermediate_values else None,
                "setting": setting,
                "params": dict(trial.params),
                "default": trial.number == 0,
                "outside": outside,
                "best_step": attributes.get("best_step"),
                "seconds": attributes.get("seconds"),
                "error": attributes.get("error"),
                "same_as": attributes.get("same_as"),
            }
        )
    return [record for record in found if record["state"] in {"complete", "pruned", "fail"}]


def _best(records: list[dict[str, Any]], higher: bool) -> dict[str, Any] | None:
    """Return the best trial; of equals the first, so that the recipe's own setting gives way to a better one only."""
    done = [record for record in records if record["state"] == "complete"]
    return max(done, key=lambda record: (record["value"] if higher else -record["value"], -record["number"]), default=None)


def _note(work: Work) -> str:
    best = _best(_records(work), work.higher_is_better)
    return "" if best is None else f"best validation {work.metric} {best['value']:.4f} (trial {best['number']})"


def _write(work: Work) -> dict[str, Any]:
    """Write search.json, report.html and best.yaml, and return the result. Raises TrainingError where no trial came to its end."""
    records = _records(work)
    best = _best(records, work.higher_is_better)
    if best is None:
        errors = "\n".join(dict.fromkeys(record["error"] for record in records if record["error"]))
        raise TrainingError(f"{work.run.path}: none of {len(records)} trials came to its end. What they said:\n{errors}")
    chosen = work.space.apply(best["params"]) if best["number"] else work.recipe
    recipe = chosen.model_copy(update={"search": None})
    assert work.recipe.search is not None
    result: dict[str, Any] = {
        "metric": work.metric,
        "higher_is_better": work.higher_is_better,
        "sampler": work.recipe.search.sampler.name,
        "pruner": work.recipe.search.pruner.name,
        "seed": work.recipe.search.seed,
        "keys": list(work.space.distributions),
        "trials": records,
        "best": best,
        "beat_default": best["number"] != 0,
        "child": str(_child(work.run)),
    }
    result["sentence"] = describe_search(result)
    comments = dict.fromkeys(best["params"], "chosen by whet search") if best["number"] else {}
    write_together(
        {
            work.run.path / BEST: dump_recipe(recipe, comments),
            work.run.path / "report.html": render_search(result, str(work.run.path), dump_recipe(recipe, comments)),
        }
    )
    write_json(work.run.path / RESULT, result)
    work.run.note(actual={"train_s": round(sum(record["seconds"] or 0.0 for record in records), 2)})
    return result


def _child_path(path: Path) -> Path:
    """Return the folder of the best setting's run, beside that of the search, checked to be free."""
    return free_path(path.with_name(f"{path.name}-best"), "")


def _child(run: Run) -> Path:
    return run.path.with_name(f"{run.name}-best")


def _train_best(run: Run, result: dict[str, Any], dataset: Dataset, folder: Path | None, narrator: Narrator) -> None:
    """Train the best setting as a run of its own, and open the test rows, once. Goes on where that was begun."""
    place = _child(run)
    recipe = load_recipe(run.path / BEST)
    if not place.exists():
        narrator.say(f"Training the {'best' if result['beat_default'] else 'recipe’s own'} setting in full ...")
        free_path(place, "")
        child = training.train_on(recipe, dataset, place, folder, narrator, parents=[str(run.path)])
    else:
        child = open_run(place)
        if str(run.path) not in child.manifest.get("parents", []):
            raise RunError(f"{place}: is there, and is no run of this search. Move it elsewhere, and go on.")
        if not child.model.exists():
            child = training.resume(place, recipe=recipe_beside(child, folder), narrator=narrator)
    if not dataset.test:
        narrator.say("There are no test rows, so the best setting is not judged.")
    elif not (child.path / "report.json").is_file():
        evaluate(child.path, recipe=recipe_beside(child, folder), narrator=narrator)
    run.note(child=str(child.path))


def result_of(run: Run) -> dict[str, Any]:
    """Return what a search has found. Raises RunError."""
    try:
        found: dict[str, Any] = json.loads((run.path / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            f"{run.path / RESULT}: missing or damaged ({error}). Go on with: whet search --resume {run.path}"
        ) from None
    return found
