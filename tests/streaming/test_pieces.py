"""Pieces of a file have each of its rows once, whatever their size; parts follow from the text; keys and tokens are kept as they were."""

from __future__ import annotations

import json
import os
import random
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from whet.data.pieces import large_files, pieces_of, read_piece
from whet.data.rows import RawRow, Reject
from whet.data.stream import keys_of, parts_of
from whet.engine.seen import Seen
from whet.engine.token_cache import fits, keep, kept, make_room
from whet.errors import DataError, TrainingError
from whet.recipe_data import Split
from whet.types import Example, Row

WORDS = ["tea", "naïve", "日本", "a", "longer", "…", "x" * 90]


def texts(seed, number=60):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 12))) + "." for _ in range(number)]


def written(folder, kind, rows):
    file = folder / ("rows.jsonl" if kind == "json" else "rows.txt")
    joined = {
        "json": "".join(json.dumps({"text": row}, ensure_ascii=False) + "\n" for row in rows),
        "lines": "\n".join(rows),
        "crlf": "\r\n".join(rows) + "\r\n",
        "blocks": "\n\n".join(f"{row}\nSecond line." for row in rows) + "\n",
        "marks": "<|endoftext|>".join(rows),
    }[kind]
    file.write_bytes(joined.encode())
    return file


@pytest.mark.parametrize("size", [1, 7, 64, 333, 10**6])
@pytest.mark.parametrize("kind", ["json", "lines", "crlf", "blocks", "marks"])
def test_pieces_of_any_size_have_each_row_once_and_in_order(kind, size, tmp_path):
    rows = texts(3)
    (file,) = large_files([str(written(tmp_path, kind, rows))], [])
    found = [row for piece in pieces_of([file], size) for row in read_piece(piece).rows()]
    assert all(isinstance(row, RawRow) for row in found)
    expected = [f"{row}\nSecond line." for row in rows] if kind == "blocks" else rows
    assert [row.fields["text"] for row in found] == expected


def test_a_row_is_told_by_the_byte_of_its_piece_and_the_line_from_there(tmp_path):
    path = written(tmp_path, "lines", texts(5))
    (file,) = large_files([str(path)], [])
    for piece in pieces_of([file], 700):
        for row in read_piece(piece).rows():
            byte = int(row.file.partition("@")[2] or 0)
            assert path.read_bytes()[byte:].decode().split("\n")[row.line - 1] == row.fields["text"]


def test_a_row_too_long_to_hold_is_told_and_the_rows_beside_it_stay(tmp_path):
    path = tmp_path / "rows.jsonl"
    with path.open("w") as file:
        file.write('{"text": "before"}\n{"text": "' + "y" * (17 << 20) + '"}\n{"text": "after"}\n')
    (large,) = large_files([str(path)], [])
    found = [row for piece in pieces_of([large]) for row in read_piece(piece).rows()]
    assert [row.fields["text"] for row in found if isinstance(row, RawRow)] == ["before", "after"]
    (lost,) = [row for row in found if isinstance(row, Reject)]
    assert (lost.line, lost.reason) == (2, "longer than 16 MiB")


@pytest.mark.parametrize(("content", "said"), [
    (b"text,label\n" + b"a long enough text,good\nanother text,bad\n" * 20, "a table"),
    (b'[{"text": "a"},\n {"text": "b"}]\n', "one JSON value"),
    (b"\x1f\x8b\x08\x00packed", "not plain text"),
    (b"", "empty"),
])  # fmt: skip
def test_what_cannot_be_read_in_pieces_is_refused_with_a_remedy(content, said, tmp_path):
    path = tmp_path / ("rows.csv" if content.startswith(b"text,") else "rows.json")
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        large_files([str(path)], [])
    assert "data.streaming" in str(caught.value)


def test_the_part_of_a_text_depends_on_it_alone_and_shares_are_kept():
    split = Split(train=0.8, validation=0.05, test=0.15)
    examples = [Example(id=number, text=f"Text {number}") for number in range(20_000)]
    shown = np.array([keys_of(one)[0] for one in examples], np.uint64)
    parts = parts_of(shown, split)
    again = np.array([keys_of(Example(id=0, text=f"  TEXT   {number}"))[0] for number in range(20_000)], np.uint64)
    assert (parts_of(again, split) == parts).all()  # case and spaces do not matter: no text crosses
    # four standard deviations of a share p of n draws: 4 * sqrt(p (1 - p) / n) is 0.0113 at most here
    for part, share in (("train", 0.8), ("validation", 0.05), ("test", 0.15)):
        assert abs((parts == part).mean() - share) < 0.0114
    other = parts_of(shown, split.model_copy(update={"seed": 1}))
    assert 0.25 < (other != parts).mean() < 0.45  # of two independent draws, 1 - 0.8^2 - 0.05^2 - 0.15^2 = 0.335 differ


