"""`whet prepare`: raw files become a cleaned, split data set, with every row accounted for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from whet.data.accounting import ACCOUNTING, OF_BEFORE
from whet.data.dataset import Dataset, read_dataset
from whet.data.large import StoredDataset, prepare_stored
from whet.data.preparing import prepare
from whet.data.replay import Past, with_past
from whet.data.sampled import sampled
from whet.data.tasks import prepare_tasks
from whet.errors import RunError
from whet.files import beside, expanded, write_whole
from whet.recipe import Recipe
from whet.recipe_data import SOURCES, Data, Redact
from whet.recipe_file import dump_recipe
from whet.run import Run, free_path, new_run
from whet.stages.build import build_objective, check_plugins
from whet.stages.collect import with_collected
from whet.stages.lineage import ancestors, find_parents
from whet.stages.narrate import SILENT, Narrator
from whet.stages.shelving import is_large, keeps_on_disk, shelved
from whet.stages.streaming import check_streaming


def prepare_data(
    recipe: Recipe, folder: Path | None, narrator: Narrator = SILENT, *, fresh: bool = False, spend: bool = True
) -> Dataset:
    """Return the recipe's data set, collected, read, cleaned, split and augmented; `fresh`: what was collected before is collected anew.

    Without `spend`, no new rows are made that cost seconds or money each. Raises DataError, or Refused where test rows are learnt from.
    """
    return _prepared(recipe, folder, _wanted(recipe, folder, narrator, fresh=fresh), narrator, spend=spend)


Wanted = Mapping[str, tuple[Data, tuple[str, ...]]]
"""By task: its section with its files found, and what its objective needs."""


def _wanted(recipe: Recipe, folder: Path | None, narrator: Narrator, *, fresh: bool) -> Wanted:
    """Collect what is to be collected, and find the files."""
    check_streaming(recipe, build_objective(recipe.objective, folder))
    sections = {name: with_collected(single.data, folder, narrator, fresh=fresh) for name, single in recipe.singles.items()}
    paths = recipe.data.path or tuple(chain.from_iterable(section.path for section in sections.values()))
    narrator.say(f"Reading {', '.join(Path(name).name for name in paths) if len(paths) > 1 else paths[0]} ...")
    return {
        name: (located(sections[name], folder), build_objective(single.objective, folder).needs)
        for name, single in recipe.singles.items()
    }


def _prepared(recipe: Recipe, folder: Path | None, wanted: Wanted, narrator: Narrator, *, spend: bool = True) -> Dataset:
    """Return the data set of these sections, in memory."""
    pasts = past_of(recipe, folder)
    known = tuple(dict.fromkeys(label for past in pasts for label in past.dataset.classes))
    if recipe.tasks:
        dataset = prepare_tasks(wanted, folder)
    elif recipe.data.streaming:
        dataset = sampled(*wanted[""], folder)
    else:
        dataset = prepare(*wanted[""], folder, known)
    if pasts:
        dataset = with_past(dataset, pasts, recipe.continual.replay, recipe.continual.seed)
    asked = {name: section for name, (section, _) in wanted.items()}
    if any(section.augment is not None for section in asked.values()):
        from whet.stages.augment import augmented  # loads torch

        before = [one for past in pasts for one in (*past.dataset.validation, *past.dataset.test)]
        dataset = augmented(dataset, asked, folder, narrator, before, spend=spend)
    _tell(dataset, {part: len(rows) for part, rows in dataset.parts.items()}, narrator)
    if pasts:
        before_them, names = dataset.accounting.sources[OF_BEFORE], ", ".join(past.name for past in pasts)
        again = before_them.used["train"]
        narrator.say(f"{again:,} of the {before_them.rows:,} rows that {names} learnt from are learnt again (continual.replay).")
    for name in dataset.tasks:
        narrator.say(
            f"  {name}: " + ", ".join(f"{len(rows):,} {part}" for part, rows in dataset.of_task(name).parts.items()) + "."
        )
    return dataset


def _tell(dataset: Dataset, sizes: Mapping[str, int], narrator: Narrator) -> None:
    for notice in dataset.notices:
        narrator.say(f"Note: {notice}")
    narrator.say(dataset.accounting.sentence())
    learnt = "looked at before training" if dataset.stream else "to learn from"
    narrator.say(f"{sizes['train']:,} {learnt}, {sizes['validation']:,} to stop by, {sizes['test']:,} to be judged on.")


def past_of(recipe: Recipe, folder: Path | None) -> list[Past]:
    """Return the data of the recipe's parents and of all that came before them, oldest first. Raises RunError or RecipeError."""
    runs = ancestors([parent.run for parent in find_parents(recipe, folder)])
    return [Past(str(run.path), stored_dataset(run)) for run in runs]


