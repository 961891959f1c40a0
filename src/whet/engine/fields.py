"""Whether examples have what an objective needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from whet.errors import DataError
from whet.types import Example


def require(examples: Iterable[Example], needs: Sequence[str]) -> None:
    """Raise DataError at the first example without one of these fields, with its file and line."""
    for example in examples:
        for name in needs:
            if getattr(example, name) is None:
                raise missing(example, name)


def missing(example: Example, name: str) -> DataError:
    """Return the error for a field that an example does not have."""
    where = f"{example.file}:{example.line}" if example.file else f"row {example.id}"
    return DataError(f"{where}: there is no '{name}', which this objective needs. Fill it in, or leave the row out.")
