"""What a job will take: memory from the formula, seconds from its first steps. Nothing of the job is changed."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from whet.engine.machine import Precision, memory_now
from whet.engine.optimise import build, state_tensors
from whet.engine.order import permutation
from whet.engine.parallel import size
from whet.models.linear import hidden_matrices
from whet.models.memory import Estimate, Load, Logits, estimate, weight_bytes
from whet.models.quantised import Quantised
from whet.models.shapes import shape_of
from whet.protocols import Optimiser
from whet.stages.job import Job
from whet.stages.keeping import kept_bytes
from whet.types import Unit

VALIDATION_COST = 0.4
"""Of a forward and backward pass of a token, what a forward pass alone takes; a third by multiplications."""
SPREAD = 0.15
"""How far seconds may lie off either way at the least: machines are shared, and few steps are timed."""
TRIED = 128
"""Longer side of the matrices that an optimiser is tried on, to see what it keeps."""
MOST_EPOCHS = 20
"""Epochs whose order is looked at to see how many tokens the largest step has."""


@dataclass(frozen=True, slots=True)
class Seconds:
    """How long training takes, as a range."""

    low: float
    """Where early stopping ends it as soon as it can."""
    high: float
    """All planned steps, and as many on all rows after them where there is a second phase."""
    step_s: float
    """One step with the rows of a usual one."""

    def record(self) -> dict[str, float]:
        return {"low": round(self.low, 3), "high": round(self.high, 3), "step": round(self.step_s, 4)}


def estimate_job(job: Job) -> Estimate:
    """Return the memory that training this job takes. What the process holds for the rest is measured, here and now."""
    load, program = job_load(job), program_bytes(job)
    kept = kept_bytes(job, estimate(shape_of(job.policy), load, program).total)
    return estimate(shape_of(job.policy), replace(load, kept=kept), program)


def without_states(job: Job) -> int:
    """Return the bytes that training this job takes beside what is kept of rows behind frozen blocks."""
    return estimate(shape_of(job.policy), job_load(job), program_bytes(job)).total


def program_bytes(job: Job) -> int:
    """Return what this process holds beside the network."""
    return max(memory_now() - weight_bytes(shape_of(job.policy)), 0)


def job_load(
    job: Job, max_tokens: int | None = None, precision: Precision | None = None, accelerator: bool | None = None
) -> Load:
    """Return what training this job asks of its network; with other micro-batches, in another precision, or elsewhere if asked."""
    policy, plan = job.policy, job.plan
    most = plan.max_tokens if max_tokens is None else max_tokens
    tokens, row = _largest_batch(job, most)
    trainable = policy.trainable()
    learning = sum(tensor.numel() for _, tensor in trainable)
    own, hidden = _own_weights(job), hidden_matrices(policy)
    scored = max((_tokens(units) for units in (job.validation_units, job.train_units) if units), default=tokens)
    return Load(
        tokens=tokens,
        scored=max(min(most, scored), row),
        supervised=_supervised(job.train_units),
        row=row,
        precision=plan.precision if precision is None else precision,
        trainable=learning,
        deep=_depth(job),
        whole=own > 0,
        learnt=min(1.0, sum(tensor.numel() for name, tensor in trainable if name in hidden) / max(1, shape_of(policy).linear)),
        state=state_bytes(plan.optimiser, trainable, hidden),
        logits=logits_of(job.objective.head),
        reference=4 * own if policy.reference is not None else 0,
        bits=bits_of(job),
        fused=_is_fused(job, plan.precision if precision is None else precision, accelerator),
        int8=job.recipe.train.frozen_precision == "int8",
        recomputed=job.recomputed,
        shards=size() if job.way == "fsdp" else 1,
        again=job.recipe.train.refit is True and bool(job.validation_units),
        accelerator=policy.device.type != "cpu" if accelerator is None else accelerator,
    )


def _is_fused(job: Job, precision: Precision, accelerator: bool | None) -> bool:
    """Whether the network's steps are the package's own fused ones, with what the technique has put into it."""
    fusion, here = job.policy.fusion, job.policy.device.type != "cpu"
    asked = accelerator is None or accelerator == here
    return precision == "bf16" and asked and fusion is not None and fusion.form.layers(job.policy.network.base_model) is not None


def logits_of(head: str) -> Logits:
    """Return how an objective's head scores the vocabulary."""
    return "chunked" if head in {"lm", "seq2seq"} else "whole" if head == "masked" else "none"


