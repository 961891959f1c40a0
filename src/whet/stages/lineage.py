"""The runs that a run goes on from: found, checked, and the last one's tuned model as the start of the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whet.display import quoted
from whet.errors import ModelError, RecipeError, RunError
from whet.files import beside, file_hash
from whet.models.builtin import model_hash
from whet.models.load import source_name
from whet.models.policy import Policy, Source
from whet.models.save import Card, load_base, load_tuned, read_card
from whet.recipe import Recipe
from whet.recipe_parts import Choice
from whet.run import Run, open_run
from whet.stages.build import build_objective, build_technique


@dataclass(frozen=True, slots=True)
class Parent:
    """A finished run, and the hash of its model."""

    run: Run
    card: Card
    sha256: str

    def record(self) -> dict[str, str]:
        """Return what the manifest of a run that goes on from it says."""
        return {"path": str(self.run.path), "sha256": self.sha256}


def find_parents(recipe: Recipe, folder: Path | None) -> list[Parent]:
    """Return the recipe's parents, in its order. Raises RunError or RecipeError for one that nothing can go on from, with its place."""
    found: list[Parent] = []
    for index, name in enumerate(located_parents(recipe, folder)):
        try:
            parent = _parent(Path(name))
            _check_kind(recipe, parent, folder)
        except (RunError, RecipeError) as error:
            raise type(error)(f"{recipe.place('parents', str(index))}: {error}") from None
        if any(parent.run.path.resolve() == other.run.path.resolve() for other in found):
            raise RecipeError(f"{recipe.place('parents', str(index))}: {name} stands twice in parents. Name each run once.")
        found.append(parent)
    return found


def located_parents(recipe: Recipe, folder: Path | None) -> tuple[str, ...]:
    """Return the recipe's parents where they lie: from the current folder, or else beside the recipe."""
    return tuple(beside(name, folder) for name in recipe.parents)


def ancestors(parents: Sequence[Run]) -> list[Run]:
    """Return these runs and all that they go on from, each once and behind its own parents. Raises RunError where one is missing."""
    found: dict[Path, Run] = {}

    def visit(run: Run) -> None:
        if run.path.resolve() in found:
            return
        for path in parents_now(run):
            try:
                visit(open_run(path))
            except RunError as error:
                raise RunError(f"{error} {run.path} goes on from it, so its rows are needed; bring the folder back.") from None
        found.setdefault(run.path.resolve(), run)

    for run in parents:
        visit(run)
    return list(found.values())


def recorded(run: Run) -> list[dict[str, Any]]:
    """Return what a run's manifest says of the runs that its model goes on from: path and sha256 of each."""
    return [one for one in run.manifest.get("parents", []) if isinstance(one, dict)]


def as_stored(run: Run, recipe: Recipe) -> Recipe:
    """Return a stored recipe with its parents where they are now. Raises RunError where one is missing or its model is another now."""
    places = []
    for record, path in zip(recorded(run), parents_now(run), strict=True):
        parent = _parent(path)
        if parent.sha256 != record["sha256"]:
            raise RunError(
                f"{parent.run.model}: is another model now (SHA-256 {parent.sha256[:12]}) than the one that {run.path} went on from "
                f"({record['sha256'][:12]}). Bring that one back, or begin a new run."
            )
        places.append(str(path))
    return recipe.model_copy(update={"parents": tuple(places)})


def start_policy(recipe: Recipe, folder: Path | None) -> Policy:
    """Return the last parent's tuned policy, its technique folded into the network, to be trained on like a base model.

    Its source stays the base model that the first run was trained on. Where stages are merged the network is that base, with the parent's
    head. Raises RunError, RecipeError or ModelError.
    """
    parent = find_parents(recipe, folder)[-1]
    policy = folded(parent.run, parent.card, folder)
    if recipe.continual.merge == "none":
        return policy
    base = load_base(parent.card)
    base.heads, base.classes = policy.heads, policy.classes
    return base


def folded(run: Run, card: Card, folder: Path | None) -> Policy:
    """Return a run's tuned policy with its technique folded into the network. Raises RunError, RecipeError or ModelError."""
    if card.technique.endswith(".py"):
        known = run.manifest.get("plugins", {}).get(card.technique)
        if folder is None or not (folder / card.technique).is_file() or file_hash(folder / card.technique) != known:
            raise RunError(
                f"{run.path}: was trained with the technique {card.technique}, a file of your own, which is not beside this recipe "
                "as it was then. Put that file there."
            )
    technique = build_technique(Choice(name=card.technique, **card.technique_settings), folder)
    policy = load_tuned(run.model, technique)
    try:
        technique.merge(policy)
    except ModelError as error:
        raise RecipeError(
            f"{run.path}: nothing can go on from it, since its technique '{card.technique}' cannot be folded into the weights "
            f"({error}) Begin with a run of lora, full, bitfit, ia3 or head."
        ) from None
    policy.network.requires_grad_(False)
    policy.source = Source(card.source, policy.source.folder, card.source_sha256)
    return policy


def parents_now(run: Run) -> list[Path]:
    """Return where the parents of a run lie now."""
    return [_place(Path(record["path"]), run) for record in recorded(run)]


def _parent(path: Path) -> Parent:
    run = open_run(path)
    kind, manifest = run.manifest["kind"], run.manifest
    if kind == "compress":
        raise RunError(
            f"{path}: a compressed run, which does not learn. Name the run that it was made of: {manifest['parents'][0]}."
        )
    if kind != "train":
        raise RunError(f"{path}: a run of kind '{kind}' has no model to go on from. Name a run of `whet train`.")
    if not run.model.exists():
        raise RunError(f"{path}: is not trained to its end. Go on with it first: whet train --resume {quoted(path)}")
    return Parent(run, read_card(run.model), model_hash(run.model))


def _check_kind(recipe: Recipe, parent: Parent, folder: Path | None) -> None:
    """Raise RecipeError where the recipe learns something else than its parent, or on another model."""
    card, path = parent.card, parent.run.path
    if source_name(recipe.model) != card.source:
        raise RecipeError(
            f"{path} was trained on {card.source}, and this recipe's model is {recipe.model}. A run goes on from the same model: write "
            f"model: {card.source}"
        )
    if card.objective != recipe.objective.name:
        raise RecipeError(
            f"{path} learnt '{card.objective}', and this recipe's objective is '{recipe.objective.name}'. A run goes on with the same "
            f"objective. To begin anew on the tuned weights, export them (whet export {quoted(path)} merged) and name that folder as the model."
        )
    objective = build_objective(recipe.objective, folder)
    before = build_objective(Choice(name=card.objective, **card.objective_settings), folder)
    if objective.needs != before.needs:
        raise RecipeError(
            f"{path} learnt '{card.objective}' from {', '.join(before.needs)}, and this recipe's settings need {', '.join(objective.needs)}. "
            "Give the objective the parent's settings."
        )
    if objective.reference or objective.online:
        raise RecipeError(
            f"objective '{card.objective}' is held to what the model was before, or learns from its own answers, and does not go on from "
            f"runs. Export {path} (whet export {quoted(path)} merged), and name that folder as the model."
        )


def _place(path: Path, child: Run) -> Path:
    """Return where a run's parent lies: where it was then, or beside the run itself."""
    beside = child.path.absolute().parent / path.name
    return beside if not path.exists() and beside.exists() else path
