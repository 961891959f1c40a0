"""A trained reward model as a reward."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import AfterValidator

from whet.engine.answers import answer_row, numbered
from whet.engine.scores import reward_scores
from whet.errors import RecipeError, RunError
from whet.models.named import load_run_model
from whet.models.policy import Policy
from whet.models.save import read_card
from whet.plugins import Place, plugin
from whet.protocols import Reward
from whet.types import Example


def _is_reward_run(name: str) -> str:
    """Return the path of a run with a reward model. Raises RecipeError, before anything is loaded."""
    try:
        card = read_card(Path(name) / "model")
    except RunError as error:
        raise RecipeError(f"reward 'run': {error}") from None
    if card.objective != "reward":
        raise RecipeError(
            f"reward 'run': {name} was trained with objective '{card.objective}'. Allowed: a run of objective 'reward'."
        )
    return name


@plugin
class RewardRun(Reward):
    """The score of a reward model that was trained with objective 'reward'."""

    path: Annotated[Place, AfterValidator(_is_reward_run)]
    """Folder of the run, from the folder in which whet is started, or else beside the recipe."""

    needs: ClassVar[tuple[str, ...]] = ("prompt",)

    def score(self, examples: Sequence[Example], answers: Sequence[str]) -> list[float]:
        policy, longest = self._model
        rows = [answer_row(example, answer, policy, longest) for example, answer in zip(examples, answers, strict=True)]
        found = [0.0] * len(rows)
        with torch.no_grad():
            for batch in numbered(rows, policy.max_tokens):
                for number, value in zip(batch.row_ids, reward_scores(policy, batch.to(policy.device)).tolist(), strict=True):
                    found[number] = value
        return found

    @cached_property
    def _model(self) -> tuple[Policy, int]:
        policy, card = load_run_model(Path(self.path) / "model")
        return policy, card.max_length
