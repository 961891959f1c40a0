"""How fast this machine multiplies matrices in bf16: the measure of what training could reach at most."""

from __future__ import annotations

import torch

from bench.train.meter import Meter
from bench.train.task import Measured, Task, drive
from bench.train.works import PRODUCTS, SIZE

REPEATS = 10


def train(task: Task) -> Measured:
    """Time products of two square matrices, PRODUCTS of them in a step."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(SIZE, SIZE, generator=generator).bfloat16() for _ in range(2))
    out = torch.empty(SIZE, SIZE, dtype=torch.bfloat16)
    meter = Meter()
    meter.mark()
    for _ in range(REPEATS):
        for _ in range(PRODUCTS):
            torch.mm(left, right, out=out)
        meter.mark()
    return meter.measured(("torch",))


if __name__ == "__main__":
    drive(train)