def test_keys_that_were_met_are_known_as_a_set_knows_them():
    draw, seen, known = np.random.default_rng(0), Seen(4), set()
    for _ in range(60):
        keys = draw.integers(1, 3_000, size=draw.integers(0, 90)).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        expected = []
        for key in keys.tolist():
            expected.append(key not in known)
            known.add(key)
        assert seen.first(keys).tolist() == expected
    assert seen.size == len(known)


@pytest.mark.parametrize("largest", [200, 40_000, 300_000])
def test_rows_are_kept_to_the_bit(largest, tmp_path):
    draw = torch.Generator().manual_seed(0)
    units = [
        (
            Row(
                number, torch.randint(0, largest, (length,), generator=draw),
                {"supervised": torch.randint(0, 2, (length,), generator=draw).float(), "share": torch.rand(length, generator=draw)},
                {"level": 0.1 * number}, weights={"lm": 1 / (number + 3)}, source=torch.arange(number),
            ),
        )
        for number, length in enumerate([5, 1, 300, 2])
    ]  # fmt: skip
    assert fits(units)
    keep(tmp_path / "rows.safetensors", units, {"shown": np.arange(4)}, {"dropped": {"empty": 2}})
    found = kept(tmp_path / "rows.safetensors")
    assert found.num_rows == 4 and found.facts == {"dropped": {"empty": 2}} and found.numbers("shown").tolist() == [0, 1, 2, 3]
    for place, (row,) in enumerate(units):
        again = found.row(place, row.id)
        assert torch.equal(again.ids, row.ids) and torch.equal(again.source, row.source)
        assert all(torch.equal(again.tokens[name], row.tokens[name]) for name in row.tokens)
        assert (again.weights, again.scalars, again.id) == (row.weights, row.scalars, row.id)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.safetensors"]


def test_a_torn_or_altered_file_of_tokens_is_none(tmp_path):
    file = tmp_path / "rows.safetensors"
    keep(file, [(Row(0, torch.arange(9), {"supervised": torch.ones(9)}, weights={"lm": 9.0}),)], {}, {})
    whole = file.read_bytes()
    assert kept(file) is not None
    for content in (
        b"",
        whole[:20],
        whole[:-3],
        *(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] for place in range(0, len(whole), 7)),
    ):
        file.write_bytes(content)
        assert kept(file) is None
    assert kept(tmp_path / "none") is None


def test_where_tokens_cannot_be_kept_the_folder_and_the_way_on_are_told(tmp_path):
    (tmp_path / "tokens").write_text("a file where the folder should be")
    with pytest.raises(TrainingError, match=r"tokens could not be kept.*XDG_CACHE_HOME.*--resume"):
        keep(tmp_path / "tokens" / "ab" / "rows.safetensors", [], {}, {})


def test_tokens_that_were_long_of_no_use_make_room_for_others(tmp_path, monkeypatch):
    free = {"bytes": 10}
    monkeypatch.setattr("whet.engine.token_cache.shutil.disk_usage", lambda folder: SimpleNamespace(free=free["bytes"] - held()))

    def held():
        return len(list(tmp_path.rglob("*.safetensors")))

    for name, days in (("today", 0.1), ("week", 7), ("fortnight", 14), ("old", 31)):
        file = tmp_path / name[:2] / f"{name}.safetensors"
        file.parent.mkdir()
        file.touch()
        os.utime(file, (time.time() - 86_400 * days,) * 2)
    assert make_room(tmp_path, 7) == 7  # the old one goes whatever is free; 10 - 3 are enough
    assert make_room(tmp_path, 8) == 8 and not list(tmp_path.rglob("fortnight.*"))  # one more, the longest unused
    assert make_room(tmp_path, 99) == 9 and list(tmp_path.rglob("today.*"))  # another run may be at it
