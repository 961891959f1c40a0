"""Rows of files, as they are now."""

from __future__ import annotations

from collections.abc import Iterator

from whet.collect.exports import Exports, Paths, pages
from whet.collect.page import Mark, Page
from whet.data.table import Reading
from whet.plugins import plugin


@plugin
class Files(Exports):
    """Files, folders or patterns, copied as they are now; for a certain sheet of a workbook, or for files that will change."""

    path: Paths
    """One or several: `exports/*.xlsx`. The formats are those of data.path."""
    sheet: str | None = None
    """The sheet of each workbook; none: the largest."""

    @property
    def origin(self) -> str:
        return ", ".join(self.path) + (f" [{self.sheet}]" if self.sheet else "")

    def collect(self, after: Mark | None) -> Iterator[Page]:
        """Yield the rows, file by file. Raises DataError where a file is missing or broken."""
        return pages(self.files(), after, self.row, Reading(sheet=self.sheet))
