"""Rows of delimited files: dialect, header, and one row per record."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from whet.data.delimited import Dialect, Record, header_dialect, records, sniff
from whet.data.header import column_names, is_header, repeats_header
from whet.data.lines import Line
from whet.data.marks import Marks
from whet.data.names import KNOWN, plain
from whet.data.notices import counted
from whet.data.rows import RawRow, Reject, too_long
from whet.errors import DataError

MOST_TITLES = 5
HEAD = 500  # records looked at to tell a header from a row
STRAY = ": a header line among the rows was skipped."
NAMES = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "vertical bars", "": "line ends only"}


def sample(lines: Iterator[Line], limit: int = 1000, size: int = 1 << 20) -> list[Line]:
    """Return the first lines: enough to judge a file by."""
    taken: list[Line] = []
    for line in lines:
        taken.append(line)
        size -= len(line.text or "")
        if len(taken) >= limit or size <= 0:
            break
    return taken


@dataclass(slots=True)
class Reading:
    """What is known of files before they are read, and what was found."""

    columns: Collection[str] = ()
    """Names that tell a header line: where the first line has one of them, the file is a table."""
    suffix: str | None = None
    """The ending that each file is read as if it had; none: its own."""
    alone: bool = False
    """Whether there is one file only."""
    sheet: str | None = None
    """The sheet of a workbook that is read; none: the largest."""
    members: str = ""
    """A regular expression that the names of an archive's files fit, without their folders; other files are left out. Empty: any name."""
    dates: dict[str, str] = field(default_factory=dict)
    """Of each file, or place that rows were collected from: when it was written, by ISO 8601."""
    separators: dict[str, str] = field(default_factory=dict)
    """Of each file that is a table."""
    marks: Marks | None = None
    """What notes places to go on from, and goes on from one; none: files are read from their beginnings."""


def table(
    first_lines: Sequence[Line], rest: Iterator[Line], name: str, suffix: str, notices: list[str], reading: Reading
) -> Iterator[RawRow | Reject] | None:
    """Return the rows of a table; None where the first lines are no table."""
    dialect = header_dialect(first_lines, reading.columns)
    sure = dialect is not None
    dialect = dialect or sniff(first_lines, suffix)
    if dialect is None:
        return None
    reading.separators[name] = dialect.delimiter
    return _rows(chain(first_lines, rest), dialect, name, suffix, notices, sure)


def _rows(
    lines: Iterator[Line], dialect: Dialect, name: str, suffix: str, notices: list[str], sure: bool
) -> Iterator[RawRow | Reject]:
    """Yield the rows; `sure`: that the first line is a header is known."""
    found = records(_without_separator_line(lines), dialect)
    yield from of_records(found, dialect.num_fields, name, suffix, notices, dialect, sure=sure)


def of_records(
    found: Iterator[Record],
    num_fields: int,
    name: str,
    suffix: str,
    notices: list[str],
    dialect: Dialect | None = None,
    *,
    sure: bool = False,
) -> Iterator[RawRow | Reject]:
    """Yield the rows of records, the first of which may be a header; `dialect` is how a delimited file writes them."""
    head = list(islice(found, HEAD))
    head = head if sure else below_titles(head, notices, name, dialect)
    first = head[0].fields if head else None
    headed = first is not None and (sure or names_columns(head, num_fields, suffix))
    names, made_up = column_names(first if headed else None, num_fields)
    _tell(name, suffix, dialect, names, headed, made_up, notices)
    if headed and len(head) == 1:
        raise DataError(
            f"{name}: the file is empty but for its header line ({counted(len(names), 'column')}). Give a file with at least one row."
        )
    for record in chain(head[1:] if headed else head, found):
        if record.fields is not None and repeats_header(record.fields, names, headed=headed):
            if sum(told.startswith(f"{name}:") and told.endswith(STRAY) for told in notices) < 3:
                notices.append(f"{name}:{record.line}{STRAY}")
        else:
            yield _row(record, names, name)


def names_columns(head: Sequence[Record], num_fields: int, suffix: str) -> bool:
    """Whether the first of these records, which stand below any titles, is a header."""
    first = head[0].fields if head else None
    if first is None or len(first) != num_fields:
        return False
    body = [record.fields for record in head[1:] if record.fields is not None]
    return is_header(first, body, usual=suffix in {".csv", ".tsv", ".tab"})


def below_titles(head: list[Record], notices: list[str], name: str = "", dialect: Dialect | None = None) -> list[Record]:
    """Return the first records without titles above the table: up to MOST_TITLES of one cell or none, and below them two of several.

    In delimited text, where a short record may be a broken row, what stands below must also look like a header.
    """
    filled = [[cell for cell in record.fields or () if cell.strip()] for record in head[: MOST_TITLES + 2]]
    first = next((place for place, cells in enumerate(filled) if len(cells) > 1 or head[place].fields is None), 0)
    if not first or min(map(len, filled[first : first + 2])) < 2 or len(filled) < first + 2:
        return head
    if any(plain(cell) in KNOWN for cells in filled[:first] for cell in cells):
        return head  # the name of an only column, perhaps of the first
    if dialect is not None:
        body = [record.fields for record in head[first + 1 :] if record.fields is not None]
        fields = head[first].fields or []
        if len(fields) != dialect.num_fields or not is_header(fields, body, usual=False):
            return head
    titles = (record for record, cells in zip(head[:first], filled, strict=False) if cells)
    notices.extend(f"{name}:{record.line}: a title above the table was skipped." for record in titles)
    return head[first:]


def _row(record: Record, names: Sequence[str], file: str) -> RawRow | Reject:
    fields = record.fields
    if fields is None:
        if record.problem == "too long":
            return too_long(file, record.line)
        return Reject(file, record.line, record.problem, 'Enclose the field in quotes and write a quote inside it twice ("").')
    if len(fields) > len(names) and not any(cell.strip() for cell in fields[len(names) :]):
        fields = fields[: len(names)]
    if len(fields) != len(names):
        return Reject(file, record.line, f"line of {counted(len(fields), 'field')} where the file has {counted(len(names), 'column')}",
                      "Enclose texts that contain the separator or a line break in quotes.")  # fmt: skip
    return RawRow(file, record.line, dict(zip(names, fields, strict=True)))


def _without_separator_line(lines: Iterator[Line]) -> Iterator[Line]:
    """Skip Excel's `sep=;` line."""
    for line in lines:
        if line.number > 1 or line.text is None or not line.text.lstrip("\ufeff").lower().startswith("sep="):
            yield line


def _tell(
    name: str, suffix: str, dialect: Dialect | None, names: Sequence[str], headed: bool, made_up: bool, notices: list[str]
) -> None:
    said = []
    if dialect and {".csv": ",", ".tsv": "\t", ".tab": "\t"}.get(suffix) != dialect.delimiter and len(names) > 1:
        said.append(f"fields are separated by {NAMES[dialect.delimiter]}")
    if not headed:
        shown = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
        said.append(f"no header line was found; the columns are called {shown}")
    if said:
        notices.append(f"{name}: {', and '.join(said)}.")
    if headed and made_up:
        notices.append(f"{name}: columns without a name, or with the same name, were renamed: {', '.join(names)}.")
    if dialect and not dialect.quoted and len(names) > 1:
        notices.append(f"{name}: quotes are taken as part of the text, since they do not enclose fields.")
