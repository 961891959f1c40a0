"""Rows on the disk: what is written is, byte for byte, what rows in memory give; and what was made before a kill is not made again."""

from __future__ import annotations

import csv
import errno
import gc
import gzip
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy.sparse.csgraph import connected_components

from whet.data import raw, semantic, shelves
from whet.data.large import prepare_stored
from whet.data.making import Maker
from whet.data.preparing import prepare
from whet.data.rows import RawRow
from whet.data.shelves import Shelving
from whet.engine.embed import unit_vectors
from whet.errors import DataError, Interrupted, Refused
from whet.models.load import load_policy
from whet.recipe_data import Data
from whet.recipe_file import build_recipe
from whet.run import Run
from whet.stages import shelving
from whet.stages.narrate import SILENT, Narrator
from whet.stages.prepare import located, prepare_run
from whet.testing.tiny import write_tiny
from whet.types import Example

CLASSIFY = ("text", "label")
SEVERAL = ("text", "labels")
CHAT = ("messages",)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def both(data: Data, needs: tuple[str, ...], folder: Path) -> tuple[dict[str, bytes] | str, dict[str, bytes] | str]:
    """What the two roads write, or say is wrong."""
    found: list[dict[str, bytes] | str] = []
    for name in ("memory", "disk"):
        try:
            if name == "memory":
                made = prepare(data, needs, None, num_workers=1)
                made.write(folder / name, made.hash)
            else:
                (folder / "work").mkdir()
                stored = prepare_stored(data, needs, None, Shelving(folder / "work", num_workers=1))
                stored.write(folder / name, stored.hash)
            found.append(files_of(folder / name))
        except (DataError, Refused) as error:
            found.append(str(error))
    return found[0], found[1]


def alike(data: Data, needs: tuple[str, ...], folder: Path) -> dict[str, bytes] | str:
    memory, disk = both(data, needs, folder)
    if isinstance(memory, dict) and isinstance(disk, dict):
        assert sorted(memory) == sorted(disk)
        for name in memory:
            assert memory[name] == disk[name], name
    assert memory == disk
    return memory


WORDS = ["".join(random.Random(seed).choices("abcdefghiklmnoprstuvwxä", k=3 + seed % 7)) for seed in range(120)]


def table(path: Path, seed: int, number: int, *, others: list[str] | None = None, several: bool = False) -> list[str]:
    """Rows of every kind of trouble; `others` are texts of another file that some are equal or near to. Returns its texts."""
    drawn = random.Random(seed)
    texts: list[str] = []
    rows = []
    for place in range(number):
        text = " ".join(drawn.choices(WORDS, k=drawn.randint(1, 14)))
        chance = drawn.random()
        known = texts + (others or [])
        if known and chance < 0.12:
            text = drawn.choice(known)
        elif known and chance < 0.3:
            some = drawn.choice(known).split()
            some[drawn.randrange(len(some))] = drawn.choice(WORDS)
            text = " ".join(some)
        texts.append(text)
        text += drawn.choice(
            ["", "", "", " Anna@Example.org", "  \u200b", " <b>caf\u00c3\u00a9</b>", ' "quoted", text', " \U0001f600"]
        )
        label = drawn.choice(["a", "b", "B ", "", "c"]) if drawn.random() < 0.15 else "abc"[place % 3]
        if several:
            label = "|".join(
                [label, *drawn.choices(["a", "A", "b", " c", "c", "other one", "d", f"rare {place // 9}"], k=drawn.randint(0, 4))]
            )
        group = drawn.choice(["", f"c{drawn.randrange(number)}", f"c{drawn.randrange(5)}"])
        part = drawn.choice(["train", "train", "train", "Training", "dev", "validation", "test", "hold-out", "", "all"])
        day, month = drawn.randint(1, 28), drawn.randint(1, 12)
        when = drawn.choice([f"2024-{month:02}-{day:02}", f"{day:02}/{month:02}/2023", f"{1.7e9 + place}", "", "soon"])
        rows.append([text, label, group, drawn.choice(["web", "me@example.org"]), str(drawn.randint(0, 9)), part, when])
    names = ["text", "label", "customer", "channel", "score", "part", "when"]
    if path.suffix == ".jsonl":  # lists of labels, of which some are empty: none applies
        listed = [[row[0], row[1].split("|") if place % 5 else [], *row[2:]] for place, row in enumerate(rows)]
        path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in listed), encoding="utf-8")
        return texts
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([names, *rows])
    return texts


