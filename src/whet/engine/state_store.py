"""What was computed of each row, by the row's contents: in memory up to a bound, and beyond it in a file that is mapped into memory, up to another.

Nothing is let go again: rows come round once an epoch, so that whatever made room would be missed before what came. The file has no name,
so that it is gone with the process, however that ends.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor

PIECE = 64 << 20
"""Bytes by which the file grows. They are set aside on the disk at once: a page that the disk has no room for would end the process."""


def content_key(kind: str, ids: Tensor) -> bytes:
    """Return what a row's tokens are known by, among what was computed of rows in one way."""
    return blake2b(ids.numpy().tobytes(), digest_size=16, person=kind.encode()[:16]).digest()


class StateStore:
    """A bounded store of tensors by key."""

    def __init__(self, memory_bytes: int, disk_bytes: int = 0, folder: Path | None = None) -> None:
        self.memory_bytes, self.disk_bytes, self.folder = memory_bytes, disk_bytes if folder is not None else 0, folder
        self.in_memory = 0
        """Bytes held in memory."""
        self.on_disk = 0
        """Bytes written to the file."""
        self.failed = ""
        """Why the file takes no more, where it is the system that says so."""
        self._held: dict[bytes, tuple[Tensor, ...]] = {}
        self._pieces: list[Tensor] = []
        self._room = 0
        """Bytes that are left in the last piece."""

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: bytes) -> tuple[Tensor, ...] | None:
        """Return what is kept under a key; nobody may change it."""
        return self._held.get(key)

    def put(self, key: bytes, tensors: Sequence[Tensor]) -> None:
        """Keep a copy of these tensors where there is room for them all."""
        size = sum(tensor.nbytes for tensor in tensors)
        if key in self._held:
            return
        if self.in_memory + size <= self.memory_bytes:
            self._held[key] = tuple(tensor.detach().clone() for tensor in tensors)
            self.in_memory += size
        elif (places := self._places(tensors)) is not None:
            for place, tensor in zip(places, tensors, strict=True):
                place.copy_(tensor.detach())
            self._held[key] = places

    def _places(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
        """Return room in the file for tensors of these shapes, mapped into memory."""
        sizes = [-(-tensor.nbytes // 64) * 64 for tensor in tensors]
        size = sum(sizes)
        if size > PIECE or (size > self._room and not self._grow()):
            return None
        begin, places = PIECE - self._room, []
        for tensor, padded in zip(tensors, sizes, strict=True):
            flat = self._pieces[-1][begin : begin + tensor.nbytes].view(tensor.dtype)
            places.append(flat.view(tensor.shape))
            begin += padded
        self._room -= size
        self.on_disk += size
        return tuple(places)

    def _grow(self) -> bool:
        """Add a piece to the file, as long as the bound and the disk have room."""
        if self.failed or self.folder is None or (len(self._pieces) + 1) * PIECE > self.disk_bytes:
            return False
        try:
            with tempfile.TemporaryFile(dir=self.folder) as file:
                os.posix_fallocate(file.fileno(), 0, PIECE)
                mapped = mmap.mmap(file.fileno(), PIECE)
        except (OSError, ValueError) as error:
            self.failed = getattr(error, "strerror", None) or str(error)
            return False
        self._pieces.append(torch.frombuffer(mapped, dtype=torch.uint8))
        self._room = PIECE
        return True
