"""Tensors of the processor in one run of addresses, by the package's own allocator in torch's place (kernels/pool.cpp).

A step with another number of tokens asks for other sizes than the one before, and what a heap has left between them is seldom right: it
grows at each longer step, and every new page is a fault. Where the allocator is not there, torch's is as it was.
"""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path

from whet.engine.compiled import Unavailable, library
from whet.engine.machine import free_addresses, physical_memory

OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
"""Where Linux says whether it promises more memory than there is."""


@functools.cache
def pool_tensors() -> str | None:
    """Let tensors lie there from now on; return why that cannot be, as the end of a sentence, and None where it can.

    Compiles the allocator where that is still to be done. A tensor that was there before stays where it is.
    """
    if OVERCOMMIT.is_file() and OVERCOMMIT.read_text().strip() == "2":
        return "this machine counts addresses as memory (vm.overcommit_memory is 2)"
    left = free_addresses()
    reach = physical_memory() if left is None else min(physical_memory(), left // 2)  # threads, files and the heap need some too
    try:
        failed = library("pool").pool_tensors(ctypes.c_size_t(reach))
    except Unavailable as reason:
        return str(reason)
    return f"no addresses can be had: {os.strerror(failed)}" if failed else None


def named() -> str:
    """Return whose allocator tensors of the processor are of, and why where it is torch's."""
    reason = pool_tensors()
    return "whet's own allocator" if reason is None else f"torch's: {reason}"


def pooled() -> tuple[int, int]:
    """Return the bytes below which pooled tensors lie, free pieces among them, and the bytes that they take."""
    assert pool_tensors() is None
    top, taken = ctypes.c_size_t(), ctypes.c_size_t()
    library("pool").pool_state(ctypes.byref(top), ctypes.byref(taken))
    return top.value, taken.value