@settings(max_examples=35, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    number=st.integers(3, 160),
    held=st.sampled_from([(), ("test",), ("validation",), ("validation", "test")]),
    near=st.sampled_from(["auto", "drop", "keep", False]),
    conflicts=st.sampled_from(["keep", "majority", "drop"]),
    group=st.sampled_from([(), ("customer",), ("customer", "channel")]),
    redact=st.sampled_from(["auto", True, False]),
    synonyms=st.sampled_from([{}, {"b": "a"}, {"c": "other one"}]),
    stratify=st.booleans(),
    divided=st.sampled_from(["drawn", "drawn", "part", "time", "folds"]),
    several=st.booleans(),
    stretch=st.integers(1, 40),
)
def test_rows_on_the_disk_give_the_bytes_of_rows_in_memory(
    seed, number, held, near, conflicts, group, redact, synonyms, stratify, divided, several, stretch
):
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(raw, "STRETCH", stretch)
        folder = Path(name)
        held = () if divided in {"part", "folds"} else held
        split: dict[str, object] = {"stratify": stratify, "seed": seed}
        split |= {"folds": 2 + seed % 3, "fold": seed % 2} if divided == "folds" else {}
        columns = {"part": {"part": "part"}, "time": {"time": "when"}}.get(divided, {})
        columns |= {"labels" if several else "label": "label"}
        ending = "jsonl" if several and seed % 2 else "csv"
        texts = table(folder / f"train.{ending}", seed, number, several=several)
        for place, source in enumerate(held):
            table(folder / f"{source}.{ending}", seed + 1 + place, max(3, number // 4), others=texts, several=several)
        data = Data(
            path=str(folder / f"train.{ending}"), text="text", group=group, slices=("channel",), redact=redact,
            conflicts=conflicts, duplicates={"near": near}, label_synonyms=synonyms, split=split, **columns,
            max_reject_fraction=1, max_leak_fraction=0.5, **{source: str(folder / f"{source}.{ending}") for source in held},
        )  # fmt: skip
        alike(data, SEVERAL if several else CLASSIFY, folder)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    number=st.integers(30, 120),
    grown=st.integers(1, 90),
    held=st.sampled_from([(), (), ("test",), ("validation",), ("validation", "test")]),
    near=st.sampled_from(["auto", "drop", "keep", False]),
    group=st.sampled_from([(), ("customer",), ("customer", "channel")]),
    several=st.booleans(),
    by=st.sampled_from(["drawn", "drawn", "time", "part"]),
    rows_beside=st.booleans(),
    stretch=st.integers(1, 40),
)
def test_new_rows_join_a_frozen_division_on_the_disk_as_in_memory(
    seed, number, grown, held, near, group, several, by, rows_beside, stretch
):
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(raw, "STRETCH", stretch)
        folder, columns = Path(name), {"labels" if several else "label": "label", "group": group, "redact": False}
        before = table(folder / "before.csv", seed, number, several=several)
        old = Data(path=str(folder / "before.csv"), text="text", max_reject_fraction=1, duplicates={"near": near}, **columns)
        try:
            made = prepare(old, SEVERAL if several else CLASSIFY, None, num_workers=1)
        except DataError:
            return
        made.write(folder / "run", made.hash)
        if not rows_beside:
            shutil.rmtree(folder / "run" / "data")
        texts = table(folder / "more.csv", seed + 1, grown, others=before, several=several)
        lines = (folder / "before.csv").read_text(encoding="utf-8").splitlines()[: 1 + number * (seed % 3) // 2]
        lines += (folder / "more.csv").read_text(encoding="utf-8").splitlines()[1:]
        (folder / "all.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for place, source in enumerate(held if by != "part" else ()):
            table(folder / f"{source}.csv", seed + 2 + place, 12, others=texts, several=several)
        columns |= {"part": {"part": "part"}, "time": {"time": "when"}}.get(by, {})
        data = Data(
            path=str(folder / "all.csv"), text="text", split={"frozen": str(folder / "run"), "seed": seed}, duplicates={"near": near},
            max_reject_fraction=1, max_leak_fraction=0.9, **columns,
            **{source: str(folder / f"{source}.csv") for source in held if by != "part"},
        )  # fmt: skip
        found = alike(data, SEVERAL if several else CLASSIFY, folder)
        if isinstance(found, dict):
            said = json.loads(found["data/accounting.json"])["sources"]
            for count in said.values():
                assert count["rows"] == sum(count["used"].values()) + sum(count["dropped"].values())


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    """A model whose embeddings differ, in place of one that takes seconds to load."""
    return str(write_tiny(tmp_path_factory.mktemp("model") / "llama", "llama"))


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    number=st.integers(20, 120),
    held=st.sampled_from([(), ("test",), ("validation", "test")]),
    near=st.sampled_from(["auto", "drop", "keep"]),
    several=st.booleans(),
    stretch=st.integers(1, 40),
    block=st.integers(3, 50),
)
def test_semantic_duplicates_on_the_disk_are_those_in_memory(small_model, seed, number, held, near, several, stretch, block):
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(raw, "STRETCH", stretch)
        patch.setattr(semantic, "MODEL", small_model)
        patch.setattr(semantic, "BLOCK", block)
        patch.setattr(semantic, "EMBEDDED", 2 * block + 1)
        folder = Path(name)
        texts = table(folder / "train.csv", seed, number, several=several)
        for place, source in enumerate(held):
            table(folder / f"{source}.csv", seed + 1 + place, 10, others=texts, several=several)
        data = Data(
            path=str(folder / "train.csv"), text="text", redact=False, duplicates={"near": near, "semantic": 0.8 + seed % 5 / 25},
            max_reject_fraction=1, max_leak_fraction=0.9, **{"labels" if several else "label": "label"},
            **{source: str(folder / f"{source}.csv") for source in held},
        )  # fmt: skip
        alike(data, SEVERAL if several else CLASSIFY, folder)


@pytest.mark.parametrize("block", [7, 64, 4096])
def test_semantic_groups_are_those_of_all_pairs(block, small_model, tmp_path, monkeypatch):
    monkeypatch.setattr(semantic, "MODEL", small_model)
    monkeypatch.setattr(semantic, "BLOCK", block)
    monkeypatch.setattr(semantic, "EMBEDDED", 2 * block + 1)
    texts = table(tmp_path / "rows.csv", 11, 150)
    found = semantic.find_semantic(iter(texts), 150, 0.92, [""] * 150, [0] * 150, drop=False, folder=tmp_path)
    vectors = unit_vectors(load_policy(small_model), [Example(id=n, text=text) for n, text in enumerate(texts)], 128)[0].double()
    number, component = connected_components((vectors @ vectors.T).numpy() >= 0.92, directed=False)
    groups = [np.flatnonzero(component == one).tolist() for one in range(number)]
    assert found.group == {row: some[0] for some in groups if len(some) > 1 for row in some}
    assert 20 < len(found.group) < 140 and not list(tmp_path.glob("whet-*"))


@pytest.mark.parametrize("needs", [("text", "value"), ("text",), ("text", "token_labels"), ("prompt", "chosen", "rejected")])
def test_rows_of_other_kinds_are_the_same_on_the_disk(needs, tmp_path, monkeypatch):
    monkeypatch.setattr(raw, "STRETCH", 17)
    drawn = random.Random(3)
    rows = []
    for place in range(150):
        words = drawn.choices(WORDS, k=drawn.randint(5, 12)) if place % 5 or not rows else rows[-1]["text"].split()
        labels = [drawn.choice(["O", "B-X"]) for _ in words]
        rows.append(
            {
                "text": " ".join(words),
                "value": place % 7 / 2,
                "words": words,
                "labels": labels,
                "yes": f"good {words[0]}",
                "no": "bad",
            }
        )
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    columns = {"value": {"text": "text", "label": "value"}, "token_labels": {"text": "words", "token_labels": "labels"}}
    columns["rejected"] = {"prompt": "text", "chosen": "yes", "rejected": "no"}
    assert isinstance(alike(Data(path=str(file), **columns.get(needs[-1], {"text": "text"})), needs, tmp_path), dict)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), number=st.integers(4, 60), stretch=st.integers(1, 20))
