"""examples/once_round.sh goes through every verb in a few minutes without a network; then each step's work is looked at here."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from whet.cli import app
from whet.registry import Registry, fingerprint
from whet.run import open_run
from whet.stages.gate import objection
from whet.store.log import read_requests

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "examples" / "once_round.sh"
LONGEST_S = 1800
"""On a machine that does other things too; alone it takes less than 480 s on two cores."""
ELSEWHERE = {"auto", "show", "ui", "annotate"}
"""Verbs that the script leaves out: auto is new, train and evaluate; show prints."""


def lines() -> list[str]:
    return [line for line in SCRIPT.read_text(encoding="utf-8").splitlines() if line.strip() and not line.startswith("#")]


def test_it_is_short_and_calls_every_verb() -> None:
    assert len(lines()) <= 40
    called = set(re.findall(r"whet ([a-z]+)", "\n".join(lines())))
    assert called >= set(get_command(app).commands) - ELSEWHERE  # type: ignore[attr-defined]


def test_it_needs_no_network() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    assert "HF_HUB_OFFLINE=1" in text and not re.search(r"https?://(?!127\.0\.0\.1)", text)


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the script leaves behind."""
    folder = tmp_path_factory.mktemp("once") / "round"
    bin_folder = tmp_path_factory.mktemp("bin")
    call = f'#!/bin/sh\nexec "{sys.executable}" -m whet "$@"\n'
    (bin_folder / "whet").write_text(call)
    (bin_folder / "whet").chmod(0o755)
    (bin_folder / "python3").symlink_to(shutil.which("python3") or sys.executable)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    paths = [str(bin_folder), os.environ["PATH"]]
    done = subprocess.run(
        ["bash", str(SCRIPT), str(folder)],
        env=kept | {"PATH": os.pathsep.join(paths), "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    assert "Traceback" not in done.stderr
    print("\n".join(line for line in done.stdout.splitlines() if line.startswith("===")))
    return folder


def said(left: Path, step: str) -> dict[str, Any]:
    """The one JSON object that a verb has printed."""
    (line,) = (left / f"{step}.json").read_text(encoding="utf-8").splitlines()
    found: dict[str, Any] = json.loads(line)
    assert "run" in found, step
    return found


@pytest.mark.slow
def test_each_step_left_what_it_should(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(left)
    assert "objective: classify" in (left / "recipe.yaml").read_text() and said(left, "new")["rows"] == 760
    counts = said(left, "prepare")["rows"]["path"]
    assert sum(counts["used"].values()) + sum(counts["dropped"].values()) == counts["rows"] == 760
    first = open_run(Path("runs/first"))
    assert 0 < first.manifest["phases"]["fit"]["steps"] <= first.manifest["plan"]["num_steps"] and first.model.is_dir()
    assert first.report["verdict"]["decision"] != "worse" and json.loads((first.path / "gate.json").read_text())["passed"]
    assert (first.path / "report.html").is_file() and objection(first) is None
    found = said(left, "search")
    assert {one["state"] for one in found["trials"]} <= {"complete", "pruned"} and Path(found["child"], "report.json").is_file()
    answers = said(left, "predict")["predictions"]
    assert [len(answers), {one["error"] for one in answers}] == [5, {None}]
    assert all(one["prediction"] in first.report["per_class"] and 0 < one["confidence"] <= 1 for one in answers)
    assert said(left, "chat")["messages"][-1]["content"].endswith("sure)")


@pytest.mark.slow
def test_what_was_shipped_is_there(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(left)
    small = said(left, "compress")
    assert (
        small["size"]["after_bytes"] < small["size"]["before_bytes"]
        and open_run(Path(small["run"])).manifest["kind"] == "compress"
    )
    export = said(left, "export")
    assert any(file.suffix == ".onnx" for file in Path(export["run"]).rglob("*")) and export["check"]
    assert json.loads(Path("runs/docker/bundle.json").read_text())["target"]["name"] == "docker"


@pytest.mark.slow
def test_production_was_logged_watched_and_told(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(left)
    log = Path("runs/requests.sqlite")
    requests = list(read_requests(log))
    assert len(requests) == 150 + 240 + 150 and {one.status for one in requests} == {200}
    assert all(item.truth_kind == "label" and item.input for one in requests for item in one.items)
    with sqlite3.connect(log) as file:
        assert file.execute("SELECT count(*) FROM feedback").fetchone()[0] == len(requests)
    hashes = [fingerprint(Path(f"runs/{name}")) for name in ("first", "second")]
    assert [one.fingerprint for one in requests] == [hashes[0]] * 390 + [hashes[1]] * 150, (
        "first the old version, then the new one"
    )
    calm, drift = said(left, "calm"), said(left, "drift")
    assert not calm["alarms"] and calm["verdict"]["decision"] == "fine"
    assert drift["alarms"] and drift["verdict"]["decision"] == "retrain"
    told = [json.loads(line) for line in (left / "alerts.jsonl").read_text().splitlines()]
    assert len(told) == 1 and told[0]["alarms"] == drift["alarms"]


@pytest.mark.slow
def test_the_better_challenger_was_promoted_and_the_sabotaged_one_refused(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(left)
    good, bad = said(left, "retrain"), said(left, "bad")
    assert (
        good["passed"] and good["better"] and good["promoted"] and set(good["new_classes"]) == {"delivery_delay", "false_alarm"}
    )
    assert good["sets"]["new"]["metrics"]["accuracy"]["difference"]["low"] > 0
    assert {one["decision"] for one in good["gate"]["rulings"]} == {"pass"} and good["own_gate"] == "pass"
    assert not bad["passed"] and not bad["promoted"]
    assert next(one["decision"] for one in bad["gate"]["rulings"] if one["rows"] == "old") == "fail"
    held = Registry().model("tickets")
    assert {name: alias.version for name, alias in held.aliases.items()} == {"champion": 2, "challenger": 3}
    assert [one.gate for one in held.versions] == ["passed", "passed", "refused"]
    assert (objection(open_run(Path("runs/second"))), objection(open_run(Path("runs/bad"))) is not None) == (None, True)
    pages = [Path(run, "retrain.html").read_text() for run in ("runs/second", "runs/bad")]
    assert "may take over" in pages[0] and "must not take over" in pages[1]
