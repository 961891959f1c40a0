"""From imitation to preferences, a reward model, PPO and GRPO, through the verbs, on a tiny model that is made here (examples/chain)."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from whet import cli
from whet.run import open_run

pytestmark = pytest.mark.slow
CHAIN = Path(__file__).resolve().parents[1] / "examples" / "chain"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the example's recipes, its data, and the model that imitates."""
    folder = tmp_path_factory.mktemp("chain")
    shutil.copytree(CHAIN, folder / "examples" / "chain")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["make.py", "chain"])
        runpy.run_path(str(CHAIN / "make.py"), run_name="__main__")
    whet(folder, "train", "examples/chain/sft.yaml", "--out", "runs/sft")
    return folder


def whet(folder, *words):
    """Run a command of whet there; returns the object that it prints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["whet", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code in {0, None}, words
    return open_run(folder / words[-1]) if words[0] == "train" else None


def judged(folder, name):
    """Train by a recipe of the example and judge; returns the report."""
    run = whet(folder, "train", f"examples/chain/{name}.yaml", "--out", f"runs/{name}")
    whet(folder, "evaluate", f"runs/{name}")
    return run.report


def test_a_reward_model_is_learnt_and_raised_by_ppo(place):
    report = judged(place, "reward")
    assert report["metric"] == "pair_accuracy" and set(report["baselines"]) == {"longer_answer", "base_model"}
    assert report["metrics"]["pair_accuracy"]["value"] > 0.9
    report = judged(place, "ppo")
    assert report["metric"] == "mean_reward" and report["verdict"]["decision"] == "better", report["verdict"]["sentence"]
    assert report["baselines"]["base_model"]["metrics"]["kl"]["value"] == 0 < report["metrics"]["kl"]["value"]
    rows = [json.loads(line) for line in (place / "runs" / "ppo" / "predictions.jsonl").read_text().splitlines()]
    assert sum(row["reward"] for row in rows) / len(rows) == pytest.approx(report["metrics"]["mean_reward"]["value"])
    assert all(row["reference"] is None and row["output"] for row in rows)


def test_preferences_are_learnt_from_pairs_and_from_judged_answers(place):
    report = judged(place, "dpo")
    assert report["metric"] == "pair_accuracy" and report["verdict"]["decision"] == "better", report["verdict"]["sentence"]
    report = judged(place, "kto")
    assert report["metric"] == "accuracy" and report["verdict"]["decision"] == "better", report["verdict"]["sentence"]


def test_a_verifiable_reward_is_learnt_by_grpo_and_by_adapters_too(place):
    report = judged(place, "grpo")
    assert report["metric"] == "mean_reward" and report["verdict"]["decision"] == "better", report["verdict"]["sentence"]
    log = [json.loads(line) for line in (place / "runs" / "grpo" / "log.jsonl").read_text().splitlines()]
    step = next(record for record in log if record["kind"] == "step")
    assert {"reward", "kl", "ended", "flat", "clipped", "answer_tokens"} <= set(step["metrics"])
    assert any(record["kind"] == "validation" and record["loss"] < -0.5 for record in log)