def test_conversations_and_their_continuations_are_the_same_on_the_disk(seed, number, stretch):
    drawn = random.Random(seed)
    rows: list[list[dict[str, str]]] = []
    for _ in range(number):
        turns = [dict(turn) for turn in drawn.choice(rows)] if rows and drawn.random() < 0.4 else []
        turns = turns or ([{"role": "system", "content": "Be kind."}] if drawn.random() < 0.5 else [])
        for _ in range(drawn.randint(1, 2)):
            turns.append({"role": "user", "content": "please say: " + " ".join(drawn.choices(WORDS, k=drawn.randint(1, 9)))})
            turns.append({"role": "assistant", "content": " ".join(drawn.choices(WORDS, k=3))})
        rows.append(turns)
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(raw, "STRETCH", stretch)
        file = Path(name) / "chat.jsonl"
        file.write_text("".join(json.dumps({"messages": turns}) + "\n" for turns in rows), encoding="utf-8")
        alike(Data(path=str(file), messages="messages"), CHAT, Path(name))


ODD = {
    "unclear": ["03/04/2024", "05/05/2024", "11/12/2023", "2024-01-01"],
    "contradictory": ["13/04/2024", "04/13/2024", "05/05/2024"],
    "the same day and month": ["03/03/2024", "05/05/2024", "11/11/2023", "2024-01-01"],
    "one moment": ["2024-01-01"],
    "before 1970, and zones": ["-86400", "-86400.5", "1969-12-31", "2024-03-05T10:00:00+02:00", "2024-03-05T08:00:00Z", "2024-03-05 08:00"],
    "gaps": ["", "soon", "2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05"],
    "none": [""],
    "no dates": ["soon", "later"],
}  # fmt: skip


