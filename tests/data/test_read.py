"""Reading: every format and encoding, physical line numbers, and plain words for what cannot be read."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.data import rows as rows_module
from whet.data.read import read_files
from whet.data.rows import RawRow, Reject
from whet.errors import DataError


def read(path: Path, notices: list[str] | None = None) -> list[RawRow]:
    found = list(read_files([path], notices))
    assert all(isinstance(row, RawRow) for row in found), found
    return [row for row in found if isinstance(row, RawRow)]


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


CELLS = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00\ufeff", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12
)
QUOTABLE = st.lists(st.one_of(CELLS, st.sampled_from(["\n", '"', ",", "a\nb", 'say "hi"', "x, y"])), min_size=1, max_size=4).map(
    "".join
)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(QUOTABLE, st.sampled_from(["a", "b"])), min_size=1, max_size=12),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_a_csv_that_was_written_by_the_book_is_read_back_with_its_physical_lines(tmp_path_factory, table, end, bom):
    # the line where each record begins is counted while writing
    stream, expected, line = io.StringIO(), [], 2
    writer = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(["text", "label"])
    for text, label in table:
        expected.append((line, text, label))
        writer.writerow([text, label])
        line += 1 + text.count("\n")
    content = stream.getvalue().replace("\n", end)
    path = write(tmp_path_factory.mktemp("csv"), "rows.csv", (b"\xef\xbb\xbf" if bom else b"") + content.encode())
    assert [(row.line, row.fields["text"], row.fields["label"]) for row in read(path)] == expected


def test_embedded_line_breaks_keep_later_line_numbers_physical(tmp_path):
    path = write(tmp_path, "rows.csv", 'text,label\r\n"one\r\ntwo",a\r\nthree,b\r\n\r\n"f\n\nr",a\r\nfive,b\r\n')
    assert [(row.line, row.fields["text"]) for row in read(path)] == [(2, "one\ntwo"), (4, "three"), (6, "f\n\nr"), (9, "five")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252"])
def test_encodings_and_line_ends(tmp_path, encoding, end):
    text = end.join(["text,label", "Der Zähler läuft,gut", "kaputt für immer,schlecht", ""])
    path = write(tmp_path, "rows.csv", text.encode(encoding))
    notices: list[str] = []
    found = read(path, notices)
    assert [(row.line, dict(row.fields)) for row in found] == [
        (2, {"text": "Der Zähler läuft", "label": "gut"}),
        (3, {"text": "kaputt für immer", "label": "schlecht"}),
    ]
    assert bool(notices) == (encoding not in {"utf-8", "utf-8-sig"})
    if encoding == "cp1252":
        assert "not UTF-8; read as Latin-1 (Windows-1252)" in notices[0]


def test_a_mark_of_utf8_before_windows_text_is_no_part_of_a_column_name(tmp_path):
    text = "Nr;Nachricht;Thema\r\n" + "1;Zoë – „sehr“ müde, Übergröße für ältere Gäste;ö\r\n2;Ärger über Öl – é“;ä\r\n" * 3
    notices: list[str] = []
    found = read(write(tmp_path, "rows.csv", b"\xef\xbb\xbf" + text.encode("cp1252")), notices)
    assert dict(found[0].fields) == {"Nr": "1", "Nachricht": "Zoë – „sehr“ müde, Übergröße für ältere Gäste", "Thema": "ö"}
    assert found[1].fields["Nachricht"] == "Ärger über Öl – é“"
    assert "not UTF-8; read as Latin-1 (Windows-1252)" in notices[0]


def test_cyrillic_of_windows_is_recognised(tmp_path):
    text = (
        "text,label\n"
        + "Карта не пришла и я очень недоволен этим обслуживанием,плохо\nВсё хорошо спасибо большое вам,хорошо\n" * 5
    )
    assert read(write(tmp_path, "rows.csv", text.encode("cp1251")))[0].fields["label"] == "плохо"


def test_a_few_wrong_bytes_in_a_utf8_file_do_not_garble_the_rest(tmp_path):
    path = write(tmp_path, "rows.csv", "text,label\ncafé crème,a\nnaïve façade,b\n".encode() + "pâté,a\n".encode("latin-1"))
    notices: list[str] = []
    assert [row.fields["text"] for row in read(path, notices)] == ["café crème", "naïve façade", "pâté"]
    assert "some bytes are not UTF-8" in notices[0]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows", "rows.txt", "rows.csv"])
def test_lines_of_json_are_recognised_whatever_the_name(tmp_path, name):
    path = write(tmp_path, name, '{"text": "a b", "label": 1}\n\n{"text": "c", "label": 0}\n')
    assert [(row.line, row.fields["text"]) for row in read(path)] == [(1, "a b"), (3, "c")]


def test_a_json_array_named_jsonl_is_read_with_a_notice(tmp_path):
    notices: list[str] = []
    path = write(tmp_path, "rows.jsonl", '[\n {"text": "a",\n  "label": "x"},\n\n {"text": "b", "label": "y"}]')
    assert [(row.line, row.fields["text"]) for row in read(path, notices)] == [(2, "a"), (5, "b")]
    assert "JSON array" in notices[0]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.dictionaries(CELLS, st.one_of(CELLS, st.integers(), st.none(), st.lists(CELLS, max_size=2)), min_size=1, max_size=3),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from([None, 1, 4]),
)
def test_json_arrays_keep_values_and_the_line_of_each_object(tmp_path_factory, objects, indent):
    objects = [{"text": "t", **one} for one in objects]
    content = json.dumps(objects, indent=indent, ensure_ascii=False)
    found = read(write(tmp_path_factory.mktemp("json"), "rows.json", content))
    assert [dict(row.fields) for row in found] == objects
    opening = " " * (indent or 0) + "{"
    expected = [number for number, line in enumerate(content.split("\n"), 1) if line == opening] if indent else [1] * len(objects)
    assert [row.line for row in found] == expected


def test_json_arrays_longer_than_a_chunk_keep_line_numbers(tmp_path):
    objects = [{"text": "word " * (i % 700), "label": str(i)} for i in range(400)]  # about 0.7 MB, several chunks
    found = read(write(tmp_path, "rows.json", "[\n" + ",\n".join(json.dumps(one) for one in objects) + "\n]\n"))
    assert [(row.line, row.fields) for row in found] == [(i + 2, one) for i, one in enumerate(objects)]


def test_the_rows_of_what_an_api_answers_are_the_only_list_in_it(tmp_path):
    notices = []
    found = read(
        write(
            tmp_path,
            "a.json",
            '{"status": "ok", "data": {"page": {"n": 1},\n"items": [{"body": "a", "kind": "x"},\n{"body": "b", "kind": "y"}]}}',
        ),
        notices,
    )
    assert [(row.line, dict(row.fields)) for row in found] == [(2, {"body": "a", "kind": "x"}), (3, {"body": "b", "kind": "y"})]
    assert any("the rows are the list at data.items" in notice for notice in notices)


@pytest.mark.parametrize("content", [
    '{"data": 1,\n"data": {"items": [{"body": "a"}]}}',
    '{"data": {"items": [{"body": "b"}]},\n"data": {"items": [{"body": "a"}]}}',
    '{"data": {"items": [],\n"items": [{"body": "a"}]}}',
])  # fmt: skip
def test_a_list_whose_name_stands_twice_is_refused_and_loses_no_rows(tmp_path, content):
    with pytest.raises(DataError, match=r"a\.json:[12]: '(data|items)' stands twice in one object\."):
        read(write(tmp_path, "a.json", content))


def test_a_list_is_told_by_a_name_that_a_file_can_hold(tmp_path):
    notices = []
    read(write(tmp_path, "a.json", '{"\\ud800\\u001b[31m": {"items": [{"body": "a"}]}}'), notices)
    assert [notice.partition("/a.json")[2] for notice in notices] == [
        ": the rows are the list at \\ud800\\x1b[31m.items; what stands beside it was left out."
    ]


HEAD = '{"whet_collected": 1, "source": "sql", "began": "2024"}'


@pytest.mark.parametrize("more", [
    '"line": 1e400, "fields": {"text": "secret"}', '"line": 9223372036854775808, "fields": {"text": "secret"}',
    '"line": -1, "fields": {"text": "secret"}', '"line": 1, "fields": ["secret"]',
    '"line": 1, "reason": "r", "remedy": "m", "kind": "secret"', '"line": 1, "reason": "r", "remedy": "m", "kind": {"a": NaN}',
])  # fmt: skip
def test_a_line_that_no_collection_has_is_told_without_its_content(tmp_path, more):
    with pytest.raises(DataError, match=r"rows\.jsonl:2: a damaged collection") as told:
        read(write(tmp_path, "rows.jsonl", f'{HEAD}\n{{"file": "f", "date": "d", {more}}}\n'))
    assert "secret" not in str(told.value)


def test_a_collection_by_another_hand_holds_what_rows_may_hold(tmp_path):
    lines = [
        r'{"file": "\ud800", "line": 1, "date": "\ud800", "fields": {"\ud800": "\ud800", "number": 1e400}}',
        r'{"file": "f", "line": 2, "date": "d", "reason": "\ud800", "remedy": "\ud800", "kind": "unwanted"}',
        r'{"file": "f", "line": 3, "date": "d", "fields": {"deep": %s}}' % ("[" * 150 + "]" * 150),
    ]
    row, reject, deep = read_files([write(tmp_path, "rows.jsonl", "\n".join([HEAD, *lines]))])
    assert (row.file, dict(row.fields)) == ("\ufffd", {"\ufffd": "\ufffd", "number": None})
    assert (reject.reason, reject.kind, deep.reason) == ("\ufffd", "unwanted", "nested deeper than 100 lists and objects")


@pytest.mark.parametrize("value", [
    {"text": "a row", "about": {"marks": [{"from": 1}]}},
    {"body": "two lists", "one": {"a": [{"b": 1}]}, "two": {"a": [{"b": 1}]}},
    {"body": "no list of objects", "about": {"tags": ["a", "b"]}},
    {"body": "not of objects alone", "about": {"hits": [{"b": 1}, "c"]}},
    {"body": "too far below", "a": {"b": {"c": {"d": {"e": {"f": [{"g": 1}]}}}}}},
    {"body": "nothing in it", "about": {"hits": []}},
])  # fmt: skip
def test_an_object_with_no_certain_list_in_it_is_a_row(tmp_path, value):
    (row,) = read(write(tmp_path, "a.json", json.dumps(value)))
    assert dict(row.fields) == value


def test_rows_five_names_below_the_top_are_found_beside_lists_without_any(tmp_path):
    rows = [{"body": "a", "kind": "x"}, {"body": "b", "kind": "y"}]
    value = {"errors": [], "a": {"b": {"c": {"warnings": [], "d": rows}, "n": 1}}, "after": [1, 2]}
    assert [dict(row.fields) for row in read(write(tmp_path, "a.json", json.dumps(value)))] == rows
    value = {"a": {"b": {"c": {"d": {"e": rows}}}}}
    assert [dict(row.fields) for row in read(write(tmp_path, "b.json", json.dumps(value)))] == rows


def test_json_objects_of_splits_of_columns_and_of_classes(tmp_path):
    splits = read(write(tmp_path, "splits.json", '{"train": [["hi", "greet"],\n["bye", "leave"]],\n"oos": [["x", "none"]]}'))
    assert [(row.line, dict(row.fields)) for row in splits] == [
        (1, {"split": "train", "text": "hi", "label": "greet"}),
        (2, {"split": "train", "text": "bye", "label": "leave"}),
        (3, {"split": "oos", "text": "x", "label": "none"}),
    ]
    assert read(write(tmp_path, "columns.json", '{"text": ["a", "b"], "label": [0, 1]}'))[1].fields == {"text": "b", "label": 1}
    pandas = read(write(tmp_path, "pandas.json", '{"text": {"0": "a", "1": "b"}, "label": {"0": "x", "1": "y"}}'))
    assert pandas[1].fields == {"text": "b", "label": "y"}
    assert read(write(tmp_path, "classes.json", '{"pos": ["good", "fine"], "neg": ["bad"]}'))[2].fields == {
        "text": "bad",
        "label": "neg",
    }
    single = read(write(tmp_path, "one.json", '{"messages": [{"role": "user", "content": "a"}]}'))
    assert len(single) == 1 and "messages" in single[0].fields


def test_malformed_lines_of_json_are_rejected_one_by_one(tmp_path):
    path = write(tmp_path, "rows.jsonl", '{"text": "a"\n{"text": "b"}\n[1, 2, 3]\nnonsense\n{"text": "c"}\n')
    found = list(read_files([path]))
    assert [(row.line, isinstance(row, Reject)) for row in found] == [(1, True), (2, False), (3, True), (4, True), (5, False)]
    assert all(
        "nonsense" not in row.sentence() and row.sentence().startswith(f"{path}:{row.line}: ")
        for row in found
        if isinstance(row, Reject)
    )


@pytest.mark.parametrize(
    ("content", "line"), [('[{"a": 1},\n{"a": }]', 2), ('[{"a": 1},\n{"a": 2}', 2), ('[{"a": 1}\n{"a": 2}]', 2)]
)
def test_a_broken_json_array_is_an_error_with_its_line(tmp_path, content, line):
    with pytest.raises(DataError, match=rf"rows.json:{line}: not valid JSON"):
        list(read_files([write(tmp_path, "rows.json", content)]))


@pytest.mark.parametrize("first", [0, 1])
def test_a_line_of_json_with_a_number_that_is_too_long_is_told_as_that(tmp_path, first):
    lines = ['{"text": "ok"}', '{"text": "b", "id": ' + "1" * 5000 + "}", '{"text": "c"}'][first:]
    found = list(read_files([write(tmp_path, "rows.jsonl", "\n".join(lines))]))
    assert [row.reason for row in found if isinstance(row, Reject)] == ["a number that is too long"]
    assert len(found) == len(lines)


def test_deep_nesting_and_lone_surrogates_do_not_crash(tmp_path):
    path = write(tmp_path, "rows.jsonl", '{"text": "ok"}\n' + "[" * 100_000 + "\n" + '{"text": "a\\ud800b"}\n')
    found = list(read_files([path]))
    assert isinstance(found[1], Reject)
    assert isinstance(found[2], RawRow) and found[2].fields["text"] == "a\ufffdb"


def test_parquet(tmp_path):
    pl.DataFrame({"text": ["a", "b"], "label": [0, 1], "messages": [[{"role": "user", "content": "x"}], []]}).write_parquet(
        tmp_path / "rows.parquet"
    )
    found = read(tmp_path / "rows.parquet")
    assert [(row.line, row.fields["text"]) for row in found] == [(1, "a"), (2, "b")]
    assert found[0].fields["messages"] == [{"role": "user", "content": "x"}]


@pytest.mark.parametrize("suffix", [".txt", "", ".csv", ".tsv"])
def test_a_table_without_header_is_recognised(tmp_path, suffix):
    lines = [f"{label}\tthis is message number {i}, which is longer" for i, label in enumerate(["ham", "spam", "ham"] * 5)]
    notices: list[str] = []
    found = read(write(tmp_path, f"rows{suffix}", "\n".join(lines)), notices)
    assert len(found) == 15 and found[0].line == 1 and found[0].fields["column_1"] == "ham"
    assert any("no header" in notice for notice in notices)


def test_header_lines_at_the_top_and_in_the_middle_are_no_rows(tmp_path):
    body = [f"{label}\ttext number {i}" for i, label in enumerate(["ham", "spam", "ham"] * 5)]
    notices: list[str] = []
    top = read(write(tmp_path, "top", "\n".join(["Label\tSMS", *body, "Label\tSMS", *body])), notices)
    assert len(top) == 30 and set(top[0].fields) == {"Label", "SMS"} and top[15].line == 18
    assert any(":17: a header line among the rows" in notice for notice in notices)
    assert len(read(write(tmp_path, "middle", "\n".join([*body, "Label\tSMS", *body])))) == 30


def test_lone_quotes_never_swallow_lines(tmp_path):
    body = ['"Hello\t1', 'he said "no" twice\t0', 'ends with "\t1', '"all quoted"\t0', '5" disk\t1', "plain\t0"] * 5
    found = read(write(tmp_path, "rows.txt", "\n".join(body)))
    assert [row.line for row in found] == list(range(1, 31))
    assert found[0].fields == {"column_1": '"Hello', "column_2": "1"}


def test_a_quote_left_open_in_a_csv_costs_one_line(tmp_path):
    good = [f'"text, number {i}",a' for i in range(30)]
    path = write(tmp_path, "rows.csv", "\n".join(["text,label", *good, '"never closed, b', *good]))
    found = list(read_files([path]))
    assert sum(isinstance(row, RawRow) for row in found) in {60, 61} and [row.line for row in found] == list(range(2, 63))


def test_rows_with_another_number_of_fields_are_rejected(tmp_path):
    found = list(read_files([write(tmp_path, "rows.csv", "text,label\n" + "fine,a\n" * 9 + "too, many, fields\nfine,b,\nfew\n")]))
    assert [row.line for row in found if isinstance(row, Reject)] == [11, 13]
    assert "line of 3 fields where the file has 2 columns" in next(row.reason for row in found if isinstance(row, Reject))


def test_semicolons_tabs_bars_and_excels_first_line(tmp_path):
    for delimiter in ";\t|":
        path = write(
            tmp_path, "rows.csv", f"message{delimiter}intent\n" + f"Hello, you{delimiter}greet\nbye, you{delimiter}leave\n" * 3
        )
        assert read(path)[0].fields == {"message": "Hello, you", "intent": "greet"}
    path = write(tmp_path, "excel.csv", "sep=;\r\nmessage;intent\r\n" + "Hello, you;greet\r\n" * 3)
    assert read(path)[0].fields == {"message": "Hello, you", "intent": "greet"} and read(path)[0].line == 3


def test_a_single_column_csv_keeps_its_commas(tmp_path):
    assert read(write(tmp_path, "a.csv", "text\nHello, you\nbye, then, you\nwell\n"))[1].fields == {"text": "bye, then, you"}
    assert read(write(tmp_path, "b.csv", 'MR\n"name[x], food[y]"\n"name[z], food[w]"\n'))[0].fields == {"MR": "name[x], food[y]"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("emma\nolivia\n\nava\n" * 30, None),
        (
            "First Citizen:\nSpeak.\n\nAll:\nWe know't,\nWe know't.\n",
            [(1, "First Citizen:\nSpeak."), (4, "All:\nWe know't,\nWe know't.")],
        ),
        (
            "It was a long\nand winding road that\nled nowhere.\n\nThen it was\nover.\n",
            [(1, "It was a long and winding road that led nowhere."), (5, "Then it was over.")],
        ),
        ("One.\nMore\n<|endoftext|>\nTwo.\n\nStill two.<|endoftext|>\n", [(1, "One.\nMore"), (4, "Two.\n\nStill two.")]),
    ],
)
def test_prose_becomes_documents(tmp_path, content, expected):
    found = read(write(tmp_path, "prose.txt", content))
    assert all(set(row.fields) == {"text"} for row in found)
    if expected is not None:
        assert [(row.line, row.fields["text"]) for row in found] == expected


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("binary.csv", bytes(range(256)) * 8, "not text"),
        ("book.xlsx", b"PK\x03\x04rest", "Excel"),
        ("rows.csv.gz", b"\x1f\x8b\x08rest", "gunzip"),
        ("empty.csv", b"", "empty"),
        ("blank.csv", b"\n \r\n\n", "empty"),
        ("header.csv", b"text,label\n", "empty but for its header"),
        ("bad.parquet", b"PAR1 nothing", "parquet"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, name, content, words):
    with pytest.raises(DataError, match=words) as caught:
        list(read_files([write(tmp_path, name, content)]))
    assert name in str(caught.value)


def test_missing_files_and_folders(tmp_path):
    write(tmp_path, "tickets.csv", "text,label\na b,c\n")
    with pytest.raises(DataError, match=r"tickest\.csv: there is no such file.*tickets\.csv"):
        list(read_files([tmp_path / "tickest.csv"]))
    (tmp_path / "old.csv").symlink_to("gone.csv")
    with pytest.raises(DataError, match=r"old\.csv: a link that leads to nothing \(gone\.csv\)"):
        list(read_files([tmp_path / "old.csv"]))
    assert len(read(tmp_path)) == 1
    write(tmp_path, "test.csv", "text,label\na b,c\n")
    with pytest.raises(DataError, match="may not belong together"):
        list(read_files([tmp_path]))
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="without data files"):
        list(read_files([tmp_path / "none"]))


def test_stray_nul_bytes_and_long_rows_are_read(tmp_path):
    found = read(write(tmp_path, "rows.csv", "text,label\na\x00b,x\n" + "word " * 1_000_000 + ",y\nlast,x\n"))
    assert [len(str(row.fields["text"])) for row in found] == [3, 5_000_000, 4]


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.txt"])
def test_a_giant_line_is_rejected_and_reading_goes_on(tmp_path, name, monkeypatch):
    for module in ("rows", "lines", "delimited", "prose"):
        monkeypatch.setattr(f"whet.data.{module}.MAX_ROW", 1000)
    assert rows_module.MAX_ROW == 1000
    giant = "x" * 5000
    content = {
        "rows.csv": f"text,label\na b,c\n{giant},d\ne f,g\n",
        "rows.jsonl": f'{{"text": "a"}}\n{{"text": "{giant}"}}\n{{"text": "b"}}\n',
        "rows.txt": f"a b\n{giant}\nc d\n",
    }[name]
    found = list(read_files([write(tmp_path, name, content)]))
    assert [isinstance(row, Reject) for row in found] == [False, True, False]
    assert isinstance(found[1], Reject) and "longer than" in found[1].reason


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")),
        st.lists(
            st.sampled_from(['"', ",", "\t", "\n", "\r", "{", "}", "[", "]", '"a":', "1", "text", "é", "\x00", " "]), max_size=40
        ).map(lambda parts: "".join(parts).encode()),
    ),
    st.sampled_from([".csv", ".tsv", ".json", ".jsonl", ".txt", ""]),
)
def test_any_bytes_are_read_or_refused_in_words(tmp_path_factory, content, suffix):
    path = write(tmp_path_factory.mktemp("any"), f"rows{suffix}", content)
    try:
        found = list(read_files([path]))
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert all(row.line >= 1 and row.file == str(path) for row in found)


@pytest.mark.parametrize("change", ["grows", "shrinks", "is replaced", "is deleted", "is written anew"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, change):
    file = tmp_path / "rows.csv"
    lines = "text,label\n" + "".join(f"a text number {place},{'ab'[place % 2]}\n" for place in range(60_000))
    file.write_text(lines)
    rows = read_files([file])
    next(rows)
    if change == "grows":
        with file.open("a") as more:
            more.write("one more,a\n")
    elif change == "shrinks":
        os.truncate(file, 1_000_000)
    elif change == "is deleted":
        file.unlink()
    elif change == "is replaced":
        (tmp_path / "new").write_text(lines)
        (tmp_path / "new").replace(file)
    else:
        file.write_text(lines)
    with pytest.raises(DataError, match=r"rows\.csv: was changed while it was read\. Run the command again"):
        list(rows)


def test_a_text_file_about_the_files_of_a_folder_is_left_out_and_named(tmp_path):
    for name in ("yelp_labelled.txt", "imdb_labelled.txt"):
        (tmp_path / name).write_text("".join(f"It is good, number {number}.\t{number % 2}\n" for number in range(9)))
    (tmp_path / "readme.txt").write_text("This data set was made for a paper.\n\nPlease cite it.\n")
    notices = []
    rows = list(read_files([tmp_path], notices))
    assert [Path(row.file).name for row in rows] == ["imdb_labelled.txt"] * 9 + ["yelp_labelled.txt"] * 9
    assert notices[0] == f"{tmp_path}: a folder; 2 files of it were read, and readme.txt left out."
    (tmp_path / "yelp_labelled.txt").unlink()
    (tmp_path / "imdb_labelled.txt").unlink()
    assert len(list(read_files([tmp_path]))) == 2  # alone it is what was meant


def test_a_file_that_is_not_there_names_those_like_it_first(tmp_path):
    for name in (".hidden.csv", "a.csv", "tickets.csv"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"there is no such file\. Files there: tickets.csv, a.csv\. Give"):
        list(read_files([tmp_path / "ticket.csv"]))
