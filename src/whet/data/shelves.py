"""Rows made stretch by stretch into a folder; stretches that are there already, made of the same rows in the same way, stay."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from whet import __version__
from whet.data.compared import WHOLE
from whet.data.kept import read_kept, write_kept
from whet.data.making import Making
from whet.data.marks import Compared
from whet.data.minhash import Bands, bands_for
from whet.data.raw import RawRows
from whet.data.redact import finders_of
from whet.data.shelf import Shelf
from whet.data.signed import signed_key
from whet.data.stretch import FORM, Numbers, numbers_of
from whet.data.workers import has_own_cleaners, making_stretches

KEPT = frozenset({".stretch", ".signed", ".pairs", ".found", ".cut", ".rows"})
"""Endings of the files of the folder that outlive a kill."""
Told = Callable[[int, int], None]
"""Who is told how many of how many rows are made."""


class Shelving:
    """The folder that stretches are made in. Those that are there already, made of the same rows in the same way, are not made again."""

    def __init__(
        self,
        folder: Path,
        told: Told | None = None,
        num_workers: int | None = None,
        compared: Compared = lambda done, total: None,
    ) -> None:
        self.folder, self.num_workers, self._told, self.compared = folder, num_workers, told, compared
        self.shelf = Shelf(folder)
        self.num_kept = 0
        """Rows that were there already."""

    def rows(self, making: Making, raw: Mapping[str, RawRows], num_workers: int) -> Iterator[tuple[str, Numbers]]:
        """Make the sources' rows, and yield the numbers of each stretch with its source."""
        settings = _digest(making)
        bands = bands_for(making.columns.duplicates.similarity)
        total = sum(map(len, raw.values()))
        done = 0
        with making_stretches(making, num_workers) as make:
            for source, rows in raw.items():
                made_of = [
                    hashlib.blake2b(packed, key=settings, digest_size=16, person=source.encode()).digest()
                    for packed in rows.stretches()
                ]
                first = len(self.shelf)
                missing = {at for at, one in enumerate(made_of) if read_kept(self.shelf.path(first + at), one) is None}
                wanted = (packed for at, packed in enumerate(rows.stretches()) if at in missing)
                answers = make(wanted, source == "test")
                for at, one in enumerate(made_of):
                    path = self.shelf.path(first + at)
                    content = self._store(first + at, one, next(answers), bands) if at in missing else read_kept(path, one)
                    assert content is not None, "what is not missing is there"
                    numbers = numbers_of(content)
                    size = len(numbers.columns["line"]) + len(numbers.rejects)
                    done, self.num_kept = done + size, self.num_kept + size * (at not in missing)
                    self.shelf.add(numbers, one)
                    yield source, numbers
                    if self._told is not None:
                        self._told(done, total)

    def _store(self, number: int, made_of: bytes, answer: tuple[bytes, bytes], bands: Bands) -> bytes:
        """Write a stretch that was made, and before it what its texts are compared by, where that was made with it; return the stretch."""
        content, signed = answer
        if signed:
            write_kept(self.shelf.path(number, "signed"), signed_key(made_of, bands, WHOLE), signed)
        write_kept(self.shelf.path(number), made_of, content)
        return content


def _digest(making: Making) -> bytes:
    """Return what says how rows are made; cleaners of the user's own may change from run to run, so that it is drawn for them."""
    if has_own_cleaners(making):
        return secrets.token_bytes(32)
    settings = [
        making.columns.model_dump(mode="json"),
        making.needs,
        str(making.folder),
        making.key.hex(),
        f"{__version__}.{FORM}",
        finders_of(making.columns),
    ]
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).digest()
