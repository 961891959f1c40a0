"""What brings, mends and makes rows: sources, cleaners, augmenters."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from whet.collect.page import Mark, Page
    from whet.types import Original


class Source(Protocol):
    """Where rows come from that are not in files of the recipe's own. Its secrets are `whet.collect.credential.Credential` settings."""

    members: ClassVar[str] = ""
    """A regular expression of the names of files with rows in the archive or folder that another tool exports; empty: it exports none."""

    @property
    @abstractmethod
    def origin(self) -> str:
        """What it is called in messages: an address or a path, without any secret."""
        ...

    def stamp(self) -> str:
        """What tells, without collecting, that the rows have changed since, such as the date of a file; by default nothing does."""
        return ""

    @classmethod
    def recognises(cls, record: Mapping[str, object]) -> bool:
        """Whether a file's record is one that this source turns into a row, so that `whet new FILE` chooses it; by default none is."""
        return False

    @abstractmethod
    def collect(self, after: Mark | None) -> Iterator[Page]:
        """Yield the rows a page at a time, from the beginning or after the mark of a page. Raises DataError where that is impossible.

        The same source gives the same rows in the same order, so that a stop and a start lose and repeat none.
        """
        ...


class Unwanted(Exception):
    """A cleaner's word that a row is not to be learnt from: why, in words that do not repeat what the text says."""


class Cleaner(Protocol):
    """Repairs a row's text, or says why it is dropped."""

    @abstractmethod
    def clean(self, text: str) -> str:
        """Return the repaired text; the same text where there is nothing to repair.

        Raises Unwanted for a text that is not to be learnt from. It is judged and answered all the same, as it is.
        """
        ...


class Augmenter(Protocol):
    """Makes texts of training rows into new ones that the same is learnt of."""

    costly: ClassVar[bool] = False
    """A text costs seconds or money: what was made is kept in a file beside the recipe, and never made twice."""
    company: ClassVar[int] = 0
    """Texts of other rows with the same target that it looks at, at most."""

    def foretell(self, originals: Sequence[Original]) -> str:
        """Say, before anything is made, what making these costs; by default nothing. Raises RecipeError where that is more than allowed."""
        return ""

    @abstractmethod
    def augment(self, originals: Sequence[Original]) -> Iterator[str]:
        """Yield one text for each row, in order; the row's own text where nothing can be made of it.

        A text depends on its row and its `draw` alone, never on the rows beside it.
        """
        ...
