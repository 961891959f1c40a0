"""C and C++ files of the package, compiled on first use with the machine's own compiler and kept in the user's cache.

A cached file is named after everything that decides its bytes: source, compiler, flags, processor and torch. It takes its name once it is
whole, so that processes may compile at once, and its last bytes are the hash of the others, so that a spoilt one is made again.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from whet.engine.machine import processor_flags, processor_name
from whet.files import cache_folder

SWITCH = "WHET_KERNELS"
"""Environment variable: `off` keeps everything on torch's own kernels."""
SOURCES = Path(__file__).parent / "kernels"
TORCH = Path(torch.__file__).parent
TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Language:
    """How files of one language are compiled."""

    name: str
    compilers: tuple[str, ...]
    flags: tuple[str, ...]
    libraries: tuple[str, ...]
    headers: str = ""
    """Which files of the folder stand before the source."""
    needed: tuple[str, ...] = ()
    """What the processor must be able to do."""


C = Language(
    name="C",
    compilers=("cc", "gcc", "clang"),
    flags=("-x", "c", "-std=gnu11", "-O3", "-march=native"),
    libraries=("-lm",),
    headers="*.h",
    needed=("avx512f", "avx512bw", "avx512vl"),
)
CPP = Language(
    name="C++",
    compilers=("c++", "g++", "clang++"),
    flags=("-x", "c++", "-std=c++20", "-O2", f"-I{TORCH / 'include'}"),
    libraries=(f"-L{TORCH / 'lib'}", "-lc10"),
)
LANGUAGES = {".c": C, ".cpp": CPP}
_DIGEST = hashlib.sha256().digest_size


class Strided(ctypes.Structure):
    """`struct tensor` of kernels/vectors.h: where a matrix lies, or [1, H, T, d]; the last axis is dense."""

    _fields_ = [("data", ctypes.c_void_p), ("head", ctypes.c_int64), ("token", ctypes.c_int64), ("bf16", ctypes.c_int64)]

    @classmethod
    def of(cls, x: Tensor) -> Strided:
        assert x.stride(-1) == 1, "the last axis is not dense"
        return cls(x.data_ptr(), x.stride(1) if x.ndim == 4 else 0, x.stride(-2), int(x.dtype == torch.bfloat16))


def dense(x: Tensor) -> Tensor:
    """Return a tensor whose last axis is dense, which is a copy where x's is not."""
    return x if x.stride(-1) == 1 else x.contiguous()


class Unavailable(Exception):
    """A compiled file cannot be had here. The message says why, as the end of a sentence."""


@functools.cache
def library(name: str) -> ctypes.CDLL:
    """Return the compiled file of kernels/ with this name, and compile it first where that is still to be done. Raises Unavailable."""
    if os.environ.get(SWITCH, "").strip().lower() in {"off", "0", "no", "false"}:
        raise Unavailable(f"{SWITCH} is off")
    source = next(file for end in LANGUAGES if (file := SOURCES / f"{name}{end}").is_file())
    language = LANGUAGES[source.suffix]
    if not sys.platform.startswith("linux"):
        raise Unavailable("this is no Linux machine")
    if not processor_flags().issuperset(language.needed):
        raise Unavailable("this processor has no AVX-512")
    compiler = next((found for found in map(shutil.which, language.compilers) if found), None)
    if compiler is None:
        raise Unavailable(f"no {language.name} compiler was found ({', '.join(language.compilers)})")
    try:
        before = sorted(SOURCES.glob(language.headers)) if language.headers else []
        text = b"\n".join(file.read_bytes() for file in (*before, source))
        file = own_folder() / f"{name}-{_key(text, compiler, language)}.so"
        if not _is_whole(file):
            _compile(compiler, language, text, file)
        return ctypes.CDLL(str(file))
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{compiler} did not end within {TIMEOUT_S} s") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: nobody says where the user's home is
        raise Unavailable(f"the compiled file cannot be kept or loaded: {getattr(error, 'strerror', None) or error}") from error


@functools.cache
def parallel() -> ctypes._FuncPointer:
    """Return how torch's own OpenMP library runs a function on several threads. Raises Unavailable where it is not GNU's or like it.

    That very library: two of them, with a pool of threads each, would wait for each other at every product.
    """
    try:
        linked = ctypes.CDLL(str(TORCH / "lib" / "libtorch_cpu.so"))  # with all that it was linked to
        return linked.GOMP_parallel
    except (OSError, AttributeError) as error:
        raise Unavailable("torch's threads here are not of GNU OpenMP's kind") from error


def missing(name: str) -> str | None:
    """Return why a kernel that runs on torch's threads is not there, as the end of a sentence; None where it is. Compiles it if need be."""
    try:
        parallel()
        library(name)
    except Unavailable as reason:
        return str(reason)
    return None


def own_folder() -> Path:
    """Return the folder of compiled files, made where it is missing. Raises OSError, RuntimeError, Unavailable where others may write."""
    folder = cache_folder("kernels")
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Unavailable(f"others may write to {folder}, and what lies there would be run")
    return folder


def _key(source: bytes, compiler: str, language: Language) -> str:
    version = subprocess.run([compiler, "--version"], capture_output=True, timeout=TIMEOUT_S, check=False).stdout
    processor = " ".join([processor_name(), *sorted(processor_flags())])
    parts = (
        source,
        version,
        " ".join((*language.flags, *language.libraries)).encode(),
        processor.encode(),
        torch.__version__.encode(),
    )
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:32]


def _is_whole(file: Path) -> bool:
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return False
    return hashlib.sha256(content[:-_DIGEST]).digest() == content[-_DIGEST:]


def _compile(compiler: str, language: Language, source: bytes, file: Path) -> None:
    """Compile into a file of this process, which then takes the name. Raises Unavailable, OSError, TimeoutExpired."""
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".compiling-") as place:
        partial = Path(place) / file.name
        command = [compiler, *language.flags, "-shared", "-fPIC", "-", "-o", str(partial), *language.libraries]
        done = subprocess.run(command, input=source, capture_output=True, timeout=TIMEOUT_S, check=False)
        if done.returncode or not partial.is_file():
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
            said = next((line for line in lines if "error" in line), lines[-1])
            raise Unavailable(f"{compiler} refused it: {said[:200]}")
        content = partial.read_bytes()
        with partial.open("ab") as opened:
            opened.write(hashlib.sha256(content).digest())
            opened.flush()
            os.fsync(opened.fileno())
        partial.replace(file)
