"""The only loop. A generator: it yields after each update, and the caller logs, validates, saves or stops.

An objective yields whole steps; they are cut into packed micro-batches here, each term's sum is divided once by its weight over the
whole step, and so neither the cut nor the packing can change a result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import Optimizer

from whet.engine.consolidate import Anchor
from whet.engine.cut import cut, total_weights
from whet.engine.machine import Precision, computing
from whet.engine.optimise import build, grad_norm, restore_state, share_rates, state_tensors
from whet.errors import TrainingError
from whet.models.linear import hidden_matrices
from whet.models.policy import Policy
from whet.models.reference import part_from_reference
from whet.types import Batch, Cursor, Objective, Optimiser, Schedule, State, Step, StepRows, Unit

PENALTY = "ewc"
"""The name of the anchor's term among a step's losses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainPlan:
    """Everything that is fixed before the first step; stored with the run."""

    num_steps: int
    num_warmup: int
    batch_size: int
    max_tokens: int
    max_length: int
    learning_rate: float
    weight_decay: float
    clip: float
    precision: Precision
    seed: int
    schedule: Schedule
    optimiser: Optimiser


@dataclass(slots=True)
class Training:
    """What lives from step to step: the optimiser, where the order stands, and the objective's state."""

    named: Sequence[tuple[str, Tensor]]
    optimiser: Optimizer
    objective_state: State
    step: int = 0
    cursor: Cursor = field(default_factory=Cursor)

    @classmethod
    def begin(cls, policy: Policy, objective: Objective, plan: TrainPlan) -> Training:
        """Return the state before the first step."""
        named = policy.trainable()
        assert named, "the technique left nothing to train"
        part_from_reference(policy)
        optimiser = build(plan.optimiser, named, hidden_matrices(policy), plan.learning_rate, plan.weight_decay)
        if policy.rates:
            share_rates(optimiser, named, policy.rates)
        return cls(named, optimiser, objective.init(policy))

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that is a tensor, by name: parameters and the optimiser's state."""
        parameters = {f"model/{name}": parameter.detach() for name, parameter in self.named}
        return parameters | {f"optimiser/{name}": value for name, value in state_tensors(self.optimiser, self.named).items()}

    def restore(self, tensors: Mapping[str, Tensor], step: int, cursor: Cursor, state: State) -> None:
        """Go back to a saved step. Values are copied into the parameters that exist."""
        for name, parameter in self.named:
            if f"model/{name}" not in tensors or tensors[f"model/{name}"].shape != parameter.shape:
                raise ValueError(f"{name} is missing, or has another shape")
        with torch.no_grad():
            for name, parameter in self.named:
                parameter.copy_(tensors[f"model/{name}"])
        prefix = "optimiser/"
        saved = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        restore_state(self.optimiser, self.named, saved)
        self.step, self.cursor, self.objective_state = step, cursor, dict(state)


class NonFiniteLoss(TrainingError):
    """A loss or gradient that is not a number; the update was not made."""

    def __init__(self, step: int, row_ids: tuple[int, ...]) -> None:
        super().__init__(f"step {step}: the loss is not finite")
        self.step, self.row_ids = step, row_ids


def fit(
    policy: Policy,
    objective: Objective,
    steps: Iterable[StepRows],
    plan: TrainPlan,
    training: Training,
    anchor: Anchor | None = None,
) -> Iterator[Step]:
    """Train until `plan.num_steps`, yielding after each update. Raises NonFiniteLoss before an update that would spoil the weights.

    `anchor` adds its penalty to the loss, once a step.
    """
    parameters = [parameter for _, parameter in training.named]
    for rows in steps:
        if training.step >= plan.num_steps:
            return
        number = training.step + 1
        rate = plan.learning_rate * _factor(plan, number)
        batches = list(cut(rows.units, plan.max_tokens))
        weights = total_weights(batches)
        losses, metrics = _accumulate(policy, objective, batches, weights, plan, training.objective_state, number, anchor)
        norm = grad_norm(parameters)
        if not math.isfinite(norm):
            raise NonFiniteLoss(number, tuple(row for batch in batches for row in batch.row_ids))
        scale = min(1.0, plan.clip / (float(norm) + 1e-6))
        for parameter in parameters:
            if parameter.grad is not None and scale < 1.0:
                parameter.grad.mul_(scale)
        for group in training.optimiser.param_groups:
            group["lr"] = rate * group.get("lr_ratio", 1.0)
        training.optimiser.step()
        training.optimiser.zero_grad(set_to_none=True)
        training.objective_state = objective.update(training.objective_state, metrics) | rows.carry
        training.step, training.cursor = number, rows.after
        num_rows, num_tokens = sum(len(batch.row_ids) for batch in batches), sum(batch.num_tokens for batch in batches)
        yield Step(number, losses, metrics, rate, float(norm), num_rows, num_tokens, rows.after)


