"""Broken files of every format end in rows, or in a sentence with file, reason and remedy; giant ones in bounded memory."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutate import broken, judge, mutated, tried, wholes

from whet.data.read import read_files

SOUND = wholes()
LIMIT_S = 60.0
"""For ten thousand inputs, in processor time, since the machine may be shared."""
SOAK_S = 3600.0
"""Longest soak."""


@pytest.mark.parametrize("name", sorted(SOUND))
def test_a_sound_file_of_each_format_is_read(tmp_path, name):
    (tmp_path / name).write_bytes(SOUND[name])
    assert judge(tmp_path / name) == "read"


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(SOUND)), st.integers(0, 2**64), st.binary(max_size=20), st.floats(0, 1))
def test_any_edit_is_read_or_refused_in_words(tmp_path_factory, name, seed, inserted, place):
    path = tmp_path_factory.mktemp("broken") / name
    content = broken(name, SOUND[name], random.Random(seed))
    at = int(place * len(content))
    path.write_bytes(content[:at] + inserted + content[at:])
    assert judge(path) in {"read", "refused"}


@pytest.mark.slow
def test_ten_thousand_broken_files_within_a_minute(tmp_path):
    begun = time.process_time()
    counts = tried(0, 10_000, tmp_path)
    assert sum(counts.values()) == 10_000 and min(counts.values()) > 2_000, counts
    assert time.process_time() - begun < LIMIT_S


@pytest.mark.soak
def test_a_million_broken_files(tmp_path):
    begun, done = time.monotonic(), 0
    while done < 1_000_000 and time.monotonic() - begun < SOAK_S:
        counts = tried(1 + done, 10_000, tmp_path)
        assert sum(counts.values()) == 10_000 and min(counts.values()) > 2_000, counts
        done += 10_000
    print(f"{done:,} broken files")


def test_the_mutator_really_breaks_files():
    draw = random.Random(0)
    for name, content in SOUND.items():
        changed = sum(mutated(content, draw) != content for _ in range(50))
        assert changed >= 45, (name, changed)


MEASURE = """
import resource, sys
from pathlib import Path
from whet.data.read import read_files
from whet.errors import DataError

pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + 400 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
rows = rejects = 0
try:
    for row in read_files([Path(sys.argv[1])]):
        rows += hasattr(row, "fields")
        rejects += hasattr(row, "reason")
    print("read", rows, rejects)
except DataError as error:
    print("refused", error)
"""
HUGE = 600 * 2**20
"""Bytes of the one line, half as much again as may be held in memory."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "begin", "end", "expected"),
    [
        ("giant.csv", b"text,label\na b,x\n", b"\nc d,y\n", "read 2 1"),
        ("quoted.csv", b'text,label\na b,x\n"', b"\nc d,y\n", "read 2 1"),
        ("giant.jsonl", b'{"text": "a"}\n{"text": "', b'"}\n{"text": "b"}\n', "read 2 1"),
        ("giant.txt", b"a b\n", b"\nc d\n", "read 2 1"),
        ("one.txt", b"", b"", "read 0 1"),
        ("giant.md", b"# One\ntext\n", b"\n# Two\nmore\n", "read 1 1"),
        ("giant.json", b'[{"text": "', b'"}]', "refused"),
    ],
)
def test_a_giant_line_through_a_pipe_stays_within_400_mib(tmp_path, name, begin, end, expected):
    pipe = tmp_path / name
    os.mkfifo(pipe)
    with subprocess.Popen(
        [sys.executable, "-c", MEASURE, str(pipe)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as reader:
        block = b"word " * (1 << 18)
        with pipe.open("wb") as file:
            file.write(begin)
            for _ in range(HUGE // len(block)):
                file.write(block)
            file.write(end)
        said, errors = reader.communicate(timeout=300)
    assert said.startswith(expected), (said, errors[-1000:])
    assert "Traceback" not in errors
    if expected == "refused":
        assert f"{pipe}:1: " in said and "longer than 16 MiB" in said


@pytest.mark.parametrize("shape", ["list", "object"])
def test_rows_of_a_long_list_on_one_line_are_all_read(tmp_path, shape):
    rows = [{"text": f"text number {n} " + "word " * 200, "label": "ab"[n % 2]} for n in range(20_000)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows if shape == "list" else {"data": rows}))
    assert path.stat().st_size > 18 * 2**20
    assert [dict(row.fields) for row in read_files([path])] == rows


def test_a_file_with_ten_gigabytes_of_nothing_is_refused_at_once(tmp_path: Path):
    path = tmp_path / "sparse.csv"
    with path.open("wb") as file:
        file.write(b"text,label\na b,x\n")
        file.truncate(10 * 2**30)
    begun = time.process_time()
    assert judge(path) == "refused"
    assert time.process_time() - begun < 2
