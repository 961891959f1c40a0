"""What a run streams: its files as they were, and how each row's part and place follow from its text and its piece."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from whet.data.keys import content_key, text_key
from whet.data.pieces import PIECE, LargeFile, Piece, pieces_of, probe
from whet.errors import RunError
from whet.recipe_data import Split
from whet.types import Example

ROWS_OF_PIECE = 20
"""Bits of a row's id that are its place in its piece; those above are the piece's number."""
Keys = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Streamed:
    """What a run streams, stored with it: the same files give the same rows, in the same parts and order."""

    files: tuple[LargeFile, ...]
    split: Split
    sampled_bytes: int
    """Bytes of the training rows that were looked at first, and of what stands between them."""
    piece_bytes: int = PIECE

    @property
    def pieces(self) -> list[Piece]:
        return pieces_of(self.files, self.piece_bytes)

    @property
    def total_bytes(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def times(self) -> float:
        """How many times as large all is as what was looked at."""
        return max(1.0, self.total_bytes / max(1, self.sampled_bytes))

    def check(self) -> None:
        """Raise RunError where a file is not what it was when the run was made."""
        for file in self.files:
            path = Path(file.name)
            if not path.is_file() or probe(path) != file.probe:
                raise RunError(
                    f"{path}: was altered, or moved, after the run began. Bring it back as it was, or begin a new run."
                )

    def record(self) -> dict[str, Any]:
        """Return it as JSON."""
        files = [asdict(file) for file in self.files]
        sizes = {"sampled_bytes": self.sampled_bytes, "piece_bytes": self.piece_bytes}
        return {"files": files, "split": self.split.model_dump(mode="json"), **sizes}


def streamed_of(record: dict[str, Any]) -> Streamed:
    """Return what was recorded."""
    files = tuple(LargeFile(**file) for file in record["files"])
    return Streamed(files, Split.model_validate(record["split"]), int(record["sampled_bytes"]), int(record["piece_bytes"]))


def keys_of(example: Example) -> tuple[int, int]:
    """Return 64 bits of what the row is shown, by which it has its part, and of all its contents, by which it has duplicates."""
    shown, whole = (int(xxhash.xxh3_64_intdigest(key.encode())) for key in (text_key(example), content_key(example)))
    return shown, whole or 1  # 0 stands for no row


def parts_of(shown: Keys, split: Split) -> NDArray[np.str_]:
    """Return the part of each row from (seed, text) alone: the same text is always in the same part. [N] -> [N]"""
    place = _mixed(shown + _mixed(np.full(1, split.seed, np.uint64))) / 2.0**64
    return np.where(place < split.test, "test", np.where(place < split.test + split.validation, "validation", "train"))


def _mixed(value: Keys) -> Keys:
    """Return the finaliser of SplitMix64 (Steele et al. 2014): every bit of what comes out depends on every bit of what goes in."""
    with np.errstate(over="ignore"):
        value = value + np.uint64(0x9E3779B97F4A7C15)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return value ^ (value >> np.uint64(31))
