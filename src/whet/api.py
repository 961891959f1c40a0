"""The verbs as functions, for notebooks and programs. The command line calls the same stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from whet.recipe import Recipe
from whet.recipe_file import load_recipe
from whet.run import Run
from whet.stages.auto import auto as _auto
from whet.stages.evaluate import evaluate as _evaluate
from whet.stages.new import new as _new
from whet.stages.predict import Predictor
from whet.stages.predict import load as _load
from whet.stages.prepare import prepare_run
from whet.stages.train import resume as _resume
from whet.stages.train import train as _train

Place = str | Path


def new(files: Place | Sequence[Place], out: Place = "recipe.yaml") -> Path:
    """Look at a file or files and write the recipe that fits. Returns the recipe's path.

    Raises DataError where nothing fits, RecipeError where `out` exists.
    """
    return _new(_paths(files), out=Path(out))[0]


def prepare(recipe: Recipe | Place, *, sets: Sequence[str] = (), out: Place | None = None) -> Run:
    """Read, clean, deduplicate and split the data of a recipe into a run. Raises DataError, RecipeError, Refused."""
    loaded, folder = _recipe(recipe, sets)
    return prepare_run(loaded, folder=folder, out=_optional(out))


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


def evaluate(run: Run | Place, *, test: Place | Sequence[Place] = (), recipe: Place | None = None) -> Run:
    """Judge a trained run on its test rows, or on other files. Returns the run; its `report` holds the scores and the verdict.

    `recipe` is needed only where the run uses plugin files of your own, which lie beside it.
    """
    return _evaluate(run.path if isinstance(run, Run) else Path(run), test=_paths(test), recipe=_optional(recipe))


def load(run: Run | Place, *, recipe: Place | None = None) -> Predictor:
    """Return a trained run that answers: `load(run).predict(["some text"])`. Raises RunError."""
    return _load(run.path if isinstance(run, Run) else Path(run), _optional(recipe))


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


def _paths(files: Place | Sequence[Place]) -> list[Path]:
    return [Path(files)] if isinstance(files, str | Path) else [Path(file) for file in files]


def _optional(place: Place | None) -> Path | None:
    return None if place is None else Path(place)


def _recipe(recipe: Recipe | Place, sets: Sequence[str]) -> tuple[Recipe, Path | None]:
    if isinstance(recipe, Recipe):
        return recipe, None
    path = Path(recipe)
    return load_recipe(path, sets), path.parent