def _factor(plan: TrainPlan, number: int) -> float:
    """Return the share of the peak rate at a step. Raises TrainingError where the schedule gives no share."""
    found: object = plan.schedule.factor(number, plan.num_steps, plan.num_warmup)
    if not isinstance(found, int | float) or not 0 <= found < math.inf:
        raise TrainingError(
            f"schedule '{type(plan.schedule).__name__}' gave {found!r} at step {number}, where a share is 0 or more."
        )
    return float(found)


def validate(policy: Policy, objective: Objective, units: Sequence[Unit], plan: TrainPlan, state: State) -> dict[str, float]:
    """Return the mean of each term over these units, as training would compute it, without gradient."""
    with torch.no_grad(), computing(plan.precision, policy.device):
        return mean_terms(policy, objective, cut(units, plan.max_tokens), state)


def mean_terms(policy: Policy, objective: Objective, batches: Iterable[Batch], state: State) -> dict[str, float]:
    """Return the mean of each term of the loss over these batches."""
    sums: dict[str, float] = {}
    weights: dict[str, float] = {}
    for batch in batches:
        terms, _ = objective.loss(policy, batch.to(policy.device), state)
        for term, total in terms.items():
            sums[term] = sums.get(term, 0.0) + float(total)
            weights[term] = weights.get(term, 0.0) + batch.weights[term]
    return {term: total / weights[term] for term, total in sums.items() if weights[term]}


def validation(
    policy: Policy, objective: Objective, train: Sequence[Unit], units: Sequence[Unit], plan: TrainPlan, state: State
) -> dict[str, float]:
    """Return what training watches, lower is better: the loss of these units, or what the objective says instead.

    What no step learns is fitted on the training units first.
    """
    with torch.no_grad(), computing(plan.precision, policy.device):
        objective.settle(policy, train, plan)
        said = objective.trial(policy, units, plan)
    return said or validate(policy, objective, units, plan, state)


def calibrate(policy: Policy, objective: Objective, train: Sequence[Unit], units: Sequence[Unit], plan: TrainPlan) -> None:
    """Let the objective fit what no step learns on training units, and the policy's temperature on others, as `validation` does."""
    with torch.no_grad(), computing(plan.precision, policy.device):
        objective.settle(policy, train, plan)
        if units and not objective.online:
            objective.trial(policy, units, plan)


def _accumulate(
    policy: Policy,
    objective: Objective,
    batches: Sequence[Batch],
    weights: Mapping[str, float],
    plan: TrainPlan,
    state: State,
    number: int,
    anchor: Anchor | None,
) -> tuple[dict[str, float], dict[str, float]]:
    """Add up the gradients of a step. Returns each term's mean, and each metric's. The penalty goes with the first micro-batch."""
    losses: dict[str, float] = dict.fromkeys(weights, 0.0)
    metrics: dict[str, float] = {}
    num_rows = sum(len(batch.row_ids) for batch in batches)
    for batch in batches:
        with computing(plan.precision, policy.device):
            sums, measured = objective.loss(policy, batch.to(policy.device), state)
        terms = [total / weights[term] for term, total in sums.items() if weights[term]]
        if not terms:
            continue
        if anchor is not None and PENALTY not in losses:
            terms.append(anchor.penalty())  # it depends on the weights only, so on no cut
            losses[PENALTY] = float(terms[-1].detach())
        loss = torch.stack(terms).sum()
        if not torch.isfinite(loss.detach()):
            raise NonFiniteLoss(number, batch.row_ids)
        loss.backward()  # type: ignore[no-untyped-call]
        for term, total in sums.items():
            losses[term] += float(total.detach()) / weights[term] if weights[term] else 0.0
        for name, total in measured.items():
            metrics[name] = metrics.get(name, 0.0) + float(total.detach()) / num_rows
    return losses, metrics
