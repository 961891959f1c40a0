"""Whether the first record of a table names its columns, and the names themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from whet.data.names import KNOWN, plain


def is_header(first: Sequence[str], body: Sequence[Sequence[str]], *, usual: bool) -> bool:
    """Whether `first` names the columns of `body`. `usual`: what to believe where nothing speaks for or against it."""
    cells = [cell.strip() for cell in first]
    filled = [cell for cell in cells if cell]
    known = [plain(cell) in KNOWN for cell in cells]
    if not filled or any(_is_number(cell) or len(cell) > 64 for cell in filled):
        return False
    if len(set(filled)) < len(filled) and not all(known):  # a name that stands twice is a header if all are usual names
        return False
    if all(known) or (not body and usual):
        return True
    columns = [[row[index].strip() for row in body if index < len(row)] for index in range(len(cells))]
    if any(_stands_below(cell, column) for cell, column in zip(cells, columns, strict=True)):
        return False
    differing = sum(one or _differs(cell, column) for one, cell, column in zip(known, cells, columns, strict=True))
    words = max(len(cell.split()) for cell in cells)
    return words <= 8 and differing > 0 if usual and words > 5 else words <= 5 and (usual or differing * 2 >= len(cells))


def _stands_below(cell: str, column: Sequence[str]) -> bool:
    """Whether a cell is one of the few values that its column repeats, which a name would not be."""
    counts = Counter(column)
    return len(counts) <= max(2, len(column) // 3) and counts[cell] > 0


def _differs(cell: str, column: Sequence[str]) -> bool:
    """Whether a cell is unlike what stands below it, as a name is."""
    if not column:
        return False
    if all(_is_number(value) for value in column if value):
        return True
    few = len(column) >= 6 and len(set(column)) <= len(column) // 3
    long = sum(map(len, column)) / len(column) > 3 * max(8, len(cell))
    return (few and len(cell.split()) <= 3) or (long and len(cell.split()) <= 2)


def column_names(first: Sequence[str] | None, num_fields: int) -> tuple[list[str], bool]:
    """Return one name per column, each once, and whether any had to be made up."""
    names: dict[str, None] = {}
    numbers: Counter[str] = Counter()
    made_up = False
    for index in range(num_fields):
        name = first[index].strip().lstrip("\ufeff") if first is not None and index < len(first) else ""
        wanted = name or f"column_{index + 1}"
        unique = wanted
        while unique in names:
            numbers[wanted] += 1
            unique = f"{wanted}_{numbers[wanted] + 1}"
        made_up = made_up or unique != name
        names[unique] = None
    return list(names), made_up


def repeats_header(cells: Sequence[str], names: Sequence[str], *, headed: bool) -> bool:
    """Whether a record further down is a header line again, or a stray one in a table that has none."""
    if headed:
        return [cell.strip() for cell in cells] == list(names)
    return len(cells) > 1 and all(plain(cell) in KNOWN for cell in cells) and len(set(cells)) == len(cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True
