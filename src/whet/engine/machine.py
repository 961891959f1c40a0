"""What this machine computes with: device, threads, precision, an allocator that keeps its pages, and few compiled kernels."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import resource
import sys
from pathlib import Path
from typing import Any, Literal

import torch

Precision = Literal["fp32", "bf16"]
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # glibc's malloc.h
KEPT_KERNELS = 40
"""Compiled products that are kept, of about a megabyte each. The layers of a pass in one direction share 10 to 35, and none with the next
step, which has another number of tokens."""


def device() -> torch.device:
    """Return the accelerator where there is one, else the processor."""
    return torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")


def choose_precision() -> tuple[Precision, str]:
    """Return the fastest safe precision of this machine, and why."""
    if torch.cuda.is_available():
        return ("bf16", "this GPU computes in bf16") if torch.cuda.is_bf16_supported() else ("fp32", "this GPU has no bf16")
    flags = processor_flags()
    if "avx512_bf16" in flags or "amx_bf16" in flags:
        return "bf16", "this processor multiplies in bf16; weights and optimiser stay fp32"
    return "fp32", "this processor has no bf16 instructions"


def computing(precision: Precision, where: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which matrix products run in `precision`."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(where.type, dtype=torch.bfloat16)


def compute_dtype(x: torch.Tensor) -> torch.dtype:
    """Return in what a product with this tensor is computed here: the precision of `computing`, or else the tensor's own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


@functools.cache
def keep_pages() -> None:
    """Tell glibc to keep freed memory, once per process: large tensors are otherwise mapped and unmapped at each step.

    Page faults cost 1.1-2 times the whole run without it (docs/concepts/speed.md). Does nothing where the libc is another one.
    """
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for setting, value in ((M_MMAP_THRESHOLD, 2**31 - 1), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 << 20)):
        libc.mallopt(setting, value)


def bound_kernels() -> None:
    """Bound what oneDNN keeps of its products in bf16, before the first of them: it compiles one for each number of tokens that it meets.

    Packed batches have another number at each step, so a thousand kernels were soon kept, and of ideep's (torch's way to them) a thousand
    again: a gigabyte beside a model of 90 MB. A step needs a few dozen. Both read their bound where they begin, from the environment
    and nowhere else; whoever has set it keeps it. No number depends on it.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(KEPT_KERNELS))


def memory_now() -> int:
    """Return the bytes of memory that this process holds now."""
    held = _status("VmRSS")
    return held if held is not None else peak_memory()


def peak_memory() -> int:
    """Return the most bytes of memory that this process has held since it began."""
    peak = _status("VmHWM")
    if peak is not None:
        return peak
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def peak_accelerator_memory() -> int | None:
    """Return the most bytes that tensors took on the accelerator; None where there is none."""
    return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else None


def free_memory() -> int:
    """Return the bytes that this process may hold: what the machine has to give and what it holds now, within its group's limit."""
    if torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        return int(free) + int(torch.cuda.memory_reserved())
    words = _words(Path("/proc/meminfo"))
    available = int(words["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in words else physical_memory()
    limits = [available + memory_now()]
    limit, used = (_number(Path("/sys/fs/cgroup") / name) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None:
        limits.append(max(limit - used, 0) + memory_now())
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return min([*limits, soft] if soft != resource.RLIM_INFINITY else limits)


def describe() -> dict[str, Any]:
    """Return the machine as the run's manifest keeps it."""
    return {
        "device": str(device()),
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(physical_memory() / 2**30, 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }


@functools.cache
def processor_flags() -> frozenset[str]:
    """Return what Linux says the processor can do; empty elsewhere."""
    return frozenset(_cpuinfo("flags").split())


def processor_name() -> str:
    """Return the processor's name; 'unknown' where nobody says it."""
    return _cpuinfo("model name") or platform.processor() or "unknown"


def _cpuinfo(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def physical_memory() -> int:
    """Return the bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_addresses() -> int | None:
    """Return the bytes of addresses that its limit (`ulimit -v`) leaves to this process; None where it has none."""
    soft, taken = resource.getrlimit(resource.RLIMIT_AS)[0], _status("VmSize")
    return None if soft == resource.RLIM_INFINITY or taken is None else max(soft - taken, 0)


def _status(key: str) -> int | None:
    """Return a size of this process as Linux says it, in bytes; None elsewhere."""
    words = _words(Path("/proc/self/status"))
    return int(words[key].split()[0]) * 1024 if key in words else None


def _words(file: Path) -> dict[str, str]:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return {}
    return {key: value for key, _, value in (line.partition(":") for line in lines) if value.strip()}


def _number(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
