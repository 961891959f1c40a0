"""Proximal policy optimisation of answers."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor, nn

from whet.engine.advantages import clipped_surrogate, gae, whitened
from whet.engine.answers import numbered
from whet.engine.generate import Sampling
from whet.engine.measure import segment_sum
from whet.engine.online import Online
from whet.engine.rollout import RewardSetting, answer_rows, roll_out, score
from whet.engine.scores import scalars
from whet.models.policy import Policy
from whet.models.reference import keep_reference
from whet.plugins import plugin
from whet.types import Batch, Example, Row, State, Unit

VALUE_HEAD = "value"


@plugin
class Ppo(Online):
    """Proximal policy optimisation with a value head and a penalty on leaving the reference. Schulman et al. 2017 (arXiv:1707.06347), eq. 7.

    Each answer token is an action; its reward is -kl * (log p - log p_reference), and the last one has the answer's reward too
    (Ouyang et al. 2022, arXiv:2203.02155, eq. 2). The value head is one linear layer that starts at 0.
    """

    reward: RewardSetting
    """What an answer is worth: metric, regex, numeric, run, or a file of your own, with its settings."""
    kl: float = Field(0.05, ge=0)
    """Weight of the penalty on leaving the reference, per nat."""
    updates: int = Field(2, ge=1)
    """Optimiser steps from each rollout, which has `train.batch_size` answers."""
    clip: float = Field(0.2, gt=0, lt=1)
    """How far the ratio of new to old probability may go from 1 and still be rewarded."""
    value_clip: float = Field(0.2, gt=0)
    """How far a value may move from the old one in a step and still be rewarded."""
    value_weight: float = Field(0.1, gt=0)
    """Weight of the value's squared error."""
    gamma: float = Field(1.0, gt=0, le=1)
    """Discount per token."""
    lam: float = Field(0.95, ge=0, le=1)
    """How far an advantage looks ahead instead of trusting the value (lambda of GAE)."""
    max_new_tokens: int = Field(64, ge=1)
    """Longest answer in tokens, in training."""
    patience: int = Field(100, ge=0)
    """Steps in a row in which all answers are worth the same before the run stops; 0: never."""

    def prepare(self, policy: Policy, examples: Sequence[Example]) -> None:
        keep_reference(policy)
        head = nn.Linear(policy.width, 1)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        policy.heads[VALUE_HEAD] = head.to(policy.device)

    def loss(self, policy: Policy, batch: Batch, state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        mask, tokens = batch.tokens["supervised"], batch.tokens
        states = policy.hidden(batch)
        ratio = ((policy.logprobs(batch, states) - tokens["old_logprobs"]) * mask).exp()
        gained = clipped_surrogate(ratio, tokens["advantages"], self.clip, self.clip) * mask
        values = _values(policy, states)
        old = tokens["old_values"]
        near = old + (values - old).clamp(-self.value_clip, self.value_clip)
        errors = torch.maximum((values - tokens["returns"]).square(), (near - tokens["returns"]).square()) * mask
        counts = segment_sum(mask, batch).clamp(min=1)
        clipped = segment_sum(((ratio - 1).abs() > self.clip).to(mask.dtype) * mask, batch) / counts
        measured = {name: values.sum() for name, values in batch.scalars.items()}
        return {"policy": -gained.sum(), "value": self.value_weight * errors.sum() / 2}, measured | {"clipped": clipped.sum()}

    def rolled_out(self, prompts: Sequence[Row], policy: Policy, sampling: Sampling) -> tuple[Unit, ...]:
        written = roll_out(policy, [row.ids.tolist() for row in prompts], self.max_new_tokens, sampling)
        examples = [row.example for row in prompts if row.example is not None]
        rewards = score(self.reward, examples, [answer.text for answer in written])
        rows = answer_rows(prompts, written, rewards, policy)
        values = _token_values(policy, rows)
        advantages, returns = [], []
        for row, value, worth in zip(rows, values, rewards, strict=True):
            place = row.tokens["supervised"] > 0
            paid = -self.kl * (row.tokens["old_logprobs"] - row.tokens["reference_logprobs"])[place]
            paid[-1] += worth
            advantages.append(gae(paid, value[place], self.gamma, self.lam))
            returns.append(advantages[-1] + value[place])
        flat = float(len(set(rewards)) == 1)
        return tuple(
            (_learnable(row, value, advantage, returned, flat),)
            for row, value, advantage, returned in zip(rows, values, whitened(advantages), returns, strict=True)
        )


def _learnable(row: Row, values: Tensor, advantages: Tensor, returns: Tensor, flat: float) -> Row:
    """Return the row with what the loss needs at its answer's tokens."""
    place = row.tokens["supervised"] > 0
    blank = torch.zeros_like(values)
    tokens = {
        "old_values": values,
        "advantages": blank.masked_scatter(place, advantages),
        "returns": blank.masked_scatter(place, returns),
    }
    num_tokens = float(place.sum())
    return replace(
        row,
        tokens={**row.tokens, **tokens},
        scalars={**row.scalars, "flat": flat},
        weights={"policy": num_tokens, "value": num_tokens},
    )


def _values(policy: Policy, states: Tensor) -> Tensor:
    """Return the value before each token: what is expected of the answer from there on. [T, D] -> [T]"""
    values = scalars(policy, VALUE_HEAD, states)
    return torch.cat([values[:1], values[:-1]])  # a row's first token is never an answer's


def _token_values(policy: Policy, rows: Sequence[Row]) -> list[Tensor]:
    """Return the values of each row's answer without gradient; 0 elsewhere. [T] each"""
    found: dict[int, Tensor] = {}
    with torch.no_grad():
        for batch in numbered(rows, policy.max_tokens):
            values = _values(policy, policy.hidden(batch.to(policy.device))).cpu() * batch.tokens["supervised"]
            parts = torch.split(values, list(batch.lengths))
            found |= dict(zip(batch.row_ids, parts, strict=True))
    return [found[number] for number in range(len(rows))]
