"""What several files share is said once, and without their folders."""

from __future__ import annotations

from pathlib import Path

from whet.data.notices import grouped
from whet.data.read import read_files

FILES = ["/long/way/a.txt", "/long/way/b.txt", "/long/way/c.txt", "/long/way/d.txt"]


def test_what_all_files_share_is_said_once() -> None:
    notices = [f"{file}: no header." for file in FILES] + ["Cleaner 'spaces' changed 3 texts."]
    assert grouped(notices, FILES) == ("4 files: no header.", "Cleaner 'spaces' changed 3 texts.")


def test_a_few_files_are_named_and_many_counted() -> None:
    assert grouped([f"{file}: no header." for file in FILES[:2]], FILES) == ("a.txt, b.txt: no header.",)
    more = [*FILES, "/long/way/e.txt"]
    assert grouped([f"{file}: no header." for file in FILES], more) == ("4 files: no header.",)


def test_lines_of_one_file_stay_lines_of_one_file() -> None:
    notices = [f"{FILES[0]}:{line}: skipped." for line in (3, 9)]
    assert grouped(notices, FILES[:1]) == ("a.txt:3, a.txt:9: skipped.",)


def test_a_sentence_that_begins_like_a_file_but_names_none_stays() -> None:
    said = (
        "data.path: 3 rows dropped.",
        "data.validation: 3 rows dropped.",
        "1 row cannot be scored. The first: /long/x.csv:3: empty.",
    )
    assert grouped(said, FILES) == said


def test_separator_and_header_are_one_sentence(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.txt", "b.txt")]
    for file in files:
        file.write_text("".join(f"a sentence of number {number}\t{number % 2}\n" for number in range(20)))
    notices: list[str] = []
    rows = list(read_files(files, notices))
    said = grouped(notices, {row.file for row in rows})
    assert said == (
        "2 files: fields are separated by tabs, and no header line was found; the columns are called column_1 to column_2.",
    )


def test_sheets_of_a_workbook_are_counted_as_sheets():
    sheets = ["a.xlsx[May]", "a.xlsx[June]"]
    told = [f"{name}:{line}: a title above the table was skipped." for name in sheets for line in (1, 2)]
    assert grouped(told, sheets) == ("2 sheets: a title above the table was skipped.",)
    assert grouped(["b.csv: quotes.", "a.xlsx[May]: quotes."], ["b.csv", "a.xlsx[May]"]) == ("2 files: quotes.",)
