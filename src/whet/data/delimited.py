"""Delimited text: which separator, whether quotes quote, and records with the physical line they begin on."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from whet.data.lines import Line
from whet.data.names import TEXT, plain
from whet.data.rows import MAX_ROW

DELIMITERS = ("\t", ",", ";", "|")
_OPENING = re.compile(' *"([^"]*(?:""[^"]*)*)')


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the file writes its fields."""

    delimiter: str
    """'' where the whole line is the only field."""
    quoted: bool
    """Whether a quote at the beginning of a field encloses it; else quotes are part of the text."""
    num_fields: int
    """Fields of most records."""


class Record(NamedTuple):
    """The fields of one record, or none and the reason."""

    line: int
    fields: list[str] | None
    problem: str = ""


def split_quoted(text: str, delimiter: str) -> list[str] | bool:
    """Return the fields of a record; True where a quote is still open at the end, False where quoting is broken."""
    if '"' not in text:
        return _fields_of(text, delimiter)
    fields, position = [], 0
    while True:
        opening = _OPENING.match(text, position)
        if opening is None:
            end = text.find(delimiter, position) if delimiter else -1
            end = len(text) if end < 0 else end
            fields.append(text[position:end])
        else:
            if opening.end() == len(text):
                return True
            end = opening.end() + 1
            while end < len(text) and text[end] == " " and delimiter != " ":
                end += 1
            if end < len(text) and not (delimiter and text.startswith(delimiter, end)):
                return False
            fields.append(opening[1].replace('""', '"'))
        if end >= len(text):
            return fields
        position = end + len(delimiter)


def _fields_of(text: str, delimiter: str) -> list[str]:
    return text.split(delimiter) if delimiter else [text]


def records(lines: Iterable[Line], dialect: Dialect) -> Iterator[Record]:
    """Yield each record. A quote that breaks a record's shape is taken as text, so that it never swallows the lines after it."""
    source, pending = iter(lines), deque[Line]()
    while (line := pending.popleft() if pending else next(source, None)) is not None:
        if line.text is None:
            yield Record(line.number, None, "too long")
        elif not line.text.strip(" \r\ufeff"):
            continue
        elif not dialect.quoted:
            yield Record(line.number, _fields_of(line.text, dialect.delimiter))
        else:
            fields = split_quoted(line.text, dialect.delimiter)
            if fields is True:
                fields = _gathered(line, source, pending, dialect)
            if isinstance(fields, list):
                yield Record(line.number, fields)
            else:
                unquoted = _fields_of(line.text, dialect.delimiter)
                fits = dialect.num_fields in (0, len(unquoted))
                yield Record(line.number, unquoted if fits else None, "a quote is not closed, or text follows a closing quote")


def _gathered(first: Line, source: Iterator[Line], pending: deque[Line], dialect: Dialect) -> list[str] | bool:
    """Return the fields of a record that goes on over lines, which are used up; else False, and the lines wait in `pending`."""
    assert first.text is not None
    block, size = [first], len(first.text)
    while size <= MAX_ROW:
        line = pending.popleft() if pending else next(source, None)
        if line is None:
            break
        block.append(line)
        if line.text is None:
            break
        size += len(line.text) + 1
        if line.text.count('"') % 2:
            fields = split_quoted("\n".join(part.text or "" for part in block), dialect.delimiter)
            if isinstance(fields, list) and dialect.num_fields in (0, len(fields)):
                return fields
            break
    pending.extendleft(reversed(block[1:]))
    return False


@dataclass(frozen=True, slots=True)
class _Trial:
    dialect: Dialect
    share: float
    spans: bool
    quotes: bool


def sniff(lines: Sequence[Line], suffix: str) -> Dialect | None:
    """Return the dialect of these first lines; none where they are no table. A .csv or .tsv always is one."""
    told = suffix in {".csv", ".tsv", ".tab"}
    best = max((_best_of(lines, delimiter) for delimiter in DELIMITERS), key=_rank)
    several = best.dialect.num_fields > 1 and (told or _is_table(best, lines))
    if several and not _names_one_text(lines, best.dialect.delimiter):
        return best.dialect
    return _one_text(lines) if told else None


