"""From the names in a recipe to plugins: checked before anything is read, built, and files of the user's own hashed. Loads no model."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from whet import plugins
from whet.errors import RecipeError, RunError
from whet.files import file_hash
from whet.protocols import (
    Augmenter,
    Check,
    Cleaner,
    Compressor,
    Engine,
    Exporter,
    Metric,
    Objective,
    Optimiser,
    Pruner,
    Reward,
    Sampler,
    Schedule,
    Source,
    Target,
    Technique,
    Tracker,
)
from whet.recipe import Recipe
from whet.recipe_data import COLLECTED
from whet.recipe_file import parse_settings
from whet.recipe_parts import Choice
from whet.report.wording import metric_name
from whet.run import Run
from whet.stages.gate import check_gate

FIELDS = ("text", "text_pair", "label", "labels", "token_labels", "value", "messages", "prompt", "response", "chosen", "rejected")
"""What a row can hold that an objective or a reward needs."""
OF_TASKS = "objectives 'tasks': "
Measurable = tuple[tuple[str, ...], tuple[str, ...]]
"""Metrics of what an objective gives, and of the answers that it writes."""
PROTOCOLS: dict[str, Any] = {
    "objectives": Objective,
    "techniques": Technique,
    "optimisers": Optimiser,
    "schedules": Schedule,
    "metrics": Metric,
    "cleaners": Cleaner,
    "augmenters": Augmenter,
    "sources": Source,
    "rewards": Reward,
    "compressors": Compressor,
    "exporters": Exporter,
    "engines": Engine,
    "checks": Check,
    "samplers": Sampler,
    "pruners": Pruner,
    "targets": Target,
    "trackers": Tracker,
}


def build_objective(choice: Choice, folder: Path | None) -> Objective:
    objective: Objective = plugins.build("objectives", choice.name, choice.settings, folder)
    return objective


def build_technique(choice: Choice, folder: Path | None) -> Technique:
    technique: Technique = plugins.build("techniques", choice.name, choice.settings, folder)
    return technique


def build_schedule(choice: Choice, folder: Path | None) -> Schedule:
    schedule: Schedule = plugins.build("schedules", choice.name, choice.settings, folder)
    return schedule


def build_optimiser(choice: Choice, folder: Path | None) -> Optimiser:
    optimiser: Optimiser = plugins.build("optimisers", choice.name, choice.settings, folder)
    return optimiser


def measured_by(objective: Objective, asked: str | Sequence[str], folder: Path | None) -> Measurable:
    """Return the metrics of what an objective gives, and of the answers that it writes, with those that are asked for.

    One that the objective does not name is added where all that it needs is there. Raises RecipeError where it cannot be measured.
    """
    groups: Measurable = (objective.metrics, objective.written_metrics)
    for name in (asked,) if isinstance(asked, str) else asked:
        groups = _with(groups, name, folder)
    return groups


def asked_metrics(recipe: Recipe) -> dict[tuple[str, ...], str]:
    """Return the metrics that a recipe names for the report, by their places: of the verdict, further ones, those of the gate."""
    found: dict[tuple[str, ...], str] = {("evaluate", "metric"): recipe.evaluate.metric}
    found |= {("evaluate", "metrics", str(place)): choice.name for place, choice in enumerate(recipe.evaluate.metrics)}
    return found | {("gate", str(place), "metric"): rule.metric for place, rule in enumerate(recipe.gate)}


def watched_metric(recipe: Recipe) -> str | None:
    """Return the metric that early stopping watches; None where it is the loss, or nothing is watched."""
    early = recipe.train.early_stopping
    return early.metric if early and early.metric != "loss" else None


def metric_settings(recipe: Recipe, name: str) -> dict[str, Any]:
    """Return the settings that `evaluate.metrics` gives a metric, wherever it is measured."""
    given = {metric_name(choice.name): choice.settings for choice in recipe.evaluate.metrics}
    return given.get(metric_name(name), {})


def _with(groups: Measurable, asked: str, folder: Path | None) -> Measurable:
    given, written = groups
    known = (*given, *written)
    if asked == "auto" or asked in known or (not asked.endswith(".py") and metric_name(asked) in map(metric_name, known)):
        return given, written
    needed = set(_needs(asked, folder))
    kept = [tuple(name for name in group if metric_name(name) != metric_name(asked)) for group in groups]
    for place, group in enumerate(groups):
        there = set(chain.from_iterable(_needs(name, folder) for name in group))
        if group and needed <= there | ({"labels"} if "label" in there else set()):  # one label is a set of one
            kept[place] += (asked,)
            return kept[0], kept[1]
    raise RecipeError(
        f"'{asked}' is a metric of {', '.join(sorted(needed))}, which this objective does not give. Allowed: auto, "
        f"{', '.join(known)}, another one that fits, or a file such as ./mine.py."
    )


def check_plugins(recipe: Recipe, folder: Path | None) -> None:
    """Raise RecipeError, with its place, for a plugin that is not there, is of another kind, or whose settings are wrong."""
    if recipe.tasks is not None:
        _check_tasks(recipe, folder)
        return
    for path, kind, choice in _choices(recipe):
        try:
            lacking = missing_members(plugins.load(kind, choice.name, folder), PROTOCOLS[kind])
            if not lacking:
                made = plugins.build(kind, choice.name, choice.settings, folder)
                if kind in {"objectives", "rewards"}:
                    _check_needs(choice.name, made.needs)
        except RecipeError as error:
            wrong = next((key for key in choice.settings if f"'{key}'" in str(error)), "name")
            raise RecipeError(f"{recipe.place(*path, wrong)}: {error}") from None
        if lacking:
            raise RecipeError(
                f"{recipe.place(*path)}: '{choice.name}' is no plugin of kind '{kind}': it has no {', '.join(lacking)}. "
                f"Add them (whet.protocols.{PROTOCOLS[kind].__name__} as its base has the defaults), or name another: "
                f"{', '.join(plugins.names(kind))}."
            )
    objective, watched = build_objective(recipe.objective, folder), watched_metric(recipe)
    places = asked_metrics(recipe) | ({("train", "early_stopping", "metric"): watched} if watched else {})
    for path, name in places.items():
        try:
            measured_by(objective, name, folder)
        except RecipeError as error:
            raise RecipeError(f"{recipe.place(*path)}: {error}") from None
    check_gate(recipe, folder)
    check_few_shot(recipe, objective)


def _check_needs(name: str, needs: Sequence[str]) -> None:
    """Raise RecipeError where a plugin needs a field that no example has."""
    unknown = [need for need in needs if need not in FIELDS]
    if unknown:
        raise RecipeError(
            f"'{name}' needs {', '.join(map(repr, unknown))}, which no row can have. Allowed in `needs`: {', '.join(FIELDS)}; the expected "
            "answer is 'response', a label 'label'."
        )


def check_few_shot(recipe: Recipe, objective: Objective) -> None:
    """Raise RecipeError where examples in the prompt are asked for, and the objective has no prompt that they would go into."""
    if recipe.evaluate.few_shot.examples and not objective.shots:
        place = recipe.place("evaluate", "few_shot", "examples")
        also = " Classes are compared with nearest neighbours anyway." if objective.head == "classify" else ""
        raise RecipeError(
            f"{place}: objective '{recipe.objective.name}' answers no prompt, so no examples can stand in it.{also} "
            "Set it to 0, or use an objective that writes answers, such as sft."
        )


def with_places(recipe: Recipe, folder: Path | None) -> Recipe:
    """Return the recipe with the runs and models that its objective names where they were found, so that its run finds them again."""
    if recipe.tasks is not None:  # what can be a task names none
        return recipe
    settings = plugins.places(build_objective(recipe.objective, folder), recipe.objective.settings)
    objective = Choice(name=recipe.objective.name, **settings)
    return recipe.model_copy(update={"objective": objective})


def _check_tasks(recipe: Recipe, folder: Path | None) -> None:
    """Check each task by itself, and whether they go together."""
    if watched := watched_metric(recipe):
        raise RecipeError(
            f"{recipe.place('train', 'early_stopping', 'metric')}: early stopping of several tasks watches the weighted mean of their losses, "
            f"and no '{watched}'. Allowed: loss."
        )
    if recipe.gate:
        raise RecipeError(
            f"{recipe.place('gate')}: a gate decides on one task, and this recipe has several. Take it out; it can be set for a recipe of one "
            "of the tasks."
        )
    for single in recipe.singles.values():
        check_plugins(single, folder)
    try:
        build_objective(recipe.objective, folder)
    except RecipeError as error:
        raise RecipeError(f"{recipe.place('tasks')}: {str(error).removeprefix(OF_TASKS)}") from None


def missing_members(cls: type[Any], protocol: Any) -> list[str]:
    """Return what a plugin class must have by its protocol and has not: all methods, and all values without a default.

    A class that inherits the protocol has the methods' defaults, and nothing that is abstract.
    """
    members = dict.fromkeys([*inspect.get_annotations(protocol), *(name for name in vars(protocol) if not name.startswith("_"))])
    default = inspect.get_annotations(protocol).keys() & vars(protocol).keys()
    if protocol in cls.__mro__:
        default |= vars(protocol).keys() - protocol.__abstractmethods__
    required = [name for name in members if name not in default]
    there = {*dir(cls), *cls.__pydantic_fields__} - getattr(cls, "__abstractmethods__", frozenset())
    return [name for name in required if name not in there]


def plugin_files(recipe: Recipe, folder: Path | None) -> dict[str, str]:
    """Return the user's own plugin files that the recipe names, or its objective as a metric, with their SHA-256."""
    if recipe.tasks is not None:
        return {name: sha256 for single in recipe.singles.values() for name, sha256 in plugin_files(single, folder).items()}
    measured = measured_by(build_objective(recipe.objective, folder), tuple(asked_metrics(recipe).values()), folder)
    named = [[(choice.name, choice.settings) for _, _, choice in _choices(recipe)], measured, watched_metric(recipe)]
    return _own_files(named, folder or Path())


