"""What compress and export share: a finished run, its technique merged, the rows it is asked about, and its size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from whet import plugins
from whet.data.dataset import Dataset
from whet.engine.order import permutation
from whet.errors import RecipeError, RunError
from whet.files import file_hash
from whet.models.compressed import COMPRESSED
from whet.models.policy import Policy
from whet.models.save import load_base
from whet.protocols import Technique
from whet.recipe_parts import Choice
from whet.stages.build import PROTOCOLS, build_technique, missing_members
from whet.stages.tuned import Tuned
from whet.types import Example


def build_named(kind: str, name: str, settings: Mapping[str, Any], folder: Path | None) -> tuple[Any, dict[str, Any]]:
    """Return the plugin that a verb was asked for, and how the manifest names it: of a file of the user's own with its SHA-256.

    `folder` is the recipe's that the user names. Raises RecipeError, also for a plugin of another kind.
    """
    lacking = missing_members(plugins.load(kind, name, folder), PROTOCOLS[kind])
    if lacking:
        raise RecipeError(
            f"'{name}' is no plugin of kind '{kind}': it has no {', '.join(lacking)}. Add them, or name another: {', '.join(plugins.names(kind))}."
        )
    hashed = {"sha256": file_hash(folder / name)} if folder is not None and name.endswith(".py") else {}
    return plugins.build(kind, name, settings, folder), {"name": name, "settings": dict(settings), **hashed}


def technique_of(tuned: Tuned) -> Technique:
    """Return the technique that a run was trained with; it is attached to the run's policy."""
    return build_technique(Choice(name=tuned.card.technique, **tuned.card.technique_settings), tuned.folder)


def merge(tuned: Tuned) -> Policy:
    """Return the run's policy, its technique folded into the weights. Raises ModelError where that is impossible."""
    if not tuned.card.compressor:  # else that was done before
        technique_of(tuned).merge(tuned.policy)
    tuned.policy.network.requires_grad_(False)
    return tuned.policy


@contextmanager
def beside_reference(tuned: Tuned) -> Iterator[None]:
    """Within this, the untuned model stands beside the run's where its objective compares with it: there are no rows without it."""
    if tuned.objective.reference:
        tuned.policy.reference = load_base(tuned.card, tuned.run.model)
    try:
        yield
    finally:
        tuned.policy.reference = None


def test_rows(tuned: Tuned, dataset: Dataset, most: int | None) -> tuple[Example, ...]:
    """Return the run's own test rows, at most so many of them, drawn by the seed of its evaluation. Raises RunError without any."""
    rows = dataset.test
    if not rows:
        raise RunError(
            f"{tuned.run.path}: has no test rows, so nothing can be compared on them. Train with `data.test`, or a share for it."
        )
    limit = min((number for number in (most, tuned.recipe.evaluate.max_rows) if number is not None), default=None)
    if limit is None or len(rows) <= limit:
        return rows
    order = permutation(tuned.recipe.evaluate.seed, 0, len(rows))[:limit]
    return tuple(rows[index] for index in sorted(order.tolist()))


def weight_bytes(tuned: Tuned) -> int:
    """Return the size on the disk of all weights that a run needs: its own, and its base's where it does not replace them."""
    own = sorted(tuned.run.model.glob("*.safetensors"))
    whole = (tuned.run.model / "config.json").is_file() or (tuned.run.model / COMPRESSED).is_file()
    files = own if whole else [*own, *sorted(tuned.policy.source.folder.glob("*.safetensors"))]
    return sum(file.stat().st_size for file in files)


def parent(run: Path) -> str:
    """Return a run as its child's manifest names it."""
    return str(run)
