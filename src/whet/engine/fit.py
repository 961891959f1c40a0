"""The only loop. A generator: it yields after each update, and the caller logs, validates, saves or stops.

An objective yields whole steps; they are cut into packed micro-batches here, for all devices, each term's sum is divided once by its
weight over the whole step, and so neither the cut nor the packing nor the number of devices can change a result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import Optimizer

from whet.engine.consolidate import Anchor
from whet.engine.lookups import Lookups, Waiting
from whet.engine.machine import Precision, computing
from whet.engine.optimise import build, restore_state, share_rates, state_tensors
from whet.engine.parallel import Work, divided, from_first, gathered, leads, size, summed
from whet.engine.shards import Shards
from whet.errors import TrainingError
from whet.models.linear import hidden_matrices
from whet.models.policy import Policy
from whet.models.reference import part_from_reference
from whet.protocols import Objective, Optimiser, Schedule
from whet.types import Batch, Cursor, State, Step, StepRows, Unit

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
    """What learns, as this device holds it."""
    optimiser: Optimizer
    objective_state: State
    step: int = 0
    cursor: Cursor = field(default_factory=Cursor)
    shards: Shards = field(default_factory=Shards)

    @classmethod
    def begin(cls, policy: Policy, objective: Objective, plan: TrainPlan) -> Training:
        """Return the state before the first step."""
        learning = policy.trainable()
        assert learning, "the technique left nothing to train"
        part_from_reference(policy)
        shards = Shards.of(learning)
        named = shards.held(learning)
        optimiser = build(plan.optimiser, named, hidden_matrices(policy), plan.learning_rate, plan.weight_decay)
        if policy.rates:
            share_rates(optimiser, named, policy.rates)
        return cls(named, optimiser, objective.init(policy), shards=shards)

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that is a tensor, by name: parameters and the optimiser's state. Every device must ask; the first gets them."""
        parameters = {f"model/{name}": parameter.detach() for name, parameter in self.named}
        state = {f"optimiser/{name}": value for name, value in state_tensors(self.optimiser, self.named).items()}
        return self.shards.whole(parameters | state)

    def restore(self, tensors: Mapping[str, Tensor], step: int, cursor: Cursor, state: State) -> None:
        """Go back to a saved step. Values are copied into the parameters that exist."""
        tensors = self.shards.mine(tensors)
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
    lookups = Lookups(policy.network)
    for rows in _agreed(steps, objective):
        if training.step >= plan.num_steps:
            return
        number = training.step + 1
        rate = plan.learning_rate * _factor(plan, number)
        work = divided(rows.units, plan.max_tokens)
        with lookups.together() as waiting:
            losses, metrics = _accumulate(policy, objective, work, plan, training.objective_state, number, anchor, waiting)
        norm = training.shards.take_gradients(training.named)
        if not math.isfinite(norm):
            raise NonFiniteLoss(number, tuple(row.id for unit in rows.units for row in unit))
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
        yield Step(number, losses, metrics, rate, float(norm), work.num_rows, work.num_tokens, rows.after)


def _agreed(steps: Iterable[StepRows], objective: Objective) -> Iterator[StepRows]:
    """Yield the steps; what a policy has written itself is learnt from as the first device has it."""
    for rows in steps:
        yield from_first(rows) if objective.online else rows


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
        sums, weights = _sums(policy, objective, divided(units, plan.max_tokens).batches, state)
        found = gathered((sums, weights))
        return _means(summed([part for part, _ in found]), summed([part for _, part in found]))


def mean_terms(policy: Policy, objective: Objective, batches: Iterable[Batch], state: State) -> dict[str, float]:
    """Return the mean of each term of the loss over these batches."""
    return _means(*_sums(policy, objective, batches, state))


def _sums(
    policy: Policy, objective: Objective, batches: Iterable[Batch], state: State
) -> tuple[dict[str, float], dict[str, float]]:
    """Return each term's sum over these batches, and its weight; those that are there for company add nothing."""
    sums: dict[str, float] = {}
    weights: dict[str, float] = {}
    for batch in batches:
        terms, _ = objective.loss(policy, batch.to(policy.device), state)
        for term, total in terms.items() if batch.row_ids else ():
            sums[term] = sums.get(term, 0.0) + float(total)
            weights[term] = weights.get(term, 0.0) + batch.weights[term]
    return sums, weights


def _means(sums: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, float]:
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
    work: Work,
    plan: TrainPlan,
    state: State,
    number: int,
    anchor: Anchor | None,
    waiting: Waiting,
) -> tuple[dict[str, float], dict[str, float]]:
    """Add up the gradients of a step. Returns each term's mean over all devices, and each metric's.

    The penalty goes with the first micro-batch. All devices raise NonFiniteLoss where one finds a number that is none, and only at the
    end, so that none waits for another that has left.
    """
    losses: dict[str, float] = dict.fromkeys(work.weights, 0.0)
    metrics: dict[str, float] = {}
    spoilt: tuple[int, ...] = ()
    for batch in work.batches:
        with computing(plan.precision, policy.device):
            sums, measured = objective.loss(policy, batch.to(policy.device), state)
        share = 1.0 if batch.row_ids else 0.0
        terms = [share * total / work.weights[term] for term, total in sums.items() if work.weights[term]]
        if not terms and size() == 1:
            continue
        if anchor is not None and PENALTY not in losses and leads():
            terms.append(anchor.penalty())  # it depends on the weights only, so on no cut
            losses[PENALTY] = float(terms[-1].detach())
        loss = torch.stack(terms or [0.0 * total for total in sums.values()]).sum()
        if not torch.isfinite(loss.detach()):
            spoilt = spoilt or batch.row_ids
        loss.backward()  # type: ignore[no-untyped-call]
        waiting.settle()
        for term, total in sums.items() if share else ():
            losses[term] += float(total.detach()) / work.weights[term] if work.weights[term] else 0.0
        for name, total in measured.items() if share else ():
            metrics[name] = metrics.get(name, 0.0) + float(total.detach()) / work.num_rows
    found = gathered((spoilt, losses, metrics))
    if spoilt := next((rows for rows, _, _ in found if rows), ()):
        raise NonFiniteLoss(number, spoilt)
    return summed([part for _, part, _ in found]), summed([part for _, _, part in found])