def plugin_folder(run: Run, recipe: Path | None, sets: Sequence[str] = ()) -> Path | None:
    """Return the folder of the run's own plugin files, which are loaded from the recipe that the user names, and only if unchanged.

    No other file can be loaded from it, whatever the run's files name, but a metric that the user names now, in `sets`.
    """
    hashes: dict[str, str] = run.manifest.get("plugins", {})
    if recipe is None and hashes:
        raise RunError(
            f"{run.path}: uses files of your own ({', '.join(hashes)}). Code is never loaded from a run; name the recipe that they lie "
            f"beside: --recipe RECIPE, or to go on: whet train RECIPE --resume {run.path}"
        )
    if recipe is None:
        return None
    for name, expected in hashes.items():
        file = recipe.parent / name
        if not file.is_file() or file_hash(file) != expected:
            raise RunError(f"{file}: not the file that {run.path} was trained with. Bring that one back, or begin a new run.")
    asked = _own_files(parse_settings(sets), recipe.parent)
    return plugins.pinned(recipe.parent, asked | hashes)


def recipe_beside(run: Run, folder: Path | None) -> Path | None:
    """Return a place in the folder of the user's own plugin files for `plugin_folder`, where the run uses such files."""
    return folder / "recipe.yaml" if folder is not None and run.manifest.get("plugins") else None


