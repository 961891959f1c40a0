"""Group relative policy optimisation."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from whet.engine.advantages import clipped_surrogate, group_advantages
from whet.engine.generate import Sampling
from whet.engine.measure import segment_sum
from whet.engine.online import Online
from whet.engine.rollout import RewardSetting, answer_rows, roll_out, score
from whet.models.policy import Policy
from whet.models.reference import keep_reference
from whet.plugins import plugin
from whet.types import Batch, Example, Row, State, Unit


@plugin
class Grpo(Online):
    """Learning from groups of answers to one prompt, each compared with its group. Shao et al. 2024 (arXiv:2402.03300), eq. 3.

    There is no value head: an answer's advantage is its reward less its group's mean, over the group's standard deviation.
    """

    reward: RewardSetting
    """What an answer is worth: metric, regex, numeric, run, or a file of your own, with its settings."""
    group: int = Field(8, ge=2)
    """Answers to each prompt. A step has `train.batch_size` prompts, and so many answers to each."""
    kl: float = Field(0.04, ge=0)
    """Weight of the divergence from the reference, per token and nat. At 0 no reference is kept."""
    updates: int = Field(1, ge=1)
    """Optimiser steps from each rollout."""
    clip: float = Field(0.2, gt=0, lt=1)
    """How far the ratio of new to old probability may fall below 1 and still be rewarded."""
    clip_high: float = Field(0.2, gt=0)
    """How far it may rise above 1. Yu et al. 2025 (arXiv:2503.14476), eq. 10, take 0.28."""
    per: Literal["token", "answer"] = Field("token")
    """What weighs the same: each token of the step (Yu et al. 2025, eq. 12), or each answer (Shao et al. 2024, eq. 3)."""
    scale: bool = Field(True)
    """Divide advantages by the group's standard deviation; false: Liu et al. 2025 (arXiv:2503.20783)."""
    max_new_tokens: int = Field(64, ge=1)
    """Longest answer in tokens, in training."""
    patience: int = Field(100, ge=0)
    """Steps in a row in which every group's answers are worth the same before the run stops; 0: never."""

    def prepare(self, policy: Policy, examples: Sequence[Example]) -> None:
        if self.kl:
            keep_reference(policy)

    def loss(self, policy: Policy, batch: Batch, state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        mask, tokens = batch.tokens["supervised"], batch.tokens
        logprobs = policy.logprobs(batch)
        ratio = ((logprobs - tokens["old_logprobs"]) * mask).exp()
        away = (tokens["reference_logprobs"] - logprobs) * mask
        divergence = away.exp() - away - 1  # never below 0: Schulman 2020, the estimator k3
        gained = clipped_surrogate(ratio, tokens["advantages"], self.clip, self.clip_high) - self.kl * divergence
        of_rows, counts = segment_sum(gained * mask, batch), segment_sum(mask, batch).clamp(min=1)
        clipped = segment_sum(((ratio < 1 - self.clip) | (ratio > 1 + self.clip_high)).to(mask.dtype) * mask, batch) / counts
        measured = {name: values.sum() for name, values in batch.scalars.items()} | {"clipped": clipped.sum()}
        return {"policy": -(of_rows if self.per == "token" else of_rows / counts).sum()}, measured

    def rolled_out(self, prompts: Sequence[Row], policy: Policy, sampling: Sampling) -> tuple[Unit, ...]:
        repeated = [row for row in prompts for _ in range(self.group)]
        written = roll_out(policy, [row.ids.tolist() for row in repeated], self.max_new_tokens, sampling)
        examples = [row.example for row in repeated if row.example is not None]
        rewards = score(self.reward, examples, [answer.text for answer in written])
        grouped = torch.tensor(rewards, dtype=torch.float64).view(len(prompts), self.group)
        advantages = group_advantages(grouped, scaled=self.scale).flatten().tolist()
        flat = (grouped == grouped[:, :1]).all(dim=1).repeat_interleave(self.group).tolist()
        rows = [
            self._learnable(row, advantage, float(same))
            for row, advantage, same in zip(answer_rows(repeated, written, rewards, policy), advantages, flat, strict=True)
        ]
        return tuple(tuple(rows[start : start + self.group]) for start in range(0, len(rows), self.group))

    def _learnable(self, row: Row, advantage: float, flat: float) -> Row:
        mask = row.tokens["supervised"]
        return replace(
            row,
            tokens={**row.tokens, "advantages": advantage * mask.to(row.tokens["old_logprobs"].dtype)},
            scalars={**row.scalars, "flat": flat},
            weights={"policy": float(mask.sum()) if self.per == "token" else 1.0},
        )