@pytest.mark.parametrize("when", ODD)
def test_times_that_are_hard_to_read_are_told_alike_on_the_disk(when, tmp_path, monkeypatch):
    monkeypatch.setattr(raw, "STRETCH", 7)
    with (tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [(" ".join(WORDS[place : place + 6]), "ab"[place % 2], ODD[when][place % len(ODD[when])]) for place in range(40)]
        csv.writer(file).writerows([("text", "label", "when"), *rows])
    data = Data(path=str(tmp_path / "rows.csv"), text="text", label="label", time="when", max_reject_fraction=1)
    found = alike(data, CLASSIFY, tmp_path)
    expected = {
        "unclear": "rows.csv:2: 'when' has dates of which no row tells", "contradictory": "rows.csv:2: 'when' has dates",
        "one moment": "the rows have 1 different time ", "none": "", "no dates": "",
    }  # fmt: skip
    assert isinstance(found, str) == (when in expected) and expected.get(when, "") in str(found)


@pytest.mark.parametrize("parts", [[""], ["test", "dev"], ["train"], [" Train ", "HOLD-OUT", "", "mine"]])
def test_a_column_of_parts_is_told_alike_on_the_disk(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(raw, "STRETCH", 7)
    with (tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [(" ".join(WORDS[2 * place :][:6]), "ab"[place // 4 % 2], parts[place % len(parts)]) for place in range(40)]
        csv.writer(file).writerows([("text", "label", "part"), *rows])
    data = Data(path=str(tmp_path / "rows.csv"), text="text", label="label", part="part", max_reject_fraction=1)
    found = alike(data, CLASSIFY, tmp_path)
    assert isinstance(found, str) == (parts in ([""], ["test", "dev"]))
    assert isinstance(found, dict) or "no row has the part 'train' in 'part'" in found


@pytest.fixture
def rows_file(tmp_path, monkeypatch):
    """A file that counts as large, and an empty cache."""
    monkeypatch.setattr(raw, "STRETCH", 20)
    monkeypatch.setattr(shelving, "LARGE", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "train.csv", 5, 1200)
    return tmp_path / "train.csv"


RECIPE = {"model": "builtin:minilm", "data": {"path": "train.csv", "text": "text", "label": "label", "max_reject_fraction": 1}, "objective": "classify"}  # fmt: skip
KILLED = """
from whet.data import raw, semantic, shelves
from whet.stages import shelving
from whet.stages.prepare import prepare_run
from whet.recipe_file import build_recipe
raw.STRETCH, shelving.LARGE = 20, 0
prepare_run(build_recipe({recipe!r}, "here"))
"""


def heard(**choices: object) -> tuple[Run, str]:
    """Prepare the run; return it, and what was said."""
    said = io.StringIO()
    run = prepare_run(build_recipe(RECIPE, "here"), narrator=Narrator(Console(file=said, width=500)), **choices)
    return run, said.getvalue()


def working(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "whet" / "prepare").glob("*/*.stretch"))


def in_memory(folder: Path) -> dict[str, bytes]:
    made = prepare(Data(**RECIPE["data"]), CLASSIFY, None)
    made.write(folder / "expected", made.hash)
    return files_of(folder / "expected")


def without_manifest(run: Run) -> dict[str, bytes]:
    return {
        name: content for name, content in files_of(run.path).items() if name not in {"manifest.json", "recipe.yaml", ".lock"}
    }


@pytest.mark.slow
def test_what_was_made_before_a_kill_is_not_made_again(rows_file):
    folder = rows_file.parent
    process = subprocess.Popen([sys.executable, "-c", KILLED.format(recipe=RECIPE)])
    while len(working(folder)) < 12 and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    process.wait()
    kept = len(working(folder))
    assert kept >= 12 and not list(folder.glob("runs/*/data"))
    run, said = heard()
    assert f"{20 * kept:,} rows were made before an interruption, and were not made again." in said
    assert without_manifest(run) == in_memory(folder)
    assert not list((folder / "cache" / "whet" / "prepare").iterdir())


def test_only_stretches_that_changed_are_made_again(rows_file, monkeypatch):
    data = Data(**RECIPE["data"])
    (work := rows_file.parent / "work").mkdir()
    first = prepare_stored(data, CLASSIFY, None, Shelving(work, num_workers=1)).hash
    made: list[int] = []
    real = Maker.__call__
    monkeypatch.setattr(Maker, "__call__", lambda self, rows, *rest: (made.append(len(rows)), real(self, rows, *rest))[1])
    again = Shelving(work, num_workers=1)
    assert prepare_stored(data, CLASSIFY, None, again).hash == first and not made and again.num_kept == 1200
    damaged = sorted(work.glob("*.stretch"))[3]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    assert prepare_stored(data, CLASSIFY, None, Shelving(work, num_workers=1)).hash == first and made == [20]
    other = data.model_copy(update={"clean": ()})
    prepare_stored(other, CLASSIFY, None, Shelving(work, num_workers=1))
    assert sum(made) == 20 + 1200  # other settings, other rows


def test_the_number_of_workers_does_not_change_what_is_kept(rows_file):
    data = Data(**RECIPE["data"])
    for number in (1, 3):
        (work := rows_file.parent / f"work{number}").mkdir()
        made = prepare_stored(data, CLASSIFY, None, Shelving(work, num_workers=number))
        made.write(rows_file.parent / f"by{number}", made.hash)
    assert files_of(rows_file.parent / "work1") == files_of(rows_file.parent / "work3")
    assert files_of(rows_file.parent / "by1") == files_of(rows_file.parent / "by3") == in_memory(rows_file.parent)


@pytest.mark.slow
def test_rows_that_are_packed_small_are_large(rows_file, monkeypatch):
    text = rows_file.read_bytes() + b"the same again,a,,web,1,train,\n" * 40_000
    rows_file.unlink()
    Path("train.csv.gz").write_bytes(packed := gzip.compress(text))
    monkeypatch.setitem(RECIPE, "data", {**RECIPE["data"], "path": "train.csv.gz"})
    for least, on_disk in ((len(text), True), (len(text) + 1, False)):
        assert least > 10 * len(packed)
        monkeypatch.setattr(shelving, "LARGE", least)
        assert ("Rows lie on the disk" in heard()[1]) == on_disk


def test_another_model_that_finds_names_makes_all_stretches_anew(rows_file, monkeypatch):
    data = Data(**RECIPE["data"])
    (work := rows_file.parent / "work").mkdir()
    prepare_stored(data, CLASSIFY, None, Shelving(work, num_workers=1))
    monkeypatch.setattr(shelves, "finders_of", lambda data: {"names": "another hash"})
    again = Shelving(work, num_workers=1)
    prepare_stored(data, CLASSIFY, None, again)
    assert again.num_kept == 0


def test_a_full_disk_is_said_and_what_was_made_stays(rows_file, monkeypatch):
    real, left = shelves.write_kept, [7]

    def full(path, made_of, content):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, made_of, content)

    monkeypatch.setattr(shelves, "write_kept", full)
    with pytest.raises(DataError, match=r"the disk is full\. Make room, or name a folder on another disk by XDG_CACHE_HOME"):
        heard()
    assert len(working(rows_file.parent)) == 7 and not list(rows_file.parent.glob("runs/*"))
    monkeypatch.setattr(shelves, "write_kept", real)
    run, said = heard()
    assert "140 rows were made before an interruption" in said and without_manifest(run) == in_memory(rows_file.parent)


def test_what_is_said_of_a_full_disk_fits_the_place_that_is_full(rows_file, monkeypatch):
    def full(path, chunks):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("whet.data.large.write_chunks", full)  # where the run is written, which is no matter of the cache
        with pytest.raises(DataError, match=r"train\.jsonl: the disk is full\. Make room there; the same command") as told:
            heard()
    assert "XDG_CACHE_HOME" not in str(told.value) and not list(rows_file.parent.glob("runs/*"))
    run, said = heard()
    assert "1,200 rows were made before an interruption" in said and without_manifest(run) == in_memory(rows_file.parent)


def test_a_long_comparison_after_a_kill_is_told_at_each_tenth_and_a_short_one_is_not():
    said = io.StringIO()
    told = shelving.compared_aloud(Narrator(Console(file=said, width=500)))
    for done in range(1, 101):
        told(done << 20, 100 << 20)
    assert not said.getvalue()
    for done in range(1, 101):
        told(done << 25, 100 << 25)
    lines = said.getvalue().splitlines()
    assert len(lines) == 11 and lines[1].endswith("0.3 of 3.1 GiB.") and lines[-1].endswith("3.1 of 3.1 GiB."), lines


def test_rows_that_could_not_be_written_are_forgotten_without_a_word(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(raw, "STRETCH", 3)
    rows = raw.RawRows(tmp_path)
    rows.add(RawRow("rows.csv", 1, {"text": "one"}))
    assert len(list(rows)) == 1
    handle = rows._file.fileno()
    rows._file.write(b"what waits to be written")
    os.dup2(os.open("/dev/full", os.O_WRONLY), handle)
    del rows
    gc.collect()
    assert capfd.readouterr().err == ""


def test_where_rows_cannot_lie_the_folder_is_named_and_how_to_choose_another(rows_file, monkeypatch):
    (rows_file.parent / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(rows_file.parent / "file"))
    with pytest.raises(DataError, match=r"whet/prepare: Not a directory\. .*name another folder by XDG_CACHE_HOME"):
        heard()


def test_a_folder_that_others_may_write_to_is_not_used(rows_file, monkeypatch):
    folder = shelving._base()
    folder.chmod(0o777)
    with pytest.raises(DataError, match="others may write there, and what lies there is read as whet's own"):
        shelving._base()
    folder.chmod(0o700)
    assert shelving._base() == folder


def test_what_another_process_sweeps_at_the_same_time_is_left_to_it(rows_file, monkeypatch):
    old = rows_file.parent / "cache" / "whet" / "prepare" / "old"
    old.mkdir(parents=True)
    real = Path.is_dir

    def gone(path):
        there = real(path)
        if path == old and there:
            path.rmdir()  # deleted by the other one between two looks
        return there

    monkeypatch.setattr(Path, "is_dir", gone)
    run, _ = heard()
    assert not real(old) and without_manifest(run) == in_memory(rows_file.parent)


def test_what_a_killed_process_left_is_deleted_after_14_days(rows_file):
    base = rows_file.parent / "cache" / "whet" / "prepare"
    for name, days in (("old", 14.1), ("new", 13.9)):
        (base / name).mkdir(parents=True)
        (base / name / "rows.rows").write_bytes(b"rows")
        os.utime(base / name, (time.time() - days * 24 * 3600,) * 2)
    heard()
    assert [path.name for path in base.iterdir() if path.is_dir()] == ["new"]


def test_who_stops_it_is_told_how_to_go_on(rows_file, monkeypatch):
    real, left = shelves.write_kept, [9]

    def stopped(path, made_of, content):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        real(path, made_of, content)

    monkeypatch.setattr(shelves, "write_kept", stopped)
    with pytest.raises(Interrupted, match="the same command again"):
        heard()
    monkeypatch.setattr(shelves, "write_kept", real)
    monkeypatch.setattr(shelving, "LONG", 1)  # as if the file were long to compare
    said = heard()[1]
    assert "180 rows were made before an interruption" in said and "Comparing the files with what was read of them" in said


def test_a_mistake_leaves_nothing_behind_and_two_at_once_are_refused(rows_file):
    rows_file.write_text("text,label\n" + "".join(f"text {place},same\n" for place in range(50)), encoding="utf-8")
    with pytest.raises(DataError, match="one class only"):
        heard()
    base = rows_file.parent / "cache" / "whet" / "prepare"
    assert not list(base.iterdir())
    data = located(build_recipe(RECIPE, "here").data, None)
    with (
        shelving.shelved(data, CLASSIFY, SILENT),
        pytest.raises(DataError, match="another process prepares the same data"),
        shelving.shelved(data, CLASSIFY, SILENT),
    ):
        pass


def test_what_needs_all_rows_in_memory_is_prepared_there_and_said(rows_file, monkeypatch):
    monkeypatch.setitem(RECIPE, "data", {**RECIPE["data"], "augment": {"balance": "repeat"}})
    _, said = heard()
    assert "data.augment needs all rows in memory" in said and "Rows lie on the disk" not in said


@pytest.mark.parametrize(
    "splits",
    ['{"train": [1, 2]}', "[1]", "{", '{"texts": {"train": [], "test": []}}', '{"texts": {"train": 1, "validation": [], "test": []}}',
     '{"texts": {"train": [], "validation": [], "test": []}} more', None],
)  # fmt: skip
def test_what_is_no_division_is_told_alike_on_the_disk(splits, rows_file):
    if splits is not None:
        (rows_file.parent / "splits.json").write_text(splits, encoding="utf-8")
    data = Data(**RECIPE["data"], split={"frozen": str(rows_file.parent / "splits.json")})
    assert "Name the folder of a run, or the splits.json in it" in alike(data, CLASSIFY, rows_file.parent)


def test_damaged_rows_of_a_frozen_division_are_told_alike_on_the_disk(rows_file):
    run, _ = heard()
    with (run.path / "data" / "test.jsonl").open("a", encoding="utf-8") as file:
        file.write("no row\n")
    data = Data(**RECIPE["data"], split={"frozen": str(run.path)})
    assert "damaged (JSONDecodeError). Restore the folder" in alike(data, CLASSIFY, rows_file.parent)