def _own_files(named: Any, folder: Path) -> dict[str, str]:
    """Return the files of the user's own that a name, or settings with names in them, stand for, with their SHA-256."""
    if isinstance(named, Mapping | list | tuple):
        found: dict[str, str] = {}
        for inner in named.values() if isinstance(named, Mapping) else named:
            found |= _own_files(inner, folder)
        return found
    there = isinstance(named, str) and named.endswith(".py") and (folder / named).is_file()
    return {named: file_hash(folder / named)} if there else {}


def _choices(recipe: Recipe) -> Iterator[tuple[tuple[str, ...], str, Choice]]:
    """Yield each plugin that the recipe chooses: its place in the recipe, its kind, and the choice."""
    rewarded = recipe.objective.settings.get("reward")
    if isinstance(rewarded, str | Mapping):  # first, so that what is wrong with it is said of its own place
        given = {"name": rewarded} if isinstance(rewarded, str) else rewarded
        if isinstance(given.get("name"), str):
            yield ("objective", "reward"), "rewards", Choice(**given)
    yield ("objective",), "objectives", recipe.objective
    if isinstance(recipe.technique, Choice):
        yield ("technique",), "techniques", recipe.technique
    yield ("train", "schedule"), "schedules", recipe.train.schedule
    yield ("train", "optimiser"), "optimisers", recipe.train.optimiser
    if recipe.evaluate.metric != "auto":
        yield ("evaluate", "metric"), "metrics", Choice(name=recipe.evaluate.metric)
    for index, choice in enumerate(recipe.evaluate.metrics):
        yield ("evaluate", "metrics", str(index)), "metrics", choice
    for index, rule in enumerate(recipe.gate):
        yield ("gate", str(index), "metric"), "metrics", Choice(name=rule.metric)
    for index, choice in enumerate(recipe.trackers):
        yield ("trackers", str(index)), "trackers", choice
    if recipe.search is not None:
        yield ("search", "sampler"), "samplers", recipe.search.sampler
        yield ("search", "pruner"), "pruners", recipe.search.pruner
    if watched := watched_metric(recipe):
        yield ("train", "early_stopping", "metric"), "metrics", Choice(name=watched)
    for key in COLLECTED.values():
        for index, choice in enumerate(getattr(recipe.data, key)):
            yield ("data", key, str(index)), "sources", choice
    for index, choice in enumerate(() if recipe.data.clean == "auto" else recipe.data.clean):
        yield ("data", "clean", str(index)), "cleaners", choice
    for index, choice in enumerate(recipe.data.augment.by if recipe.data.augment else ()):
        yield ("data", "augment", "by", str(index)), "augmenters", choice


def _needs(metric: str, folder: Path | None) -> tuple[str, ...]:
    made: Metric = plugins.build("metrics", metric, {}, folder)
    return made.needs
