"""Rows on the disk, and a process that is killed at any store: the same bytes afterwards, and nothing that was kept is made again."""

from __future__ import annotations

import csv
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.data import gather, near_kept, raw, read, shelves, signed, table
from whet.data.journal import Journal, Record
from whet.data.kept import write_kept
from whet.data.large import prepare_stored
from whet.data.making import Maker
from whet.data.preparing import prepare
from whet.data.shelves import Shelving
from whet.errors import DataError
from whet.recipe_data import Data

CLASSIFY, CHAT = ("text", "label"), ("messages",)
WORDS = ["".join(random.Random(seed).choices("abcdefghiklmnoprstuvwxä", k=3 + seed % 7)) for seed in range(120)]


class Killed(BaseException):
    """What no part of the program catches."""


def texts(seed: int, number: int, others: list[str]) -> list[str]:
    """Texts of which some are equal, and some near, to earlier ones or to `others`."""
    drawn, made = random.Random(seed), list[str]()
    for _ in range(number):
        known, chance = made + others, drawn.random()
        some = drawn.choices(WORDS, k=drawn.randint(5, 14))
        if known and chance < 0.3:
            some = drawn.choice(known).split()
            some[drawn.randrange(len(some))] = drawn.choice(WORDS) if chance < 0.2 else some[0]
        made.append(" ".join(some))
    return made


