"""Texts that were costly to make, kept in a file beside the recipe: never made twice, and gone on with after a stop."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from whet.collect.journal import locked
from whet.errors import DataError
from whet.files import file_hash
from whet.recipe_data import AugmenterChoice
from whet.types import Original

FOLDER = "augmented"
"""Beside the recipe."""
FILE = "texts.jsonl"


class Made:
    """What one augmenter with certain settings has made, by what it was asked about."""

    def __init__(self, choice: AugmenterChoice, beside: Path | None) -> None:
        folder = beside or Path()
        own = folder / choice.name
        code = file_hash(own) if choice.name.endswith(".py") and own.is_file() else ""
        digest = hashlib.sha256(
            json.dumps([choice.name, code, choice.settings], sort_keys=True, default=str).encode()
        ).hexdigest()
        self.file = folder / FOLDER / f"{Path(choice.name).stem}-{digest[:10]}" / FILE
        self._texts: dict[str, str] = {}
        self._open: IO[bytes] | None = None

    @contextmanager
    def opened(self) -> Iterator[Made]:
        """Hold the file for this process, with what it has; a last line that was being written when it stopped is taken off."""
        with locked(self.file.parent):
            whole = self._read()
            with self.file.open("ab") as self._open:
                os.truncate(self.file, whole)
                yield self
                self._open.flush()
                os.fsync(self._open.fileno())

    def text(self, original: Original) -> str | None:
        """Return what was made of a row; None where nothing was yet."""
        return self._texts.get(_key(original))

    def add(self, original: Original, text: str) -> None:
        """Write down what was made of a row, at once."""
        assert self._open is not None, "written outside of `opened`"
        key, text = _key(original), text.encode("utf-8", "replace").decode()
        self._texts[key] = text
        self._open.write(json.dumps({"of": key, "text": text}, ensure_ascii=False).encode() + b"\n")
        self._open.flush()

    def _read(self) -> int:
        """Read the file; returns how many of its bytes are whole lines."""
        held = self.file.read_bytes() if self.file.is_file() else b""
        whole = held.rfind(b"\n") + 1
        try:
            for line in held[:whole].splitlines():
                record = json.loads(line)
                self._texts[record["of"]] = str(record["text"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self.file}: damaged ({type(error).__name__}). Delete it; what was made is then made again."
            ) from None
        return whole


def _key(original: Original) -> str:
    said = json.dumps([original.text, original.target, original.draw, original.alike])
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:32]
