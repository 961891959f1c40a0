"""Rows of files, as they are now."""

from __future__ import annotations

from collections.abc import Iterator

from whet.collect.exports import Paths, files_of, pages, stamp
from whet.collect.page import Mark, Page
from whet.plugins import plugin
from whet.types import Source


@plugin
class Files(Source):
    """Files, folders or patterns, copied as they are now; for a certain sheet of a workbook, or for files that will change."""

    path: Paths
    """One or several: `exports/*.xlsx`. The formats are those of data.path."""
    sheet: str | None = None
    """The sheet of each workbook; none: the largest."""

    @property
    def origin(self) -> str:
        return ", ".join(self.path) + (f" [{self.sheet}]" if self.sheet else "")

    def stamp(self) -> str:
        """Say when the files were last written."""
        return stamp(self.path)

    def collect(self, after: Mark | None) -> Iterator[Page]:
        """Yield the rows, file by file. Raises DataError where a file is missing or broken."""
        return pages(files_of(self.path), after, sheet=self.sheet)
