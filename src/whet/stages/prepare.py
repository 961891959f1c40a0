"""`whet prepare`: raw files become a cleaned, split data set, with every row accounted for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from whet import plugins
from whet.data.dataset import Dataset, prepare
from whet.files import write_whole
from whet.recipe import Data, Recipe, dump_recipe
from whet.run import Run, free_path, new_run
from whet.stages.narrate import SILENT, Narrator
from whet.types import Objective


def prepare_data(recipe: Recipe, folder: Path | None, narrator: Narrator = SILENT) -> Dataset:
    """Return the recipe's data set, read, cleaned and split. Raises DataError, or Refused where test rows are learnt from."""
    objective: Objective = plugins.build("objectives", recipe.objective.name, recipe.objective.settings, folder)
    narrator.say(f"Reading {', '.join(recipe.data.path)} ...")
    dataset = prepare(located(recipe.data, folder), objective.needs, folder)
    for notice in dataset.notices:
        narrator.say(f"Note: {notice}")
    sizes = f"{len(dataset.train):,} to learn from, {len(dataset.validation):,} to stop by, {len(dataset.test):,} to be judged on"
    narrator.say(f"{sizes}.")
    return dataset


def prepare_run(recipe: Recipe, *, folder: Path | None = None, out: Path | None = None, narrator: Narrator = SILENT) -> Run:
    """Prepare the data into a run of their own, and train nothing."""
    from whet.stages.job import slug

    path = free_path(out, f"{slug(recipe)}-data")
    dataset = prepare_data(recipe, folder, narrator)
    with new_run(path, {"kind": "prepare", "parents": [], "data_sha256": dataset.hash}) as run:
        write_whole(run.path / "recipe.yaml", dump_recipe(recipe))
        dataset.write(run.path)
    return Run(path)


def located(data: Data, folder: Path | None) -> Data:
    """Return the section with its files found: from the current folder, or else beside the recipe."""

    def find(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(
            name if Path(name).exists() or folder is None or not (folder / name).exists() else str(folder / name)
            for name in names
        )

    return data.model_copy(update={"path": find(data.path), "validation": find(data.validation), "test": find(data.test)})
