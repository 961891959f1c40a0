"""Tensors that end where memory ends: a process that reaches behind them is ended by the system."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

PROT_NONE = 0
_held: list[mmap.mmap] = []


def fenced(x: Tensor) -> Tensor:
    """Return a copy of a dense tensor behind which lies a page that nobody may touch; it stays until the process ends."""
    pages = -(-x.nbytes // mmap.PAGESIZE)
    place = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    _held.append(place)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(place))
    fence = ctypes.c_void_p(begin + pages * mmap.PAGESIZE)
    assert ctypes.CDLL(None).mprotect(fence, ctypes.c_size_t(mmap.PAGESIZE), PROT_NONE) == 0
    return torch.frombuffer(place, dtype=x.dtype, count=x.numel(), offset=pages * mmap.PAGESIZE - x.nbytes).view(x.shape).copy_(x)


def assert_stays_within(script: str) -> None:
    """Run a script in a process of its own, in which `fenced` can be imported from here."""
    known = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": os.pathsep.join(known)}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr or "it reached for memory that is not there"