def state_bytes(optimiser: Optimiser, named: Sequence[tuple[str, Tensor]], hidden: Mapping[str, bool]) -> float:
    """Return the bytes that an optimiser keeps of each number that learns. It is tried: on each small parameter, and on stand-ins of others.

    What it keeps of a matrix may grow with rows, columns and their product, as it does for Adafactor; four small ones tell how.
    Raises WhetError where it cannot work on the parameters' device.
    """
    known: dict[tuple[str, tuple[int, ...], bool | None], float] = {}
    total = 0.0
    for name, tensor in named:
        kind = re.sub("[0-9]+", "", name), tuple(tensor.shape), hidden.get(name)  # layers are alike
        if kind not in known:
            known[kind] = _kept(optimiser, name, tensor, hidden)
        total += known[kind]
    return total / max(1, sum(tensor.numel() for _, tensor in named))


def _kept(optimiser: Optimiser, name: str, tensor: Tensor, hidden: Mapping[str, bool]) -> float:
    """Return the bytes that are kept of one parameter, by name and shape; its values are not looked at."""
    device = "cpu" if tensor.device.type == "meta" else tensor.device

    def tried(*shape: int) -> float:
        parameter = torch.nn.Parameter(torch.zeros(shape, device=device))
        made = build(optimiser, [(name, parameter)], {name: hidden[name]} if name in hidden else {}, 1e-3, 0.0)
        parameter.grad = torch.ones_like(parameter)
        made.step()
        return float(sum(value.nbytes for value in state_tensors(made, [(name, parameter)]).values() if value.ndim))

    if tensor.numel() <= TRIED**2:
        return tried(*tensor.shape)
    if tensor.ndim < 2:
        small, large = tried(TRIED**2 // 2), tried(TRIED**2)
        return large + (large - small) / (TRIED**2 // 2) * (tensor.numel() - TRIED**2)
    *stack, rows, columns = tensor.shape
    least = TRIED // 2
    corner, wide, tall, square = tried(least, least), tried(least, TRIED), tried(TRIED, least), tried(TRIED, TRIED)
    r, c = (rows - least) / least, (columns - least) / least
    return math.prod(stack) * (corner + r * (tall - corner) + c * (wide - corner) + r * c * (square - tall - wide + corner))


class Pace:
    """How fast the first steps of a run are, seen from its log. The first is a warm-up, and does not count."""

    def __init__(self, job: Job, load_s: float, timed: int = 4) -> None:
        self.job, self.load_s, self.timed = job, load_s, timed
        self.steps: list[float] = []
        """Seconds of each step that counts."""
        self.validations: list[float] = []
        self.before: float | None = None
        self.seconds: Seconds | None = None

    def see(self, record: Mapping[str, Any]) -> None:
        """Take note of a line of the log; once enough steps are seen, `seconds` is there."""
        seen = {"step": self.steps, "validation": self.validations}.get(str(record.get("kind")))
        if seen is None or self.seconds is not None:
            return
        now = time.monotonic()
        if self.before is not None:
            seen.append(now - self.before)
        self.before = now
        if len(self.steps) >= self.timed:
            self.seconds = seconds_of(self.job, self.steps, self.validations, self.load_s)


def seconds_of(job: Job, steps: Sequence[float], validations: Sequence[float], load_s: float = 0.0) -> Seconds:
    """Return how long training takes, by the seconds of a few steps with usual rows, and of validations where any were timed.

    `load_s` are those of loading the model and making the rows, which training on all rows does once more.
    """
    step = fmean(steps)
    watched = fmean(validations) if validations else VALIDATION_COST * step * _tokens(job.validation_units) / _usual_step(job)
    planned, every = job.plan.num_steps, int(job.recipe.train.validate_every)
    early = job.recipe.train.early_stopping
    soonest = min(planned, every * (early.patience + 1)) if early and job.validation_units else planned
    rows = 1 + len(job.validation_units) / max(1, len(job.train_units))
    again = rows if job.recipe.train.refit is True and job.validation_units else 0.0

    def training(num_steps: int, after: int) -> float:
        validating = -(-num_steps // every) * watched if job.validation_units else 0.0
        return (num_steps + again * after) * step + validating + (load_s if again else 0.0)

    return Seconds(
        low=(1 - SPREAD) * min(step, *steps) / step * training(soonest, min(every, soonest)),
        high=(1 + SPREAD) * training(planned, planned),
        step_s=step,
    )


def with_tokens(load: Load, max_tokens: int) -> Load:
    """Return the load with micro-batches of at most so many tokens; a row stays whole."""
    return replace(load, tokens=max(load.row, min(load.tokens, max_tokens)), scored=max(load.row, min(load.scored, max_tokens)))


def _largest_batch(job: Job, max_tokens: int) -> tuple[int, int]:
    """Return the tokens of the largest micro-batch of the run, rows being shuffled by its seed, and of the longest row."""
    plan, virtual = job.plan, job.policy.num_virtual
    written = int(getattr(job.objective, "max_new_tokens", 0)) if job.objective.online else 0
    copies = int(getattr(job.objective, "group", 1)) if job.objective.online else 1
    sizes = np.array([copies * (unit_tokens(unit) + len(unit) * (written + virtual)) for unit in job.train_units])
    rows = [row.num_tokens + written + virtual for unit in job.train_units for row in unit]
    epochs = min(MOST_EPOCHS, -(-plan.num_steps // job.steps_per_epoch))
    starts = np.arange(0, len(sizes), plan.batch_size)
    steps = [np.add.reduceat(sizes[permutation(plan.seed, epoch, len(sizes))], starts).max() for epoch in range(epochs)]
    largest = max(min(max_tokens, int(max(steps))), int(sizes.max()))
    if not job.policy.ability.packs:
        largest = round(largest * min(2.0, max(rows) / fmean(rows)))
    return largest, max(rows)


def _usual_step(job: Job) -> float:
    return _tokens(job.train_units) / len(job.train_units) * min(job.plan.batch_size, len(job.train_units))


def _tokens(units: Sequence[Unit]) -> int:
    return sum(map(unit_tokens, units))


def unit_tokens(unit: Unit) -> int:
    """Return the tokens that a unit costs, sources too."""
    return sum(row.num_tokens for row in unit)


def _supervised(units: Sequence[Unit]) -> float:
    """Return the share of tokens that have a target; all where the rows do not say."""
    rows = [row for unit in units[:2000] for row in unit]
    marked = [row for row in rows if "supervised" in row.tokens]
    total = sum(row.num_tokens for row in marked)
    found = sum(float(row.tokens["supervised"].sum()) for row in marked)
    return found / total if found else 1.0


def _own_weights(job: Job) -> int:
    """Return how many of the base's own weights learn, beside what a technique added."""
    network = job.policy.network
    learning = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    added = sum(parameter.numel() for parameter in network.parameters()) - job.policy.num_parameters
    return 0 if bits_of(job) != "fp32" else max(0, learning - max(0, added))


def bits_of(job: Job) -> Literal["fp32", "nf4", "int8"]:
    """Return in what the linear layers of the job's network are held."""
    found = (module.bits for module in job.policy.network.modules() if isinstance(module, Quantised))
    return next(found, "fp32")


def _depth(job: Job) -> float:
    """Return the share of the layers that gradients flow through: those from the lowest one that learns up to the output."""
    inside = [name for name, _ in job.policy.trainable() if name.startswith("network.")]
    if not inside and not job.policy.num_virtual:
        return 0.0
    numbers = [next((int(word) for word in name.split(".") if word.isdigit()), None) for name in inside]
    known = [number for number in numbers if number is not None]
    embeds = any(number is None and "embed" in name for number, name in zip(numbers, inside, strict=True))
    if embeds or job.policy.num_virtual or not known:
        return 1.0
    return min(1.0, max(0.0, 1 - min(known) / max(1, shape_of(job.policy).layers)))
