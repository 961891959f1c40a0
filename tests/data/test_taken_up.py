"""Reading that a kill stopped goes on where it stopped, and gives the same rows, rejects, notices and dates."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.data import lines, marks, raw, read, table, taken_up
from whet.data.journal import Journal
from whet.data.rows import RawRow, Reject
from whet.data.table import Reading
from whet.errors import DataError


class Killed(BaseException):
    """What no part of the program catches."""


class Found(NamedTuple):
    """All that reading gives."""

    rows: list[RawRow | Reject]
    notices: list[str]
    dates: dict[str, str]
    files: list[str]
    columns: dict[str, list[str]]


@pytest.fixture(autouse=True)
def soon():
    """Stretches of few rows, and few lines that a file is judged by, so that short files are long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raw, "STRETCH", 7)
        patch.setattr(table, "HEAD", 4)
        patch.setattr(read, "sample", lambda lines: table.sample(lines, limit=12))
        yield


def plainly(paths: list[Path]) -> Found:
    notices, reading = ["before"], Reading()
    rows = raw.RawRows()
    files: dict[str, None] = {}
    for row in read.read_files(paths, notices, reading):
        files.setdefault(row.file)
        rows.add(row)
    return Found(list(rows), notices, reading.dates, list(files), {name: list(some) for name, some in rows.columns.items()})


def kept(paths: list[Path], at: Path, kill: int | None = None) -> tuple[Found, int] | None:
    """What is read with a journal, and how many rows were read for it; None where it is killed at a row, or at a store before."""
    notices, dates, files, seen = ["before"], dict[str, str](), dict[str, None](), [0]

    def look(_: object) -> None:
        if seen[0] == kill:
            raise Killed
        seen[0] += 1

    try:
        rows = taken_up.read_on(paths, at, taken_up.Said(notices, dates, files), look)
    except Killed:
        return None
    assert rows is not None
    found = Found(list(rows), notices, dates, list(files), {name: list(some) for name, some in rows.columns.items()})
    rows.close()
    return found, seen[0]


WORDS = ["one", "two words", 'a "quoted" word', "comma, here", "line\nbreak", "three\n\nbreaks\n", "é ü", '"', "", " ", "x" * 90]


