"""The benchmark of data: what is planted is near by the definition, and what is measured of it adds up."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest

from bench.data import scale
from bench.data.__main__ import draw, found_and_right, similarity, with_interval
from whet.stages.shelving import DISK

RESULT = Path(__file__).parents[2] / "bench" / "results" / "data.json"


def test_the_similarity_is_that_of_the_definition():
    # abcdef: abcde, bcdef; abcdeg: abcde, bcdeg; one of three is shared
    assert similarity("abcdef", "abcdeg") == pytest.approx(1 / 3)


def test_planted_near_duplicates_are_found_and_nothing_else():
    found = found_and_right(draw(4000, seed=7))
    assert found["planted"] >= 30 and found["recall"] >= 0.97 and found["precision"] >= 0.97


def test_rows_of_any_number_are_planted_with_copies_and_counted_against_what_was_rejected(tmp_path):
    drawn = scale.draw(4000, seed=3)
    again = scale.draw(4000, seed=3)
    assert (drawn.rows == again.rows).all() and (drawn.labels == again.labels).all()
    copies = [row for row in range(4000) if drawn.copy_of[row] >= 0]
    assert 0.04 < len(copies) / 4000 < 0.06
    for row in copies:
        assert (drawn.text(row) == drawn.text(drawn.copy_of[row])) or drawn.changed[row]
    assert scale.write(drawn, tmp_path / "rows.csv") == sum(len(drawn.text(row)) for row in range(4000))
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    assert len(lines) == 4001 and lines[1 + 77].startswith(drawn.text(77) + ",")
    same = [row for row in copies if drawn.labels[row] == drawn.labels[drawn.copy_of[row]] and not drawn.changed[row]]
    missed = {same[0]}
    rejects = [json.dumps({"line": row + 2, "kind": "duplicate"}) for row in same if row not in missed]
    (tmp_path / "rejects.jsonl").write_text("\n".join(rejects) + "\n")
    found = scale.planted(drawn, tmp_path / "rejects.jsonl")
    assert found["exact"] == len(same) and found["exact_recall"] == pytest.approx(1 - 1 / len(same)) and found["near_recall"] == 0


def test_memory_and_disk_are_those_of_a_process_and_its_folder(tmp_path):
    (tmp_path / "held").write_bytes(b"x" * 100_000)
    resident, proportional = scale.memory_of(os.getpid())
    assert 10 << 20 < proportional <= resident
    with tempfile.TemporaryFile() as nameless:
        nameless.write(b"x" * 200_000)
        nameless.flush()
        assert 300_000 <= scale.disk_of(tmp_path, os.getpid()) < 2_000_000


def test_an_interval_is_around_the_median_and_within_the_range():
    found = with_interval([10.0, 11.0, 12.0, 13.0, 30.0])
    assert found["median"] == 12.0 and found["n"] == 5
    assert 10.0 <= found["low"] <= 12.0 <= found["high"] <= 30.0
    assert with_interval([4.0, 4.0, 4.0]) == {"median": 4.0, "low": 4.0, "high": 4.0, "n": 3}


def test_the_recorded_result_adds_up():
    said = json.loads(RESULT.read_text(encoding="utf-8"))
    for name, some in said["seconds"].items():
        assert said["rows_per_second"][name] == with_interval([said["rows"][name] / one for one in some]), name
    pairs = zip(said["seconds"]["datatrove duplicates"], said["seconds"]["whet duplicates"], strict=True)
    assert said["times_datatrove"] == with_interval([peer / own for peer, own in pairs])
    assert said["near_duplicates"]["recall"] >= 0.97 and said["near_duplicates"]["precision"] >= 0.97


def test_the_disk_that_is_said_to_be_needed_is_what_was_measured_and_some_more():
    figures = json.loads(RESULT.read_text(encoding="utf-8"))["scale"]
    of_the_file = [(found["disk_gib"] - found["file_gib"]) / found["file_gib"] for found in figures if found["rows"] >= 10**6]
    assert len(of_the_file) >= 3 and min(of_the_file) > DISK - 2 and max(of_the_file) < DISK
