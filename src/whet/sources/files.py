"""Rows of files, as they are now."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from whet.collect.page import Mark, Page, moment
from whet.data.find import find_files
from whet.data.read import read_files
from whet.data.table import Reading
from whet.plugins import beside_recipe, plugin

PAGE = 1000
"""Rows written at once."""


def _several(value: Any) -> Any:
    return tuple(beside_recipe(one) for one in ((value,) if isinstance(value, str) else value))


@plugin
class Files:
    """Files, folders or patterns, copied as they are now; for a certain sheet of a workbook, or for files that will change."""

    path: Annotated[tuple[str, ...], BeforeValidator(_several), Field(min_length=1)]
    """One or several: `exports/*.xlsx`. The formats are those of data.path."""
    sheet: str | None = None
    """The sheet of each workbook; none: the largest."""

    @property
    def origin(self) -> str:
        return ", ".join(self.path) + (f" [{self.sheet}]" if self.sheet else "")

    def stamp(self) -> str:
        """Say when the files were last written."""
        files = [file.stat() for name in self.path for file in find_files(Path(name), [])]
        return f"{len(files)}:{sum(one.st_size for one in files)}:{max(one.st_mtime_ns for one in files)}"

    def collect(self, after: Mark | None) -> Iterator[Page]:
        """Yield the rows, file by file. Raises DataError where a file is missing or broken."""
        begin, number = int(str((after or {}).get("file", 0))), int(str((after or {}).get("rows", 0)))
        files = [file for name in self.path for file in find_files(Path(name), [])]
        for index, file in enumerate(files[begin:], begin):
            notices: list[str] = []
            rows = islice(read_files([file], notices, Reading(sheet=self.sheet)), number, None)
            date = moment(file.stat().st_mtime)
            while page := tuple(islice(rows, PAGE)):
                number += len(page)
                yield Page(page, {"file": index, "rows": number}, date, tuple(notices))
            number = 0