def prepare_run(
    recipe: Recipe, *, folder: Path | None = None, out: Path | None = None, narrator: Narrator = SILENT, fresh: bool = False
) -> Run:
    """Prepare the data into a run of their own, and train nothing; `fresh`: what was collected before is collected anew."""
    path = free_path(out, f"{slug(recipe)}-data")
    check_plugins(recipe, folder)
    wanted = _wanted(recipe, folder, narrator, fresh=fresh)
    parents = [parent.record() for parent in find_parents(recipe, folder)]
    data, needs = next(iter(wanted.values()))
    if is_large(data) and keeps_on_disk(recipe, data, narrator):
        with shelved(data, needs, narrator) as shelving:
            stored = prepare_stored(data, needs, folder, shelving)
            _tell(stored.about, {part: len(rows) for part, rows in stored.parts.items()}, narrator)
            narrator.say("Writing ...")
            _write_run(path, recipe, stored, parents)
        return Run(path)
    _write_run(path, recipe, _prepared(recipe, folder, wanted, narrator), parents)
    return Run(path)


def _write_run(path: Path, recipe: Recipe, dataset: Dataset | StoredDataset, parents: Sequence[Mapping[str, object]]) -> None:
    known_hash = dataset.hash
    with new_run(path, {"kind": "prepare", "parents": parents, "data_sha256": known_hash}) as run:
        write_whole(run.path / "recipe.yaml", dump_recipe(recipe))
        dataset.write(run.path, known_hash)


def slug(recipe: Recipe) -> str:
    """Return the name of a run that the user did not name: from its first data file and its objective."""
    stem = Path(recipe.data.path[0]).stem if recipe.data.path else recipe.data.sources[0].name
    words = re.sub(r"[^A-Za-z0-9]+", "-", f"{stem}-{Path(recipe.objective.name).stem}").strip("-").lower()
    return recipe.name or words[:48] or "run"


def stored_dataset(run: Run) -> Dataset:
    """Return the data of a run. Raises RunError where they are not what they were when the run was made."""
    try:
        dataset = read_dataset(run.path)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{run.path / 'data'}: damaged ({error}). Restore the folder from a backup, or begin a new run.") from None
    if dataset.hash != run.manifest["data_sha256"]:
        raise RunError(
            f"{run.path / 'data'}: the rows were altered after the run began. Restore them from a backup, or begin a new run."
        )
    return dataset


def stored_columns(run: Run, task: str = "") -> Data:
    """Return which columns of a run's data mean what; of several tasks, those of one. Raises RunError."""
    file = run.path / ACCOUNTING
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        return Data.model_validate((said["tasks"][task] if task else said)["columns"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file}: missing or damaged ({error}). Restore it from a backup, or train again.") from None


def located_recipe(recipe: Recipe, folder: Path | None) -> Recipe:
    """Return the recipe with the files of its data found."""
    if recipe.tasks is None:
        return recipe.model_copy(update={"data": located(recipe.data, folder)})
    tasks = {name: task.model_copy(update={"data": located(task.data, folder)}) for name, task in recipe.tasks.items()}
    return recipe.model_copy(update={"tasks": tasks})


def located(data: Data, folder: Path | None) -> Data:
    """Return the section with its files found: from the current folder, or else beside the recipe."""
    found: dict[str, object] = {key: tuple(beside(name, folder) for name in getattr(data, key)) for key in SOURCES}
    if data.split.frozen is not None:
        found["split"] = data.split.model_copy(update={"frozen": beside(data.split.frozen, folder)})
    if isinstance(data.redact, Redact) and data.redact.model is not None:
        model = expanded(beside(data.redact.model, folder))
        found["redact"] = data.redact.model_copy(update={"model": str(model.resolve()) if model.is_dir() else data.redact.model})
    return data.model_copy(update=found)
