"""Long tables of numbers and of texts that begin in memory, and go to files without a name beyond a bound."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Spool:
    """What tables share: the bytes they may hold in memory together, and the disk that they go to beyond that.

    A context manager: their files, on the disk of `folder` or else of the system's temporary one (TMPDIR), are gone at the end, also where
    that is a kill.
    """

    def __init__(self, max_bytes: int, folder: Path | None = None) -> None:
        self._left, self._folder = max_bytes, folder
        self._files: list[BinaryIO] = []

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for file in self._files:
            with suppress(OSError):  # what a full disk keeps from being written is of no use any more
                file.close()

    def take(self, num_bytes: int) -> bool:
        """Whether so many more bytes may be held in memory; once not, never again."""
        self._left = self._left - num_bytes if num_bytes <= self._left else -1
        return self._left >= 0

    def file(self) -> BinaryIO:
        """Return a new file, for reading and writing."""
        file = cast(BinaryIO, tempfile.TemporaryFile(dir=self._folder))  # noqa: SIM115 - closed with this object
        self._files.append(file)
        return file


class Table:
    """Rows of numbers, appended block by block."""

    def __init__(self, spool: Spool, dtype: type[np.generic], width: int = 1) -> None:
        self._spool, self._dtype, self._width = spool, dtype, width
        self._blocks: list[Array] = []
        self._file: BinaryIO | None = None
        self._num_rows = 0

    def append(self, block: Array) -> None:
        """Add rows. [N, width], or [N] where the width is 1"""
        self._num_rows += len(block)
        block = np.ascontiguousarray(block, dtype=self._dtype)
        if self._file is None and self._spool.take(block.nbytes):
            self._blocks.append(block)
            return
        if self._file is None:
            self._file = self._spool.file()
            for one in self._blocks:
                self._file.write(one.tobytes())
            self._blocks = []
        self._file.write(block.tobytes())

    def array(self) -> Array:
        """Return all rows; those in a file are read from there as they are asked for. [N, width], or [N]"""
        shape = (self._num_rows,) if self._width == 1 else (self._num_rows, self._width)
        if self._file is None:
            return np.concatenate(self._blocks).reshape(shape) if self._blocks else np.empty(shape, self._dtype)
        self._file.flush()
        return np.memmap(self._file, dtype=self._dtype, mode="r", shape=shape)


def let_go(array: Array) -> None:
    """Give back the memory that what was read of a table's file has taken; what is asked for again is read again."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None:
        mapped.madvise(mmap.MADV_DONTNEED)


class Texts:
    """Texts by number, appended block by block."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._kept: list[str] = []
        self._file: BinaryIO | None = None
        self._ends: list[NDArray[np.int64]] = []
        self._bounds: NDArray[np.int64] | None = None
        self._size = 0

    def __len__(self) -> int:
        return len(self._kept) + sum(map(len, self._ends))

    def append(self, block: Sequence[str]) -> None:
        """Add texts. Those in memory stay there; once the bound is reached, the rest goes to a file."""
        if self._file is None and self._spool.take(sum(map(len, block)) + 60 * len(block)):
            self._kept += block
            return
        if self._file is None:
            self._file = self._spool.file()
        encoded = [text.encode("utf-8", "surrogatepass") for text in block]
        self._file.write(b"".join(encoded))
        ends = self._size + np.cumsum(np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded)))
        self._size, self._bounds = int(ends[-1]) if len(ends) else self._size, None
        self._ends.append(ends)

    def __getitem__(self, number: int) -> str:
        if number < len(self._kept):
            return self._kept[number]
        assert self._file is not None, f"there is no text {number}"
        if self._bounds is None:
            self._bounds = np.concatenate([np.zeros(1, np.int64), *self._ends])
        place = number - len(self._kept)
        begin, end = int(self._bounds[place]), int(self._bounds[place + 1])
        self._file.seek(begin)
        return self._file.read(end - begin).decode("utf-8", "surrogatepass")
