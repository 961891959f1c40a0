"""One number for a policy on given rows: what early stopping watches, and what a search compares trials by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from whet import plugins
from whet.engine.machine import Precision, computing
from whet.engine.order import permutation
from whet.models.policy import Policy
from whet.protocols import Metric, Objective
from whet.recipe import Recipe
from whet.report.wording import metric_name
from whet.stages.build import measured_by, metric_settings
from whet.stats import stack
from whet.types import Example

if TYPE_CHECKING:
    from whet.types import Statistics


@dataclass(frozen=True, slots=True)
class Scoring:
    """A metric on given rows, for any policy of an objective."""

    name: str
    metric: Metric
    objective: Objective
    examples: Sequence[Example]
    written: bool
    """It is a metric of generated answers; else of what the objective gives."""
    max_length: int
    max_new_tokens: int
    precision: Precision

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is."""
        return 1 if self.metric.higher_is_better else -1

    def __call__(self, policy: Policy) -> float:
        """The policy's score; nan where it is undefined. Nothing is drawn, so the same weights give the same number."""
        return self.metric.reduce(self.statistics(policy))

    def statistics(self, policy: Policy) -> Statistics:
        """What each row adds to it. [N, S]"""
        with torch.no_grad(), computing(self.precision, policy.device):
            if self.written:
                outputs = list(self.objective.answers(policy, self.examples, self.max_new_tokens))
            else:
                outputs = list(self.objective.outputs(policy, self.examples, self.max_length))
        return stack([self.metric.statistics(*pair) for pair in zip(self.examples, outputs, strict=True)])


def scoring(
    name: str, recipe: Recipe, objective: Objective, examples: Sequence[Example], max_length: int, folder: Path | None
) -> Scoring:
    """Return how `name` is measured on these rows; of generated answers on at most `train.early_stopping.max_generated`, a seeded draw.

    The recipe holds no `auto`. Raises RecipeError where the objective cannot be measured by it.
    """
    _, of_answers = measured_by(objective, name, folder)
    written = metric_name(name) in map(metric_name, of_answers)
    early, settings = recipe.train.early_stopping, recipe.evaluate
    if written and early and len(examples) > early.max_generated:
        order = permutation(recipe.train.seed, 0, len(examples))[: early.max_generated]
        examples = [examples[index] for index in sorted(order.tolist())]
    metric: Metric = plugins.build("metrics", name, metric_settings(recipe, name), folder)
    assert recipe.train.precision != "auto"
    return Scoring(name, metric, objective, examples, written, max_length, settings.max_new_tokens, recipe.train.precision)
