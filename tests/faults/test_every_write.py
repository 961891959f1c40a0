"""Whichever call of the system fails, for every N: the old checkpoint or the new one is there, whole; and a run goes on to the same end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from whet.testing.tiny import ANSWERS, OPENINGS, THINGS

PAIRS = [(thing, opening) for thing in THINGS for opening in OPENINGS]
HERE = Path(__file__).resolve().parent
KINDS = ["EIO once", "EIO for good", "ENOSPC for good", "short write", "half, then ENOSPC", "killed"]
RECIPE = """
model: {llama}
data: {{path: {folder}/chat.jsonl, prompt: prompt, response: response}}
objective: sft
technique: {{name: lora, rank: 2}}
train: {{max_steps: 2, batch_size: 4, precision: fp32, validate_every: 2, checkpoint: {{every: 1, keep: 1}}, early_stopping: false}}
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Path:
    """The library that fails, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler, on Linux")
    made = tmp_path_factory.mktemp("shim") / "failing_io.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, HERE / "failing_io.c", "-ldl"], check=True)
    return made


def driven(library: Path, cases, *line) -> list[dict]:
    environment = {**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
    made = subprocess.run(
        [sys.executable, HERE / "driver.py", *map(str, line)],
        input=json.dumps(cases), capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr[-3000:]
    return json.loads(made.stdout)


def check_checkpoint(case, found):
    """What is left after saving a checkpoint with one call failing is the old one or the new one, and the best."""
    assert found["latest"] in {2, 3} and found["whole"], f"{case}: {found}"
    assert not found["damaged"], f"{case}: {found}"
    assert found["best"], f"{case}: the best checkpoint is gone"
    assert found["after"] and found["left"] == ["step-1", "step-4"], f"{case}: {found}"
    expected = {"short write": {0}, "killed": {137, 0}}.get(case[1], {0, 1})  # what is only tidied may fail unseen
    assert abs(found["code"]) in expected, f"{case}: {found}"


def test_a_checkpoint_is_the_old_or_the_new_one_whichever_call_fails(library, tmp_path):
    cases = [(number, ("EIO once", "ENOSPC for good")[number // 4 % 2]) for number in range(1, 26, 4)]  # a sample
    found = driven(library, cases, "checkpoint", tmp_path)
    for case, left in zip(cases, found, strict=True):
        check_checkpoint(case, left)
    assert {left["latest"] for left in found} == {2, 3}


@pytest.mark.slow
def test_a_checkpoint_is_the_old_or_the_new_one_whichever_call_fails_every_one(library, tmp_path):
    (counted,) = driven(library, [(0, "count")], "checkpoint", tmp_path)
    assert counted["counted"] > 15, "the library sees too little of what is written"
    cases, seen = [(number, kind) for kind in KINDS for number in range(1, counted["counted"] + 1)], set()
    for case, left in zip(cases, driven(library, cases, "checkpoint", tmp_path), strict=True):
        check_checkpoint(case, left)
        seen.add((case[1], left["latest"]))
    assert {kind for kind, latest in seen if latest == 2} == {kind for kind in KINDS if kind != "short write"}
    assert {kind for kind, latest in seen if latest == 3} == set(KINDS)


@pytest.fixture(scope="session")
def recipe(tmp_path_factory, tiny_folder) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    texts = [opening.format(thing) for thing in THINGS for opening in OPENINGS]
    rows = [{"prompt": text, "response": ANSWERS[index % 4].format("card")} for index, text in enumerate(texts)]
    (folder / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.yaml").write_text(RECIPE.format(llama=tiny_folder("llama"), folder=folder))
    return folder / "recipe.yaml"


def check_runs(library, recipe, tmp_path, numbers):
    (counted,) = driven(library, [(0, "count")], "run", tmp_path, recipe)
    assert counted["code"] == 0 and counted["counted"] > 100, counted
    cases = [(number, kind) for number, kind in numbers(counted["counted"])]
    for case, found in zip(cases, driven(library, cases, "run", tmp_path, recipe), strict=True):
        assert found["end"] == counted["end"] and found["again"] == 0, f"{case}: {found}"
        assert found["left"] == [], f"{case}: something half-written is left: {found['left']}"
        expected = {"killed": {137, 0}, "short write": {0}}.get(case[1], {0, 1})
        assert abs(found["code"]) in expected, f"{case}: {found}"
        if found["code"] == 1:
            assert "Traceback" not in found["said"] and "whet: " in found["said"], f"{case}: {found}"
            assert "No space left" in found["said"] or "disk is full" in found["said"] or "Input/output" in found["said"], found
    return len(cases)


@pytest.mark.slow
def test_a_run_ends_the_same_whichever_call_fails(library, recipe, tmp_path):
    # every fortieth call, each kind in turn
    check_runs(
        library, recipe, tmp_path, lambda last: [(number, KINDS[number // 40 % len(KINDS)]) for number in range(5, last, 40)]
    )


@pytest.mark.soak
def test_a_run_ends_the_same_whichever_call_fails_every_one(library, recipe, tmp_path):
    check_runs(library, recipe, tmp_path, lambda last: [(number, kind) for kind in KINDS for number in range(1, last + 1)])


@pytest.fixture(scope="session")
def rows_recipe(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    lines = [f"{opening.format(thing)} number {place},{'ab'[place % 2]}" for place, (thing, opening) in enumerate(PAIRS)]
    (folder / "rows.csv").write_text("text,label\n" + "".join(f"{line}\n" for line in lines))
    (folder / "recipe.yaml").write_text(
        f"model: builtin:minilm\ndata: {{path: {folder}/rows.csv, text: text, label: label}}\nobjective: classify\n"
    )
    return folder / "recipe.yaml"


def check_prepared(library, rows_recipe, tmp_path, numbers):
    (counted,) = driven(library, [(0, "count")], "prepare", tmp_path, rows_recipe)
    assert counted["code"] == 0 and counted["counted"] > 50 and not counted["left"], counted
    cases = [(number, kind) for number, kind in numbers(counted["counted"])]
    for case, found in zip(cases, driven(library, cases, "prepare", tmp_path, rows_recipe), strict=True):
        assert found["end"] == counted["end"] and found["again"] == 0, f"{case}: {found}"
        # A disk that refuses everything keeps what was to be deleted, and who is killed after the last rename deletes nothing more.
        if case[1] in {"EIO once", "short write"} or (case[1] == "killed" and not found["made"]):
            assert found["left"] == [], f"{case}: something is left: {found['left']}"
        expected = {"killed": {137, 0}, "short write": {0}}.get(case[1], {0, 1})
        assert abs(found["code"]) in expected, f"{case}: {found}"
        if found["code"] == 1:
            assert "Traceback" not in found["said"] and "whet: " in found["said"], f"{case}: {found}"
            assert "No space left" in found["said"] or "disk is full" in found["said"] or "Input/output" in found["said"], found


@pytest.mark.slow
def test_rows_prepared_on_the_disk_are_the_same_whichever_call_fails(library, rows_recipe, tmp_path):
    # every seventh call, each kind in turn
    check_prepared(
        library, rows_recipe, tmp_path, lambda last: [(number, KINDS[number // 7 % len(KINDS)]) for number in range(1, last, 7)]
    )


@pytest.mark.soak
def test_rows_prepared_on_the_disk_are_the_same_whichever_call_fails_every_one(library, rows_recipe, tmp_path):
    check_prepared(
        library, rows_recipe, tmp_path, lambda last: [(number, kind) for kind in KINDS for number in range(1, last + 1)]
    )
