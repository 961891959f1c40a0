"""Data sets of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from whet.collect.credential import Credential, hidden, secret
from whet.collect.page import Mark, Page, now
from whet.data.values import row_of
from whet.display import brief
from whet.errors import DataError, installing
from whet.plugins import beside_recipe, plugin
from whet.protocols import Source

PAGE = 1000


@plugin
class Hub(Source):
    """Rows of a data set on the Hugging Face hub by its id, or in a folder, by `pip install 'whet[hub]'`; its code is never run."""

    dataset: Annotated[str, BeforeValidator(beside_recipe), Field(min_length=1)]
    """Its id, such as stanfordnlp/imdb, or a folder."""
    split: str = "train"
    """Which of its splits."""
    config: str | None = None
    """Which of its configurations; none: its only or default one."""
    revision: str | None = None
    """A commit, tag or branch. A commit gives the same rows for ever."""
    key: Credential | None = None
    """Where a token for gated and private ones is: env:NAME, file:PATH."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Rows at most; none: all."""

    @property
    def origin(self) -> str:
        return f"{self.dataset} [{self.split}]" if self.config is None else f"{self.dataset}/{self.config} [{self.split}]"

    def collect(self, after: Mark | None) -> Iterator[Page]:
        """Yield the rows, a thousand at a time, as a stream. Raises DataError where it cannot be had."""
        number = int(str(after["rows"])) if after else 0
        rows = self._rows(number)
        while some := list(islice(rows, PAGE)):
            if self.limit is not None:
                some = some[: max(0, self.limit - number)]
            found = tuple(row_of(self.dataset, number + place, row) for place, row in enumerate(some, 1))
            if not found:
                return
            number += len(found)
            yield Page(found, {"rows": number}, now())

    def _rows(self, begin: int) -> Iterator[dict[str, Any]]:
        try:
            import datasets
        except ImportError:
            raise DataError(f"{self.origin}: a data set of the hub needs the extra 'hub': {installing('hub')}") from None
        key = secret(self.key) if self.key is not None else None
        try:
            opened = datasets.load_dataset(
                self.dataset, self.config, split=self.split, revision=self.revision, token=key, streaming=True
            )
            yield from opened.skip(begin)
        except Exception as error:  # of any of its many packages; whatever it is, the rows cannot be had
            reason = hidden(brief((str(error).strip().splitlines() or [type(error).__name__])[0], 300), key or "")
            raise DataError(
                f"{self.origin}: cannot be had: {reason}. Check dataset, config, split and revision, and the network; a gated one needs its "
                "terms accepted on the hub, and key: env:HF_TOKEN."
            ) from None
