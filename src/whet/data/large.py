"""A data set whose rows lie on the disk from the first to the last: made stretch by stretch, kept as far as it came, and written out.

What is written is, byte for byte, what rows in memory give.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from whet.data.dataset import Dataset
from whet.data.gather import gather
from whet.data.preparing import divided
from whet.data.shelf import Ints
from whet.data.shelves import Shelving
from whet.data.stored import Stored
from whet.data.unswept import unswept
from whet.files import json_text, write_chunks
from whet.recipe_data import Data

HEX = 1 << 16
"""Keys that are written at a time."""


@dataclass(frozen=True, slots=True)
class StoredDataset:
    """What `Dataset` is, with rows on the disk."""

    about: Dataset
    """All but the rows."""
    parts: Mapping[str, Stored]

    @property
    def hash(self) -> str:
        """SHA-256 of the examples and how they are divided, as `Dataset.hash`."""
        digest = hashlib.sha256()
        for part, ids in self._ids().items():
            digest.update(part.encode())
            for some in self.parts[part].shelf.hashed(self.parts[part].rows, ids):
                digest.update(some)
        return digest.hexdigest()

    def write(self, folder: Path, known_hash: str) -> None:
        """Write what `Dataset.write` writes."""
        (folder / "data").mkdir(parents=True, exist_ok=True)
        ids = self._ids()
        for part, rows in self.parts.items():
            write_chunks(folder / "data" / f"{part}.jsonl", rows.shelf.lines(rows.rows, ids[part]))
        settings = self.about.columns.split.model_dump()
        write_chunks(folder / "splits.json", self._splits({"settings": settings, "hash": known_hash}, ids))
        self.about.write_about(folder)

    def _ids(self) -> dict[str, Ints]:
        """Return the ids of each part's rows: all rows that are left, numbered in reading order."""
        every = np.sort(np.concatenate([rows.rows for rows in self.parts.values()]))
        return {part: np.searchsorted(every, rows.rows) for part, rows in self.parts.items()}

    def _splits(self, head: Mapping[str, object], ids: Mapping[str, Ints]) -> Iterator[bytes]:
        yield json_text(head).removesuffix("\n}\n").encode()
        for part, some in ids.items():
            yield f',\n  "{part}": '.encode()
            yield from _listed((b"%d" % one for one in some.tolist()), 2)
        yield b',\n  "texts": {'
        for number, (part, rows) in enumerate(self.parts.items()):
            yield f'{"," * bool(number)}\n    "{part}": '.encode()
            keys = np.unique(rows.column("text"), axis=0)
            yield from _listed((b'"%016x%016x"' % (high, low) for high, low in _in_blocks(keys)), 4)
        yield b"\n  }\n}\n"


def _in_blocks(keys: Ints) -> Iterator[list[int]]:
    for begin in range(0, len(keys), HEX):
        yield from keys[begin : begin + HEX].tolist()


def _listed(items: Iterator[bytes], indent: int) -> Iterator[bytes]:
    """Yield a list of JSON as `json.dumps` indents it."""
    between, waiting, begun = b",\n" + b" " * (indent + 2), [], False
    for item in items:
        waiting.append(item)
        if len(waiting) == HEX:
            yield (between if begun else b"[\n" + b" " * (indent + 2)) + between.join(waiting)
            waiting, begun = [], True
    if waiting:
        yield (between if begun else b"[\n" + b" " * (indent + 2)) + between.join(waiting)
        begun = True
    yield b"\n" + b" " * indent + b"]" if begun else b"[]"


def prepare_stored(data: Data, needs: tuple[str, ...], folder: Path | None, shelving: Shelving) -> StoredDataset:
    """Return the data of a run as `prepare` does, its rows in stretches in the folder of `shelving`. Raises DataError, Refused."""
    with unswept():
        work = gather(data, needs, folder, num_workers=shelving.num_workers, shelving=shelving)
        about, parts = divided(work)
        stored = {part: rows for part, rows in parts.items() if isinstance(rows, Stored)}
        return StoredDataset(about, stored)
