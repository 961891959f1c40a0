"""How fast this machine multiplies matrices in bf16: the measure of what training could reach at most."""

from __future__ import annotations

import torch

from bench.train.meter import Meter
from bench.train.task import Measured, Task, drive
from bench.train.works import GPU_SIZE, PRODUCTS, SIZE

REPEATS = 10


def train(task: Task) -> Measured:
    """Time products of two square matrices, PRODUCTS of them in a step."""
    generator = torch.Generator().manual_seed(0)
    size, device = (GPU_SIZE, "cuda") if task.gpu else (SIZE, "cpu")
    left, right = (torch.randn(size, size, generator=generator).bfloat16().to(device) for _ in range(2))
    out = torch.empty(size, size, dtype=torch.bfloat16, device=device)
    meter = Meter()
    meter.mark()
    for _ in range(REPEATS):
        for _ in range(PRODUCTS):
            torch.mm(left, right, out=out)
        meter.mark()
    return meter.measured(("torch",))


if __name__ == "__main__":
    drive(train)