def as_csv(drawn: random.Random, number: int, *, odd: bool) -> bytes:
    """A table with texts over several lines, blank lines and headers among the rows; `odd`: with quotes that nothing closes too."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator=drawn.choice(["\n", "\r\n"]))
    writer.writerow(["text", "label"])
    for _ in range(number):
        writer.writerow([" ".join(drawn.choices(WORDS, k=drawn.randint(1, 3))), drawn.choice("ab")])
        chance = drawn.random()
        if chance < 0.05:
            written.write("text,label\n")
        elif chance < 0.1:
            written.write("\n \n")
        elif odd and chance < 0.2:
            written.write(
                drawn.choice(['"never closed,a\n', "few\n", "too,many,fields\n", '"closed" late,b\n', '"over\nlines" late,b\n'])
            )
    return written.getvalue().encode(drawn.choice(["utf-8", "utf-8-sig", "utf-16", "cp1252"]))


def as_lines(drawn: random.Random, number: int, *, odd: bool) -> bytes:
    """Lines of JSON, some with several rows; `odd`: some are none."""
    some = []
    for place in range(number):
        row: object = {"text": f"row {place} {drawn.choice(WORDS)}", "label": drawn.choice("ab")}
        if drawn.random() < 0.2:
            row = {"label": "a", "instances": [{"text": f"row {place}"}, {"text": f"more {place}", "other": 1}]}
        some.append(json.dumps(row, ensure_ascii=drawn.random() < 0.5))
        if odd and drawn.random() < 0.2:
            some.append(drawn.choice(["", "  ", "{broken", "[1, 2, 3]", "7"]))
    return ("\n".join(some) + drawn.choice(["", "\n"])).encode()


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10**6), odd=st.booleans(), packed=st.booleans(), kills=st.lists(st.integers(0, 90), min_size=1, max_size=3),
    make=st.sampled_from([as_csv, as_lines]), files=st.integers(1, 3), torn=st.integers(0, 200),
)  # fmt: skip
def test_reading_that_was_killed_at_any_row_ends_with_the_same(seed, odd, packed, kills, make, files, torn):
    drawn = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = []
        for number in range(files):
            content = make(drawn, drawn.choice([3, 20, 90]), odd=odd)
            paths.append(folder / f"{number}.{'csv' if make is as_csv else 'jsonl'}{'.gz' if packed else ''}")
            paths[-1].write_bytes(gzip.compress(content) if packed else content)
        try:
            expected = plainly(paths)
        except DataError as refused:
            with pytest.raises(DataError) as told:
                kept(paths, folder / "journal")
            assert str(told.value) == str(refused)
            return
        for kill in kills:
            kept(paths, folder / "journal", kill)
            if torn and (folder / "journal").stat().st_size > torn:
                os.truncate(folder / "journal", (folder / "journal").stat().st_size - torn)
        found = kept(paths, folder / "journal")
        assert found is not None and found[0] == expected


def write(path: Path, number: int, make: Callable[..., bytes] = as_lines) -> Path:
    path.write_bytes(make(random.Random(5), number, odd=False))
    return path


def test_what_is_read_back_from_the_disk_is_json(tmp_path):
    write(tmp_path / "rows.jsonl", 30)
    kept([tmp_path / "rows.jsonl"], tmp_path / "journal")
    journal = Journal(tmp_path / "journal", (tmp_path / "journal").read_bytes()[:16])
    found = [json.loads(journal.read(record)) for record in journal.records if record.said["rows"]]
    assert sum(len(rows) for _, rows in found) == len(plainly([tmp_path / "rows.jsonl"]).rows) >= 30


@pytest.mark.parametrize("packed", [False, True])
def test_bytes_that_are_compared_after_a_kill_are_told_up_to_the_last(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(marks, "BLOCK", 100)
    first, content = write(tmp_path / "a.jsonl", 90), as_lines(random.Random(5), 400, odd=False)
    second = tmp_path / ("b.jsonl.gz" if packed else "b.jsonl")
    second.write_bytes(gzip.compress(content) if packed else content)
    kept([first, second], tmp_path / "journal", kill=400)
    told: list[tuple[int, int]] = []
    said = taken_up.Said([], {}, {})
    taken_up.read_on([first, second], tmp_path / "journal", said, lambda row: None, lambda *some: told.append(some))
    done, totals = [one for one, _ in told], {total for _, total in told}
    assert (
        done == sorted(set(done))
        and totals == {done[-1]}
        and first.stat().st_size < done[-1] < first.stat().st_size + len(content)
    )
    again: list[tuple[int, int]] = []
    taken_up.read_on([first], tmp_path / "other", taken_up.Said([], {}, {}), lambda row: None, lambda *some: again.append(some))
    assert not again, "nothing was read before"


def lines_read(paths: list[Path], at: Path, patch: pytest.MonkeyPatch, kill: int | None = None) -> int:
    """How many lines of text are read."""
    count, real = [0], lines.physical_lines

    def counted(*some, **others):
        for line in real(*some, **others):
            count[0] += 1
            yield line

    with patch.context() as inner:
        inner.setattr(read, "physical_lines", counted)
        kept(paths, at, kill)
    return count[0]


@pytest.mark.parametrize("make", [as_lines, as_csv])
def test_what_was_read_is_not_read_again_but_for_the_beginning_and_a_stretch(make, tmp_path, monkeypatch):
    paths = [write(tmp_path / "rows", 3000, make)]
    whole = lines_read(paths, tmp_path / "whole", monkeypatch)
    assert lines_read(paths, tmp_path / "whole", monkeypatch) == 0, "all was read"
    first = lines_read(paths, tmp_path / "journal", monkeypatch, kill=2700)
    rest = lines_read(paths, tmp_path / "journal", monkeypatch)
    assert first > 2000 and first + rest <= whole + 12 + 12 * 7, (first, rest, whole)


def test_files_that_were_read_to_the_end_are_not_read_again_whatever_they_are(tmp_path, monkeypatch):
    paths = [write(tmp_path / "a.jsonl", 30), tmp_path / "b.zip", write(tmp_path / "c.csv", 90, as_csv)]
    with zipfile.ZipFile(paths[1], "w") as archive:
        archive.writestr("inner.csv", as_csv(random.Random(2), 40, odd=False))
    expected = plainly(paths)
    kept(paths, tmp_path / "journal", kill=len(expected.rows) - 5)
    opened: list[str] = []
    real = read._read_file
    monkeypatch.setattr(read, "_read_file", lambda path, *rest: (opened.append(path.name), real(path, *rest))[1])
    found = kept(paths, tmp_path / "journal")
    assert found is not None and found[0] == expected and opened == ["c.csv"]


@pytest.mark.parametrize(
    "change", ["first row", "last row", "more rows", "other encoding", "earlier file", "another file", "touched"]
)
def test_a_file_that_changed_meanwhile_is_read_as_it_is(change, tmp_path):
    paths = [write(tmp_path / "a.jsonl", 30), write(tmp_path / "b.jsonl", 300)]
    kept(paths, tmp_path / "journal", kill=250)
    known = paths[1].read_bytes()
    stat = paths[1].stat()
    if change == "first row":
        paths[1].write_bytes(known.replace(b"row 0", b"ROW 0", 1))
        os.utime(paths[1], ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as large and as old as before
    elif change == "last row":
        paths[1].write_bytes(known.replace(b"row 299", b"ROW 299", 1))
    elif change == "more rows":
        paths[1].write_bytes(known + b'\n{"text": "one more", "label": "a"}\n')
    elif change == "other encoding":
        paths[1].write_bytes(known + b'\n{"text": "caf\xe9", "label": "a"}\n')
    elif change == "earlier file":
        write(paths[0], 29)
    elif change == "another file":
        paths.insert(0, write(tmp_path / "0.jsonl", 3))
    else:
        os.utime(paths[1], (1, 1))
    found = kept(paths, tmp_path / "journal")
    assert found is not None and found[0] == plainly(paths)


def as_zip(content: bytes) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("inner.jsonl", content)
    return written.getvalue()


def as_document(content: bytes) -> bytes:
    return b"[" + b",\n".join(content.splitlines()) + b"]"


@pytest.mark.parametrize("form", [bytes, gzip.compress, as_zip, as_document])
@pytest.mark.parametrize("at", [0, 246, 247, 251])
def test_a_row_that_changed_behind_the_last_place_is_read_as_it_is(form, at, tmp_path):
    """Kept are the first 252 rows: of a plain file no hash proves the last stretch of them, and of an archive or a document none of them."""
    rows = [{"text": f"row {number}", "number": 1} for number in range(300)]
    paths = [tmp_path / "rows.jsonl"]

    def write_them() -> None:
        paths[0].write_bytes(form("\n".join(map(json.dumps, rows)).encode()))

    write_them()
    kept(paths, tmp_path / "journal", kill=255)
    rows[at]["number"] = True  # which equals 1
    write_them()
    found = kept(paths, tmp_path / "journal")
    assert found is not None and found[0] == plainly(paths)
    assert found[0].rows[at].fields["number"] is True


def test_what_other_code_has_read_is_read_anew(tmp_path, monkeypatch):
    paths = [write(tmp_path / "a.jsonl", 300)]
    kept(paths, tmp_path / "journal")
    for name, value in (("FORM", -1), ("__version__", "0.0.0")):
        monkeypatch.setattr(taken_up, name, value)
        assert lines_read(paths, tmp_path / "journal", monkeypatch) >= 300


@pytest.mark.parametrize("in_place", [True, False])
def test_a_file_that_changed_while_it_was_read_before_the_kill_is_read_as_it_is(in_place, tmp_path):
    path = write(tmp_path / "a.jsonl", 90)
    later = path.read_bytes().replace(b"row 40 ", b"row 4x ")

    def look(row):
        if isinstance(row, RawRow) and row.line == 25:
            other = path if in_place else tmp_path / "other"
            other.write_bytes(later)
            other.replace(path)
        if isinstance(row, RawRow) and row.line == 70:
            raise Killed

    with pytest.raises(Killed):
        taken_up.read_on([path], tmp_path / "journal", taken_up.Said([], {}, {}), look)
    found = kept([path], tmp_path / "journal")
    assert found is not None and found[0] == plainly([path])


@pytest.mark.parametrize("said", [
    {}, [], 7, {"rows": 7}, {"rows": "7", "columns": {}}, {"rows": float("inf"), "columns": {}}, {"rows": 7, "columns": 7},
    {"rows": 0, "columns": {}, "place": 7}, {"rows": 0, "columns": {}, "place": {"num_rows": 1}},
])  # fmt: skip
def test_a_journal_of_another_form_is_begun_anew(said, tmp_path):
    path = write(tmp_path / "a.jsonl", 60)
    kept([path], tmp_path / "journal", 30)
    journal = Journal(tmp_path / "journal", (tmp_path / "journal").read_bytes()[:16])
    journal.append(said, b"")
    journal.close()
    found = kept([path], tmp_path / "journal")
    assert found is not None and found[0] == plainly([path])


def test_a_pipe_is_read_once_and_not_kept(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    said = taken_up.Said([], {}, {})
    assert taken_up.read_on([tmp_path / "pipe"], tmp_path / "journal", said, lambda row: None) is None


def test_a_journal_keeps_what_is_whole(tmp_path):
    made_of = b"0123456789abcdef"
    path = tmp_path / "journal"
    journal = Journal(path, made_of)
    for number in range(3):
        journal.append({"number": number}, bytes([number]) * 50)
    journal.close()
    content = path.read_bytes()
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        again = Journal(path, made_of)
        whole = [(record.said["number"], again.read(record)) for record in again.records]
        assert whole == [(number, bytes([number]) * 50) for number in range(len(whole))]
        again.append({"number": 9}, b"more")
        again.close()
        reopened = Journal(path, made_of)
        assert [record.said["number"] for record in reopened.records] == [*range(len(whole)), 9]
        reopened.close()
    assert len(whole) == 3
    assert not Journal(path, b"f" * 16).records
