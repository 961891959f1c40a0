"""Kahneman-Tversky optimisation."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from whet.engine.answers import answer_row, log_ratios, row_logprobs, with_reference
from whet.engine.fields import require
from whet.engine.generate import generate
from whet.engine.machine import computing
from whet.engine.order import shuffled
from whet.errors import DataError
from whet.models.policy import Policy
from whet.models.reference import keep_reference
from whet.models.template import prompt_ids, stop_ids
from whet.plugins import plugin
from whet.protocols import Objective, Plan
from whet.types import Batch, Cursor, Example, Output, Row, State, StepRows, Unit

GOOD, BAD = "good", "bad"


@plugin
class Kto(Objective):
    """Learning from answers that are each good or bad. Ethayarajh et al. 2024 (arXiv:2402.01306), section 4.1.

    The reference point z_0 is estimated from each prompt with the answer of the row before it, over the whole step, and is never below
    0. For validation it is 0, so that validation measures the same thing at every step.
    """

    beta: float = Field(0.1, gt=0)
    """Regularisation toward the reference. Larger stays closer."""
    good_weight: float = Field(1.0, ge=0)
    """Weight of good answers. Where they are rarer than bad ones, raise it: weight times number should be about that of the bad ones."""
    bad_weight: float = Field(1.0, ge=0)
    """Weight of bad answers."""

    needs: ClassVar[tuple[str, ...]] = ("prompt", "response", "label")
    head: ClassVar[Literal["lm", "classify", "value"]] = "lm"
    reference: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1")

    def prepare(self, policy: Policy, examples: Sequence[Example]) -> None:
        keep_reference(policy)

    def units(self, examples: Sequence[Example], policy: Policy, max_length: int) -> list[Unit]:
        rows = with_reference(self._rows(examples, policy, max_length), policy)
        made: list[Unit] = []
        for example, row in zip(examples, rows, strict=True):
            scalars = {"good": float(example.label == GOOD), "kl": 0.0}
            made.append((replace(row, scalars=scalars, weights={"kto": float(row.tokens["supervised"].any())}),))
        return made

    def steps(self, units: Sequence[Unit], policy: Policy, plan: Plan, cursor: Cursor, state: State) -> Iterator[StepRows]:
        for step in shuffled(units, plan, cursor):
            with computing(plan.precision, policy.device):
                kl = _reference_point([unit[0] for unit in step.units], policy, plan.max_length)
            known = tuple((replace(unit[0], scalars={**unit[0].scalars, "kl": kl}),) for unit in step.units)
            yield StepRows(known, step.after)

    def loss(self, policy: Policy, batch: Batch, state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        ratios, counts = log_ratios(policy, batch)  # [R] each
        good = batch.scalars["good"].to(ratios.dtype)
        sign = 2 * good - 1
        point = batch.scalars["kl"].to(ratios.dtype)
        weight = self.good_weight * good + self.bad_weight * (1 - good)
        losses = weight * (1 - torch.sigmoid(self.beta * sign * (ratios - point))) * (counts > 0)
        right = (sign * ratios > 0).to(ratios.dtype)
        return {"kto": losses.sum()}, {"reward_accuracy": right.sum(), "kl": point.sum()}

    def outputs(self, policy: Policy, examples: Sequence[Example], max_length: int) -> Iterator[Output]:
        """Good where the policy finds the answer likelier than its reference does. Without a reference it is one with it."""
        rows = self._rows(examples, policy, max_length)
        ours = row_logprobs(policy, rows)
        theirs = ours if policy.reference is None else row_logprobs(policy.reference, rows)
        for one, other in zip(ours, theirs, strict=True):
            chance = float(torch.sigmoid(torch.tensor(self.beta * (one - other), dtype=torch.float64)))
            yield Output(label=GOOD if chance >= 0.5 else BAD, probabilities={GOOD: chance, BAD: 1 - chance})

    def answers(self, policy: Policy, examples: Sequence[Example], max_new_tokens: int) -> Iterator[Output]:
        """Answer each prompt, greedily."""
        prompts = [prompt_ids(policy.tokenizer, example.prompt or ()) for example in examples]
        for ids in generate(policy, prompts, max_new_tokens, stop_ids(policy.tokenizer)):
            yield Output(text=policy.tokenizer.decode(ids, skip_special_tokens=True).strip())

    def _rows(self, examples: Sequence[Example], policy: Policy, max_length: int) -> list[Row]:
        require(examples, self.needs)
        for example in examples:
            if example.label not in {GOOD, BAD}:
                raise DataError(
                    f"{example.file}:{example.line}: the label is '{example.label}'. Allowed: {GOOD}, {BAD}. Correct it, or leave the row out."
                )
        return [answer_row(example, example.response or "", policy, max_length) for example in examples]


def _reference_point(rows: Sequence[Row], policy: Policy, max_length: int) -> float:
    """Return z_0 of a step: the mean log-ratio of each prompt with the row before's answer, at least 0; 0 for a single row."""
    if len(rows) < 2:
        return 0.0
    assert policy.reference is not None, "prepare() keeps the reference"
    mismatched = [_exchanged(row, rows[place - 1], max_length) for place, row in enumerate(rows)]
    ours, theirs = row_logprobs(policy, mismatched), row_logprobs(policy.reference, mismatched)
    return max(0.0, sum(one - other for one, other in zip(ours, theirs, strict=True)) / len(rows))


def _exchanged(row: Row, other: Row, max_length: int) -> Row:
    """Return a row's prompt with the answer of another one."""
    prompt, answer = row.ids[: _answer_start(row)], other.ids[_answer_start(other) :]
    supervised = torch.cat([torch.zeros(len(prompt)), other.tokens["supervised"][_answer_start(other) :]])
    return Row(row.id, torch.cat([prompt, answer])[:max_length], {"supervised": supervised[:max_length]})


def _answer_start(row: Row) -> int:
    """Return where a row's answer begins; what stands behind it, as a template's line break, is no part of the prompt."""
    supervised = row.tokens["supervised"].nonzero()
    return int(supervised[0]) if len(supervised) else len(row.ids)
