"""Clock of a driver: seconds of each step, what others took of the processors meanwhile, and the peak of memory. Linux only."""

from __future__ import annotations

import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.train.task import Measured

BUSY = (0, 1, 2, 5, 6, 7)
"""Columns of /proc/stat: user, nice, system, interrupts, and what the host took (steal)."""


class Meter:
    """Marks the ends of steps. From one mark to the next is a step, with its data, its update and its logging."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, float]] = []
        self.losses: list[float] = []

    def mark(self) -> None:
        """Say that a step has ended; the first time, that the first begins. What a CUDA device was given to do is waited for."""
        if (device := _cuda()) is not None:
            device.synchronize()
        self.marks.append((time.perf_counter(), others_s()))

    def measured(self, packages: tuple[str, ...]) -> Measured:
        """Return everything, with the versions of these packages."""
        pairs = list(zip(self.marks, self.marks[1:], strict=False))
        return Measured(
            seconds=[after[0] - before[0] for before, after in pairs],
            foreign_s=[max(0.0, after[1] - before[1]) for before, after in pairs],
            losses=self.losses[: len(pairs)],
            peak_bytes=peak_bytes(),
            versions={package: version(package) for package in packages},
        )


def _cuda() -> Any:
    """Return torch's own module for CUDA devices where one is in use; None elsewhere."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized() else None


def others_s() -> float:
    """Return the seconds of all processors that went to other processes since the machine began."""
    words = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    busy = sum(int(words[column]) for column in BUSY) / os.sysconf("SC_CLK_TCK")
    own = os.times()
    return busy - own.user - own.system


def peak_bytes() -> int:
    """Return the most memory that tensors have taken on the CUDA device that is in use, or else that this process has held.

    Not by getrusage, which also counts the process that started this one.
    """
    if (device := _cuda()) is not None:
        return int(device.max_memory_allocated())
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
