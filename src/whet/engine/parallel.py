"""Several devices that learn as one: each takes a share of every step's rows, and gradients are summed, so that the result is one device's.

One process for each device, started by torchrun; the first of them leads, and alone writes. With one process nothing here does anything.
Small messages between processes (`gathered`, `from_first`) go through the processor; gradients through the devices.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from whet.engine.cut import cut, pack, total_weights
from whet.errors import TrainingError
from whet.types import Batch, Row, Unit

Way = Literal["ddp", "fsdp"]
"""ddp: every device holds the whole model. fsdp: each holds a share of it (`engine.shards`)."""
BUCKET = 16 << 20
"""Numbers of gradients that travel together."""
PATIENCE = datetime.timedelta(days=1)
"""How long one process waits for another, which may be scoring or saving; one that has died is noticed at once."""
T = TypeVar("T")


class PeerGone(TrainingError):
    """Another process of the run has ended; it says itself why."""


@contextmanager
def joined() -> Iterator[None]:
    """Within this, the processes that torchrun has started are one run; alone, this does nothing."""
    if not started_together() or dist.is_initialized():
        yield
        return
    accelerated = torch.cuda.is_available()
    if accelerated:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    with _together():
        dist.init_process_group("cpu:gloo,cuda:nccl" if accelerated else "gloo", timeout=PATIENCE)
    try:
        yield
    except RuntimeError as error:  # of a collective that the library itself has begun
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise _gone(error) from None
        raise
    finally:
        dist.destroy_process_group()


def started_together() -> bool:
    """Whether torchrun has started this process with others. Needs no process group yet."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1 and "LOCAL_RANK" in os.environ


def size() -> int:
    """Return how many devices learn together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process among them, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def leads() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


def on_this_machine() -> int:
    """Return how many of the processes share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if dist.is_initialized() else 1


def gathered(value: T) -> list[T]:
    """Return what each process gave, in the same order everywhere."""
    if size() == 1:
        return [value]
    found: list[Any] = [None] * size()
    with _together():
        dist.all_gather_object(found, value)
    return found


def from_first(value: T) -> T:
    """Return what the first process gave."""
    if size() == 1:
        return value
    held: list[Any] = [value]
    with _together():
        dist.broadcast_object_list(held, src=0)
    found: T = held[0]
    return found


def anyone(said: bool) -> bool:
    """Whether any process says so."""
    return any(gathered(said))


def wait() -> None:
    """Return once every process has come here."""
    gathered(None)


def by_first(make: Callable[[], T]) -> T:
    """Let the first process make something, and return it to all."""
    return from_first(make() if leads() else None)  # type: ignore[return-value]


def summed(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the sum of each number over what the processes gave, by name; all names that any of them has."""
    total: dict[str, float] = {}
    for one in parts:
        for name, value in one.items():
            total[name] = total.get(name, 0.0) + value
    return total


@dataclass(frozen=True, slots=True)
class Work:
    """A step's rows as they are cut for all devices."""

    batches: list[Batch]
    """This device's micro-batches; as many on each device. One without row ids is there for company only: it weighs nothing."""
    weights: dict[str, float]
    """What each term's sum is divided by, over all devices."""
    num_rows: int
    num_tokens: int


def divided(units: Sequence[Unit], max_tokens: int) -> Work:
    """Return this device's share of a step's units, in micro-batches, and what the whole step weighs.

    It depends on the units and on the number of devices only, so no device has to tell another.
    """
    cuts = [list(cut(part, max_tokens)) for part in shares(units, size())]
    every = [batch for batches in cuts for batch in batches]
    mine = cuts[rank()]
    if len(mine) < (most := max(map(len, cuts))):
        smallest = pack(min(units, key=_num_tokens))
        company = replace(smallest, row_ids=(), weights=dict.fromkeys(smallest.weights, 0.0))
        mine = mine + [company] * (most - len(mine))
    return Work(mine, total_weights(every), sum(len(batch.row_ids) for batch in every), sum(batch.num_tokens for batch in every))


def shares(units: Sequence[Unit], number: int) -> list[list[Unit]]:
    """Return the units in so many parts with about as many tokens in each: the longest first, each to the part that has the fewest."""
    if number == 1:
        return [list(units)]
    parts: list[list[Unit]] = [[] for _ in range(number)]
    held = [0] * number
    for unit in sorted(units, key=_num_tokens, reverse=True):
        least = held.index(min(held))
        parts[least].append(unit)
        held[least] += _num_tokens(unit)
    return parts


def add_gradients(tensors: Sequence[Tensor]) -> None:
    """Sum the gradients of these tensors over devices; one that no device has stays none."""
    if size() == 1 or not tensors:
        return
    known = [any(column) for column in zip(*gathered([tensor.grad is not None for tensor in tensors]), strict=True)]
    learnt = [tensor for tensor, there in zip(tensors, known, strict=True) if there]
    for tensor in learnt:
        if tensor.grad is None:
            tensor.grad = torch.zeros_like(tensor)
    for bucket in _buckets([tensor.grad for tensor in learnt if tensor.grad is not None]):
        flat = torch.cat([grad.reshape(-1) for grad in bucket])
        with _together():
            dist.all_reduce(flat)
        for grad, part in zip(bucket, torch.split(flat, [grad.numel() for grad in bucket]), strict=True):
            grad.copy_(part.view_as(grad))


def _buckets(grads: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    held: list[Tensor] = []
    for grad in grads:
        if held and (sum(one.numel() for one in held) + grad.numel() > BUCKET or grad.dtype != held[0].dtype):
            yield held
            held = []
        held.append(grad)
    if held:
        yield held


def _num_tokens(unit: Sequence[Row]) -> int:
    return sum(row.num_tokens for row in unit)


@contextmanager
def _together() -> Iterator[None]:
    """Say in a word that another process has gone, whatever the library calls it."""
    try:
        yield
    except RuntimeError as error:
        raise _gone(error) from None


def _gone(error: RuntimeError) -> PeerGone:
    return PeerGone(f"another process of this run has ended, so this one ends too ({str(error).splitlines()[0][:200]}).")
