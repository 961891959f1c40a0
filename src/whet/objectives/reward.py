"""Reward models: a number for an answer, learnt from pairs."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from whet.engine.answers import answer_row, both, likelihood_margins, numbered
from whet.engine.fields import require
from whet.engine.order import shuffled
from whet.engine.scores import REWARD_HEAD, new_reward_head, reward_scores
from whet.models.policy import Policy
from whet.plugins import plugin
from whet.protocols import Objective, Plan
from whet.types import Batch, Cursor, Example, Output, Row, State, StepRows, Unit


@plugin
class RewardModel(Objective):
    """A score whose difference says which of two answers is better. Bradley and Terry 1952; Ouyang et al. 2022 (arXiv:2203.02155), eq. 1.

    The head is one linear layer on a decoder's last token, or on the mean of an encoder's tokens.
    """

    centre: float = Field(0.0, ge=0)
    """Weight of the squared sum of both scores, which keeps them around 0. Eisenstein et al. 2023 (arXiv:2312.09244), eq. 2."""

    needs: ClassVar[tuple[str, ...]] = ("chosen", "rejected")
    head: ClassVar[Literal["lm", "classify", "value"]] = "value"
    metrics: ClassVar[tuple[str, ...]] = ("pair_accuracy",)

    def prepare(self, policy: Policy, examples: Sequence[Example]) -> None:
        require(examples, self.needs)
        policy.heads[REWARD_HEAD] = new_reward_head(policy)

    def units(self, examples: Sequence[Example], policy: Policy, max_length: int) -> list[Unit]:
        """Pairs: the chosen answer's row, then the rejected one's."""
        require(examples, self.needs)
        units: list[Unit] = []
        for example in examples:
            chosen, rejected = (answer_row(example, answer, policy, max_length) for answer in both(example))
            units.append((_row(chosen, 1.0), _row(rejected, 0.0)))
        return units

    def steps(self, units: Sequence[Unit], policy: Policy, plan: Plan, cursor: Cursor, state: State) -> Iterator[StepRows]:
        return shuffled(units, plan, cursor)

    def loss(self, policy: Policy, batch: Batch, state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        scores = reward_scores(policy, batch)  # [2P]
        chosen, rejected = scores[0::2], scores[1::2]
        total = -logsigmoid(chosen - rejected).sum()
        if self.centre:
            total = total + self.centre * (chosen + rejected).square().sum()
        hits = 2 * (chosen > rejected).to(scores.dtype).sum()  # metrics are per row, and a pair is two
        return {"pair": total}, {"pair_accuracy": hits}

    def outputs(self, policy: Policy, examples: Sequence[Example], max_length: int) -> Iterator[Output]:
        rows = [row for unit in self.units(examples, policy, max_length) for row in unit]
        scores = [0.0] * len(rows)
        with torch.no_grad():
            for batch in numbered(rows, policy.max_tokens):
                for number, value in zip(batch.row_ids, reward_scores(policy, batch.to(policy.device)).tolist(), strict=True):
                    scores[number] = value
        for chosen, rejected in zip(scores[0::2], scores[1::2], strict=True):
            yield Output(margin=chosen - rejected)

    def baselines(
        self, base: Policy, train: Sequence[Example], examples: Sequence[Example], max_length: int
    ) -> dict[str, list[Output]]:
        """The longer answer, which is a strong guess in many data sets; and which answer the untuned decoder finds likelier."""
        longer = [len(chosen) - len(rejected) for chosen, rejected in map(both, examples)]
        found = {"longer_answer": [Output(margin=float(length)) for length in longer]}
        if base.kind == "decoder":
            found["base_model"] = [Output(margin=margin) for margin in likelihood_margins(base, examples, max_length)]
        return found


def _row(row: Row, weight: float) -> Row:
    return Row(row.id, row.ids, weights={"pair": weight})