def rows_of(folder: Path, kind: str, seed: int, number: int) -> tuple[Data, tuple[str, ...]]:
    """Write files of a kind; return their section and what the objective needs."""
    held = texts(seed, number // 4, [])
    sources = {"train": texts(seed + 1, number, held), "test": held}
    for name, some in sources.items():
        if kind == "chat":
            turns = [
                [{"role": "user", "content": f"Tell me: {one}, please."}, {"role": "assistant", "content": one[:9]}]
                for one in some
            ]
            (folder / f"{name}.jsonl").write_text("".join(json.dumps({"messages": one}) + "\n" for one in turns))
        else:
            with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([("text", "label"), *((one, "abc"[at % 3]) for at, one in enumerate(some))])
    if kind == "chat":
        return Data(path=str(folder / "train.jsonl"), messages="messages"), CHAT
    test = {"test": str(folder / "test.csv"), "max_leak_fraction": 1} if kind == "held out" else {}
    return Data(path=str(folder / "train.csv"), text="text", label="label", max_reject_fraction=1, **test), CLASSIFY


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def written(data: Data, needs: tuple[str, ...], work: Path, num_workers: int = 1) -> dict[str, bytes]:
    """Prepare in this folder; return what is written."""
    work.mkdir(exist_ok=True)
    stored = prepare_stored(data, needs, None, Shelving(work, num_workers=num_workers))
    with tempfile.TemporaryDirectory() as out:
        stored.write(Path(out), stored.hash)
        return files_of(Path(out))


def in_memory(data: Data, needs: tuple[str, ...]) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as out:
        made = prepare(data, needs, None)
        made.write(Path(out), made.hash)
        return files_of(Path(out))


def killing(patch: pytest.MonkeyPatch, after: int, *, torn: bool) -> None:
    """Let the process be killed at the store after so many: before it, or in the middle of its file."""
    left = [after]

    def store(path: Path, made_of: bytes, content: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            if torn:
                path.with_name(f"{path.name}.partial").write_bytes(made_of + content[: len(content) // 2])
            raise Killed
        write_kept(path, made_of, content)

    def append(journal: Journal, said: dict[str, object], content: bytes) -> Record:
        left[0] -= 1
        if left[0] < 0:
            size = journal._end
            if torn:
                real(journal, said, content)
                journal._file.truncate((size + journal._end) // 2)
            raise Killed
        return real(journal, said, content)

    real = Journal.append
    patch.setattr(Journal, "append", append)
    for module in (shelves, near_kept):
        patch.setattr(module, "write_kept", store)


@pytest.fixture(autouse=True)
def few():
    """Stretches of few rows, and few lines that a file is judged by."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raw, "STRETCH", 20)
        patch.setattr(table, "HEAD", 5)
        patch.setattr(read, "sample", lambda lines: table.sample(lines, limit=10))
        yield


@pytest.fixture
def counted(monkeypatch) -> Iterator[dict[str, int]]:
    """How often rows are made, texts signed, candidates looked for and rows walked."""
    counts = dict.fromkeys(["read", "made", "signed", "paired", "walked"], 0)

    def counting(name: str, real: Callable[..., object], size: Callable[..., int]) -> Callable[..., object]:
        def counted(*some: object, **others: object) -> object:
            counts[name] += size(*some)
            return real(*some, **others)

        return counted

    real = read.physical_lines

    def lines(*some: object, **others: object) -> Iterator[object]:
        for line in real(*some, **others):
            counts["read"] += 1
            yield line

    monkeypatch.setattr(read, "physical_lines", lines)
    monkeypatch.setattr(Maker, "__call__", counting("made", Maker.__call__, lambda maker, rows, *rest: len(rows)))
    monkeypatch.setattr(signed, "sign", counting("signed", signed.sign, lambda texts, bands: len(texts)))
    monkeypatch.setattr(near_kept, "candidates", counting("paired", near_kept.candidates, lambda *rest: 1))
    monkeypatch.setattr(near_kept.Walk, "run", counting("walked", near_kept.Walk.run, lambda *rest: 1))
    yield counts


KINDS = ["plain", "held out", "chat"]


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[] if kind == "plain" else [pytest.mark.slow]) for kind in KINDS])
@pytest.mark.parametrize("torn", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_killed_at_any_store_the_same_command_ends_in_the_same_bytes(kind, torn, tmp_path, monkeypatch, counted):
    data, needs = rows_of(tmp_path, kind, 3, 110)
    expected = in_memory(data, needs)
    counted.update(dict.fromkeys(counted, 0))
    assert written(data, needs, tmp_path / "whole") == expected
    whole = dict(counted)
    in_flight = 20 * (2 + (os.cpu_count() or 1))  # rows of the stretches that are worked on at a time
    for after in itertools.count():
        counted.update(dict.fromkeys(counted, 0))
        work = tmp_path / f"work{after}"
        with monkeypatch.context() as patch:
            killing(patch, after, torn=torn)
            try:
                written(data, needs, work)
            except Killed:
                pass
            else:
                break  # it has no more stores than that
        assert written(data, needs, work) == expected, after
        assert counted["read"] <= whole["read"] + 2 * (10 + 20), after  # two files
        assert counted["made"] <= whole["made"] + 20, after
        assert counted["signed"] <= whole["signed"] + in_flight, after
        assert counted["paired"] <= whole["paired"] + 1 and counted["walked"] <= whole["walked"] + 1, after
        shutil.rmtree(work)
    assert after >= whole["made"] // 20 + whole["walked"] * 2


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(KINDS),
    kills=st.lists(st.integers(0, 16), max_size=4),
    size=st.integers(7, 40),
)
def test_killed_again_and_again_it_ends_in_the_same_bytes(seed, kind, kills, size):
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(raw, "STRETCH", size)
        data, needs = rows_of(Path(name), kind, seed, 90)
        for after in kills:
            with pytest.MonkeyPatch.context() as inner:
                killing(inner, after, torn=after % 2 == 1)
                with suppress(Killed):
                    written(data, needs, Path(name) / "work")
        assert written(data, needs, Path(name) / "work") == in_memory(data, needs)


def kept_of(work: Path) -> set[str]:
    return {path.suffix for path in work.iterdir()}


@pytest.mark.parametrize("redact", [True, "auto"])
def test_where_private_data_leave_the_rows_none_is_kept_after_a_kill(redact, tmp_path, monkeypatch):
    data, needs = rows_of(tmp_path, "plain", 3, 110)
    file = tmp_path / "train.csv"
    header, *lines = file.read_text(encoding="utf-8").splitlines()
    file.write_text(
        "\n".join([header, *(f"me{place}@firma.de {line}" for place, line in enumerate(lines))]) + "\n", encoding="utf-8"
    )
    data = data.model_copy(update={"redact": redact})
    expected = in_memory(data, needs)
    places: list[Path | None] = []
    real = gather.RawRows
    monkeypatch.setattr(gather, "RawRows", lambda folder: (places.append(folder), real(folder))[1])
    with monkeypatch.context() as patch:
        patch.setattr(near_kept.Walk, "run", lambda *rest: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            written(data, needs, tmp_path / "work")
    kept = b"".join(path.read_bytes() for path in (tmp_path / "work").iterdir())
    assert (b"firma.de" in kept) == (redact == "auto")
    assert set(places) == {tmp_path / "work"}, "rows lie on the disk all the same"
    assert written(data, needs, tmp_path / "work") == expected


@pytest.mark.parametrize("redact", [True, "auto"])
def test_rows_on_the_disk_are_held_to_strict_too(redact, tmp_path):
    data, needs = rows_of(tmp_path, "plain", 3, 110)
    with (tmp_path / "train.csv").open("a", encoding="utf-8") as file:
        file.write("too,many,fields\n")
    with pytest.raises(DataError, match=r"train\.csv:112: line of 3 fields where the file has 2 columns"):
        written(data.model_copy(update={"strict": True, "redact": redact}), needs, tmp_path / "work")


def test_what_was_found_is_found_again_only_where_something_changed(tmp_path, monkeypatch, counted):
    data, needs = rows_of(tmp_path, "held out", 3, 110)
    expected = written(data, needs, tmp_path / "work")
    assert kept_of(tmp_path / "work") == {".stretch", ".found", ".rows"}, "what is not needed any more does not lie there"
    counted.update(dict.fromkeys(counted, 0))
    assert written(data, needs, tmp_path / "work") == expected
    assert not any(counted.values())
    for module, name, value in ((near_kept, "__version__", "0.0.0"), (near_kept, "FORM", -1)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            assert written(data, needs, tmp_path / "work") == expected
        assert not counted["made"] and counted["signed"] and counted["walked"], "kept by other code"
        counted.update(dict.fromkeys(counted, 0))
    for found in (tmp_path / "work").glob("*.found"):
        found.write_bytes(found.read_bytes()[:-1] + b"!")
    assert written(data, needs, tmp_path / "work") == expected and counted["walked"]


def test_numbers_of_another_form_are_not_taken(tmp_path, monkeypatch, counted):
    data, needs = rows_of(tmp_path, "plain", 3, 110)
    with monkeypatch.context() as patch:
        patch.setattr(near_kept.Walk, "run", lambda *rest: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            written(data, needs, tmp_path / "work")
    assert {".stretch", ".signed", ".pairs"} <= kept_of(tmp_path / "work")
    whole = counted["signed"]
    monkeypatch.setattr(signed, "FORM", -1)
    written(data, needs, tmp_path / "work")
    assert counted["signed"] == 2 * whole


def test_stretches_that_come_twice_are_signed_once(tmp_path, monkeypatch, counted):
    # rows whose texts a former division has come first, so that a stretch with such rows and others comes twice
    data, needs = rows_of(tmp_path, "plain", 3, 110)
    made = prepare(data, needs, None)
    made.write(tmp_path / "run", made.hash)
    header, *old = (tmp_path / "train.csv").read_text(encoding="utf-8").splitlines()
    new = [f"{text},a" for text in texts(9, 110, [])]
    (tmp_path / "train.csv").write_text("\n".join([header, *(row for pair in zip(old, new, strict=True) for row in pair)]) + "\n")
    data = data.model_copy(update={"split": data.split.model_copy(update={"frozen": str(tmp_path / "run")})})
    expected = in_memory(data, needs)
    real = signed.sign
    monkeypatch.setattr(signed, "sign", lambda some, bands: (time.sleep(0.01), real(some, bands))[1])
    monkeypatch.setattr(near_kept.os, "cpu_count", lambda: 16)
    counted.update(dict.fromkeys(counted, 0))
    assert written(data, needs, tmp_path / "work") == expected
    assert counted["signed"] == counted["made"] == 220


KILLED = """
import os, signal, sys
from pathlib import Path
from whet.data import gather, near_kept, raw, shelves
from whet.data.journal import Journal
from whet.data.kept import write_kept
from whet.data.large import prepare_stored
from whet.data.shelves import Shelving
from whet.errors import DataError
from whet.recipe_data import Data
raw.STRETCH = 20
left = [{after}]
def store(path, made_of, content):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    write_kept(path, made_of, content)
real = Journal.append
def append(journal, said, content):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(journal, said, content)
Journal.append = append
shelves.write_kept = near_kept.write_kept = store
prepare_stored(Data.model_validate({data!r}), {needs!r}, None, Shelving(Path({work!r}), num_workers=2))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_process_and_its_workers_leave_what_they_stored(kind, tmp_path, monkeypatch):
    data, needs = rows_of(tmp_path, kind, 3, 110)
    expected = in_memory(data, needs)
    for after in (3, 8, 13, 18):
        work = tmp_path / f"work{after}"
        work.mkdir()
        code = KILLED.format(after=after, data=data.model_dump(mode="json"), needs=needs, work=str(work))
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
        assert written(data, needs, work, num_workers=1 + after % 2) == expected
