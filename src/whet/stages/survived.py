"""Whether new rows still have their label: asked of a finished run, or of a linear classifier on an encoder's embeddings.

Shapes: N rows, D width, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from whet.data.augment import Wanted
from whet.engine.embed import unit_vectors
from whet.engine.logistic import fit_logistic
from whet.errors import RecipeError
from whet.models.load import load_policy
from whet.models.policy import Policy
from whet.stages.tuned import load_run
from whet.types import Example

PENALTY = 1.0
Labels = Callable[[Sequence[Example]], list[str]]


def checker(model: str, rows: Sequence[Example]) -> Callable[[Sequence[tuple[Wanted, Example]]], list[bool]]:
    """Return what says of each new row whether the model takes it for its label, or at least for what it took the original for.

    `rows` are the training rows. Raises RecipeError where the model knows none of their labels, and what loading it raises.
    """
    labels = _of_run(Path(model), rows) if (Path(model) / "manifest.json").is_file() else _of_encoder(model, rows)
    before: dict[int, str] = {}

    def survived(made: Sequence[tuple[Wanted, Example]]) -> list[bool]:
        asked = {wanted.row.id: wanted.row for wanted, _ in made if wanted.row.id not in before}
        before.update(zip(asked, labels(list(asked.values())), strict=True))
        found = labels([example for _, example in made])
        return [label in {example.label, before[wanted.row.id]} for label, (wanted, example) in zip(found, made, strict=True)]

    return survived


def _of_run(path: Path, rows: Sequence[Example]) -> Labels:
    tuned = load_run(path)
    if tuned.objective.head != "classify" or not {one.label for one in rows} <= set(tuned.policy.classes):
        raise RecipeError(
            f"data.augment.check: {path} does not tell these rows' labels apart. Name a run that was trained for the same labels, or an "
            "encoder such as builtin:minilm."
        )
    return lambda examples: [output.label or "" for output in tuned.finite_outputs(tuned.policy, examples)]


def _of_encoder(model: str, rows: Sequence[Example]) -> Labels:
    policy: Policy = load_policy(model)
    classes = sorted({one.label or "" for one in rows})
    numbers = {label: number for number, label in enumerate(classes)}
    targets = torch.tensor([numbers[one.label or ""] for one in rows])
    weight, bias = fit_logistic(unit_vectors(policy, rows, policy.context)[0], targets, len(classes), PENALTY)  # [K, D], [K]

    def labels(examples: Sequence[Example]) -> list[str]:
        if not examples:
            return []
        scores = unit_vectors(policy, examples, policy.context)[0].double() @ weight.T + bias  # [N, K]
        return [classes[best] for best in scores.argmax(-1).tolist()]

    return labels
