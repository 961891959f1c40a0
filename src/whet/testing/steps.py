"""One step, or many, of an objective on a policy, through the engine itself, with everything fixed that a law does not vary."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from whet import plugins
from whet.engine.fit import Training, TrainPlan, fit
from whet.engine.machine import Precision
from whet.models.policy import Policy
from whet.protocols import Objective
from whet.testing.tiny import as_float64
from whet.types import Cursor, Example, Step, StepRows

BuildPolicy = Callable[[], Policy]
ALL_TOKENS = 10**9


def tiny_plan(policy: Policy, **changes: Any) -> TrainPlan:
    """Return a plan with constant rate, no clipping and no weight decay, but for what `changes` say."""
    plan = TrainPlan(
        num_steps=50,
        num_warmup=0,
        batch_size=4,
        max_tokens=256,
        max_length=policy.context - 2,
        learning_rate=3e-3,
        weight_decay=0.0,
        clip=math.inf,
        precision="fp32",
        seed=0,
        schedule=plugins.build("schedules", "constant", {}),
        optimiser=plugins.build("optimisers", "adamw", {}),
    )
    return replace(plan, **changes)


def ready(objective: Objective, build_policy: BuildPolicy, examples: Sequence[Example], *, double: bool = False) -> Policy:
    """Return a fresh policy, prepared for the objective, all of whose weights learn."""
    policy = build_policy()
    objective.prepare(policy, examples)
    policy.network.requires_grad_(True)
    policy.heads.requires_grad_(True)
    return as_float64(policy) if double else policy


def settle(objective: Objective, policy: Policy, examples: Sequence[Example]) -> None:
    """Fit what no step learns on these examples, as training does before it validates and at its end."""
    plan = tiny_plan(policy)
    with torch.no_grad():
        objective.settle(policy, objective.units(examples, policy, plan.max_length), plan)


def whole_step(objective: Objective, policy: Policy, examples: Sequence[Example]) -> StepRows:
    """Return all examples as the rows of one step."""
    plan = tiny_plan(policy, batch_size=len(examples))
    units = objective.units(examples, policy, plan.max_length)
    assert units, "the objective made no rows of these examples"
    return next(iter(objective.steps(units, policy, replace(plan, batch_size=len(units)), Cursor(), objective.init(policy))))


@dataclass(frozen=True, slots=True)
class Slope:
    """The loss of one step, and its gradient by parameter."""

    losses: dict[str, float]
    gradients: dict[str, Tensor]

    @property
    def loss(self) -> float:
        return sum(self.losses.values())


def slope(
    objective: Objective,
    policy: Policy,
    rows: StepRows,
    *,
    max_tokens: int = ALL_TOKENS,
    padded: bool = False,
    precision: Precision = "fp32",
) -> Slope:
    """Return loss and gradient of a step as the engine makes them; nothing is updated."""
    keep = policy.ability
    policy.ability = dataclasses.replace(keep, packs=keep.packs and not padded)
    recorder = _Record()
    plan = tiny_plan(policy, num_steps=1, max_tokens=max_tokens, optimiser=recorder, precision=precision)
    try:
        step = next(fit(policy, objective, [rows], plan, Training.begin(policy, objective, plan)))
    finally:
        policy.ability = keep
    return Slope(dict(step.losses), recorder.gradients)


def train(
    objective: Objective, policy: Policy, examples: Sequence[Example], plan: TrainPlan, training: Training | None = None
) -> tuple[Training, list[Step]]:
    """Train to the end of the plan, from `training` on. Returns where it stands, and the steps made."""
    units = objective.units(examples, policy, plan.max_length)
    training = training or Training.begin(policy, objective, plan)
    steps = objective.steps(units, policy, plan, training.cursor, training.objective_state)
    made = list(fit(policy, objective, steps, plan, training)) if training.step < plan.num_steps else []
    return training, made


def same_bytes(left: dict[str, Tensor], right: dict[str, Tensor]) -> list[str]:
    """Return the names of tensors that differ in any bit, or stand on one side only."""
    return sorted(
        name
        for name in left.keys() | right.keys()
        if name not in left or name not in right or left[name].dtype != right[name].dtype or not _equal(left[name], right[name])
    )


def _equal(left: Tensor, right: Tensor) -> bool:
    # as bytes, since nan is not equal to itself and 0.0 equals -0.0
    return left.shape == right.shape and torch.equal(*(tensor.reshape(-1).view(torch.uint8) for tensor in (left, right)))


@dataclass(slots=True)
class _Record:
    """An optimiser that notes the gradients and leaves the parameters as they are."""

    gradients: dict[str, Tensor] = field(default_factory=dict)

    def build(self, named: Sequence[tuple[str, Tensor]], learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
        return _Recorder(named, self.gradients)


class _Recorder(torch.optim.Optimizer):
    def __init__(self, named: Sequence[tuple[str, Tensor]], gradients: dict[str, Tensor]) -> None:
        super().__init__([tensor for _, tensor in named], {"lr": 0.0})
        self.named, self.gradients = named, gradients

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for name, tensor in self.named:
            self.gradients[name] = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad.detach().clone()