def _names_one_text(lines: Sequence[Line], delimiter: str) -> bool:
    """Whether the first line is the name of a column of texts and nothing else, and the separators below it are those of the texts.

    In texts a space follows a comma. Where hardly a line is without a separator that something else follows, the lines are records whose
    header has lost a name.
    """
    texts = [line.text.strip("\ufeff\r") for line in lines if line.text and line.text.strip()]
    if not texts or plain(texts[0].strip('"')) not in TEXT:
        return False
    tight = re.compile(rf'{re.escape(delimiter)}(?! |"(?: |$))')  # a comma and a quote that closes speech are of the text too
    return sum(1 for text in texts[1:] if tight.search(text)) < 0.9 * len(texts[1:])


def _one_text(lines: Sequence[Line]) -> Dialect:
    """Return how texts are written that are the only field; where quotes enclose some of them, they are no part of the text."""
    trial = _trial(lines, "", quoted=True)
    return replace(trial.dialect, quoted=trial.quotes and trial.share >= 0.98)


def header_dialect(lines: Sequence[Line], columns: Collection[str]) -> Dialect | None:
    """Return the dialect of a file whose first line names one of these columns among others; none where it does not."""
    texts = (line.text.strip("\ufeff\r") for line in lines if line.text)
    first = next((text for text in texts if text.strip() and not text.lower().startswith("sep=")), "")
    for delimiter in DELIMITERS:
        cells = split_quoted(first, delimiter)
        if isinstance(cells, list) and len(cells) > 1 and {cell.strip() for cell in cells} & set(columns):
            return replace(_best_of(lines, delimiter).dialect, num_fields=len(cells))
    return None


def _rank(trial: _Trial) -> tuple[bool, float, int]:
    """Where several separators fit, a tab is the one, since texts hold commas but hardly ever tabs."""
    return trial.dialect.num_fields > 1 and trial.share > 0.5, round(trial.share, 2), -DELIMITERS.index(trial.dialect.delimiter)


def _is_table(trial: _Trial, lines: Sequence[Line]) -> bool:
    """Whether these lines of a file that may be prose are a table: the same number of fields throughout."""
    num_lines = sum(1 for line in lines if line.text and line.text.strip())
    if trial.dialect.delimiter == "\t":
        return trial.share >= 0.9
    return trial.share >= 0.98 and num_lines >= (2 if trial.quotes else 5)


def _best_of(lines: Sequence[Line], delimiter: str) -> _Trial:
    plain = _trial(lines, delimiter, quoted=False)
    if not any(line.text and '"' in line.text for line in lines):
        return _Trial(
            Dialect(delimiter, quoted=True, num_fields=plain.dialect.num_fields), plain.share, spans=False, quotes=False
        )
    quoted = _trial(lines, delimiter, quoted=True)
    first = next((line.text for line in lines if line.text and line.text.strip()), "")
    sure = first.startswith('"') and isinstance(split_quoted(first, delimiter), list)
    if (
        plain.share >= 0.999
        and plain.dialect.num_fields > 1
        and not sure
        and (quoted.spans or not quoted.quotes or quoted.share < 0.999)
    ):
        return plain  # every physical line is a record already, so a quote that joins lines is text
    return quoted if quoted.share >= plain.share - 0.02 else plain


def _trial(lines: Sequence[Line], delimiter: str, *, quoted: bool) -> _Trial:
    found = list(records(lines, Dialect(delimiter, quoted, num_fields=0)))
    counts = Counter(len(record.fields) for record in found if record.fields is not None)
    broken = sum(1 for record in found if record.problem and record.problem != "too long")
    if not counts:
        return _Trial(Dialect(delimiter, quoted, 1), 0.0, spans=False, quotes=False)
    num_fields, agreeing = counts.most_common(1)[0]
    num_lines = sum(1 for line in lines if line.text and line.text.strip())
    quotes = quoted and any(
        line.text is not None and re.search(rf'(?:^{f"|{re.escape(delimiter)}" if delimiter else ""}) *"', line.text)
        for line in lines
    )
    share = max(0, agreeing - broken) / sum(counts.values())
    return _Trial(Dialect(delimiter, quoted, num_fields), share, spans=len(found) < num_lines, quotes=quotes)
