"""A gate from the recipe to the exit code and to later verbs; early stopping on a metric; further metrics with settings."""

from __future__ import annotations

import csv
import json
import math
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import whet
from whet import cli, recipe_file
from whet.engine import checkpoint
from whet.errors import RecipeError, Refused, RunError
from whet.files import file_hash
from whet.plugins import build
from whet.recipe import Recipe
from whet.run import Run
from whet.stages.gate import objection, respect_gate, stored_gate
from whet.stages.phase import Stopper, _ending, learnt_at
from whet.stages.prepare import stored_dataset
from whet.stages.score import scoring
from whet.stages.tuned import load_run
from whet.testing import write_tiny

WORDS = {"billing": "invoice charge refund pay money card".split(), "network": "offline router signal wifi cable slow".split()}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("bert"), "bert")


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw, file = random.Random(0), tmp_path_factory.mktemp("data") / "tickets.csv"
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["text", "label", "channel"])
        for index in range(260):
            label = draw.choice(sorted(WORDS))
            writer.writerow([f"{' '.join(draw.choices(WORDS[label], k=4))} {index}", label, draw.choice(["mail", "chat"])])
    return file


@pytest.fixture(scope="module")
def dialogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "chats.jsonl"
    rows = [{"prompt": f"my card {index} is lost", "response": f"we are sorry about {index}"} for index in range(60)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def sections(model: Path, data: Path, **more: Any) -> dict[str, Any]:
    train = {"max_steps": 6, "validate_every": 2, "batch_size": 8, "learning_rate": 5e-3, **more.pop("train", {})}
    objective = "sft" if data.suffix == ".jsonl" else "classify"
    slices = {} if objective == "sft" else {"slices": ["channel"]}
    base = {
        "model": str(model),
        "data": {"path": str(data), "duplicates": {"near": False}, **slices},
        "objective": objective,
        "technique": "full",
    }
    settings = {"resamples": 200, "max_generated": 6, "max_new_tokens": 4, **more.pop("evaluate", {})}
    return {**base, "train": train, "evaluate": settings, **more}


def build_recipe(made: dict[str, Any]) -> Recipe:
    return recipe_file.build_recipe(made, "here")


GATE = [
    {"metric": "accuracy", "minimum": 0.4},
    {"metric": "macro_f1", "max_loss": 0.5, "baseline": "majority_class", "slices": ["channel"], "min_rows": 5},
]


@pytest.fixture(scope="module")
def trained(encoder: Path, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with a gate that it passes once it is judged."""
    made = build_recipe(sections(encoder, table, gate=GATE, train={"max_steps": 40, "validate_every": 20}))
    return whet.train(made, out=tmp_path_factory.mktemp("runs") / "gated")


@pytest.fixture
def run(trained: Run, tmp_path: Path) -> Run:
    shutil.copytree(trained.path, tmp_path / "run")
    return Run(tmp_path / "run")


def judged(run: Run, *arguments: str) -> Any:
    return CliRunner().invoke(cli.app, ["evaluate", str(run.path), *arguments])


def test_a_gate_that_is_passed_is_stored_and_shown(run: Run) -> None:
    found = judged(run, "--json")
    assert found.exit_code == 0, found.stderr
    gate = stored_gate(run)
    assert gate is not None and gate["decision"] == "pass" and gate["passed"] is True
    assert json.loads(found.stdout)["gate"]["decision"] == "pass"
    assert [(one["rule"], one["where"] and one["where"]["value"]) for one in gate["rulings"]][:2] == [(1, None), (2, None)]
    assert {one["where"]["value"] for one in gate["rulings"][2:]} == {"mail", "chat"}
    page = (run.path / "report.html").read_text()
    assert gate["sentence"] in page and "worse than always answering the most frequent class" in page
    assert objection(run) is None


def test_a_gate_that_is_failed_ends_with_3_and_names_the_rule(run: Run) -> None:
    rule = "gate=[{metric: accuracy, minimum: 0.4}, {metric: calibration_error, maximum: 0.0001}]"
    found = judged(run, "--set", rule, "--json")
    assert isinstance(found.exception, Refused) and found.exception.exit_code == 3
    assert "Calibration error at most 0.0 %: failed" in str(found.exception) and "Accuracy" not in str(found.exception)
    assert json.loads(found.stdout)["gate"]["decision"] == "fail"  # one object, and the refusal after it
    assert stored_gate(run)["passed"] is False  # type: ignore[index]
    shown = judged(run, "--set", rule)
    assert "Gate failed: 1 passed, 1 failed of 2 checks." in re.sub(r"\s+", " ", shown.stderr)
    assert "Use it" not in shown.stderr


def test_an_undecided_gate_is_no_pass_and_says_how_many_rows_would_do(run: Run) -> None:
    found = judged(run, "--set", "gate=[{metric: accuracy, minimum: 0.4, min_rows: 5000}]")
    assert isinstance(found.exception, Refused)
    gate = stored_gate(run)
    assert gate is not None and gate["decision"] == "undecided" and gate["rulings"][0]["rows_needed"] == 5000
    assert "could not be decided" in str(objection(run)) or "have changed" in str(objection(run))


def test_later_verbs_refuse_what_the_gate_has_not_let_through(run: Run) -> None:
    with pytest.raises(Refused, match=r"has not been judged yet. Run: whet evaluate"):
        respect_gate(run, "export", ignore=False)
    judged(run)
    respect_gate(run, "export", ignore=False)
    gate = stored_gate(run)
    assert gate is not None
    gate["rulings"][0] |= {"decision": "fail", "sentence": "Accuracy at least 40.0 %: failed, 12.0 % on 39 test rows."}
    (run.path / "gate.json").write_text(json.dumps(gate | {"decision": "fail"}))
    with pytest.raises(Refused, match=r"its gate failed. Accuracy at least 40.0 %: failed.*--ignore-gate, which is recorded"):
        respect_gate(run, "export", ignore=False)
    respect_gate(run, "export", ignore=True)
    respect_gate(run, "export", ignore=True)
    (record,) = run.manifest["gate_ignored"]
    assert record["verb"] == "export" and "Accuracy at least 40.0 %" in record["objection"]


@pytest.mark.slow
def test_the_gate_on_other_files_leaves_the_run_s_own_decision_alone(run: Run, tmp_path: Path) -> None:
    assert judged(run).exit_code == 0
    others = tmp_path / "others.csv"
    others.write_text("text,label,channel\n" + "".join(f"quite other words {n},nowhere,mail\n" for n in range(30)))
    found = judged(run, "--test", str(others))
    assert isinstance(found.exception, Refused) and "Gate failed" in str(found.exception)
    assert stored_gate(run)["decision"] == "pass"  # type: ignore[index]
    assert json.loads((run.path / "evaluations" / "others" / "report.json").read_text())["gate"]["decision"] == "fail"


def test_predict_warns_of_a_run_that_its_gate_has_not_let_through(run: Run, tmp_path: Path) -> None:
    (tmp_path / "ask.csv").write_text("text\nrouter offline\n")
    found = CliRunner().invoke(cli.app, ["predict", str(run.path), str(tmp_path / "ask.csv")])
    assert found.exit_code == 0 and "Warning:" in found.stderr and "has not been judged yet" in found.stderr


def test_a_gate_whose_rules_were_changed_since_is_not_passed(run: Run) -> None:
    judged(run)
    file = run.path / "recipe.yaml"
    file.write_text(file.read_text().replace("minimum: 0.4", "minimum: 0.45"))
    assert "rules of its gate have changed" in str(objection(run))


@pytest.mark.parametrize("content", ["{", "[]", '{"decision": "perhaps", "rules": [], "rulings": []}'])
def test_a_damaged_decision_is_said_to_be_so(run: Run, content: str) -> None:
    (run.path / "gate.json").write_text(content)
    with pytest.raises(RunError, match=r"gate.json: damaged .*Write it again with: whet evaluate"):
        objection(run)


def test_a_run_without_a_gate_is_not_held_up(encoder: Path, table: Path, tmp_path: Path) -> None:
    made = whet.train(build_recipe(sections(encoder, table, train={"max_steps": 1})), out=tmp_path / "free")
    assert objection(made) is None and stored_gate(made) is None


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"gate": [{"metric": "accuracy", "maximum": 0.5}]},
            r"'accuracy' is better the higher it is, so it has no maximum. Allowed: minimum",
        ),
        (
            {"gate": [{"metric": "brier", "minimum": 0.5}]},
            r"'brier' is better the lower it is, so it has no minimum. Allowed: maximum",
        ),
        ({"gate": [{"metric": "accuracy", "minimum": 0.5, "slices": "tier"}]}, r"'tier' is no slice. Allowed: channel"),
        ({"gate": [{"metric": "bleu", "minimum": 5}]}, r"'bleu' is a metric of text, which this objective does not give"),
        ({"gate": [{"metric": "acuracy", "minimum": 0.5}]}, r"Did you mean 'accuracy'"),
        ({"gate": [{"metric": "accuracy"}]}, r"at least one of minimum, maximum and max_loss"),
        ({"gate": [{"metric": "accuracy", "minimum": 0.5, "row": 5}]}, r"unknown key 'gate.0.row'"),
        ({"gate": {"metric": "accuracy", "minimum": 0.5}}, r"'gate"),
        ({"train": {"early_stopping": {"metric": "bleu"}}}, r"'bleu' is a metric of text, which this objective does not give"),
        ({"train": {"early_stopping": {"metric": "macrof1"}}}, r"Did you mean 'macro_f1'"),
        ({"evaluate": {"metrics": ["rouge_l"]}}, r"'rouge_l' is a metric of text"),
        ({"evaluate": {"metrics": [{"name": "auroc", "depth": 3}]}}, r"unknown key 'depth'"),
    ],
)
def test_a_mistake_is_found_before_training(encoder: Path, table: Path, tmp_path: Path, more: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        whet.train(build_recipe(sections(encoder, table, **more)), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Metrics


def test_what_an_objective_reports_and_what_is_asked_for_besides(decoder: Path, dialogue: Path, tmp_path: Path) -> None:
    made = sections(decoder, dialogue, evaluate={"metrics": ["meteor", {"name": "bleu", "tokenize": "char"}]})
    made["gate"] = [{"metric": "chrf", "max_loss": 100.0, "min_rows": 2}]
    run = whet.evaluate(whet.train(build_recipe(made), out=tmp_path / "run"))
    assert list(run.report["metrics"]) == [
        "loss", "perplexity", "rouge_l", "rouge_1", "rouge_2", "bleu", "chrf", "exact_match", "meteor"
    ]  # fmt: skip
    assert {"low", "high", "n"} <= run.report["metrics"]["bleu"].keys() and run.report["metrics"]["meteor"]["n"] == 6
    assert run.report["gate"]["decision"] == "pass"  # no loss is larger than the whole scale


def test_a_classification_reports_correlation_and_area(run: Run) -> None:
    judged(run)
    metrics = run.report["metrics"]
    assert {"matthews_correlation", "auroc", "brier"} <= metrics.keys()
    assert metrics["auroc"]["low"] <= metrics["auroc"]["value"] <= metrics["auroc"]["high"]
    assert "auroc" in run.report["slices"]["channel"]["mail"]["metrics"]


# Early stopping


def test_a_metric_that_is_better_the_higher_is_watched_upward() -> None:
    stopper = Stopper(2, 0.01, sign=1)
    for step, (loss, score) in enumerate([(1.0, 0.5), (0.5, 0.505), (0.4, 0.6), (0.3, 0.6), (0.2, float("nan"))], start=1):
        stopper.see(loss, step, score)
    assert (stopper.best_step, stopper.best, stopper.best_loss, stopper.done) == (3, 0.6, 0.4, True)
    again = Stopper(2, 0.01, sign=1)
    again.restore(json.loads(json.dumps(stopper.state())))
    assert again == stopper


def test_the_loss_is_watched_downward() -> None:
    stopper = Stopper(1)
    stopper.see(1.0, 1)
    stopper.see(0.9, 2)
    stopper.see(0.95, 3)
    assert (stopper.best_step, stopper.best_loss, stopper.done) == (2, 0.9, True)


def test_where_nothing_is_left_to_learn_training_ends() -> None:
    # rows that are all right for certain go on getting better by nothing that matters, epoch after epoch
    stopper = Stopper(2, learnt=1e-4)
    stopper.see(3e-4, 1)
    assert not stopper.done
    stopper.see(2e-5, 2)
    assert stopper.done and stopper.best_step == 2
    assert _ending(2, 15, stopper, "loss").startswith(
        "Stopped early after step 2 of 15, since hardly anything is left to learn; "
    )
    unwatched = Stopper(0, learnt=1e-4)
    unwatched.see(2e-5, 1)
    assert not unwatched.done  # early_stopping: false trains to the planned end
    assert learnt_at(build("objectives", "classify", {})) == 1e-4 and math.isinf(
        learnt_at(build("objectives", "grpo", {"reward": "numeric"}))
    )


@pytest.mark.parametrize(("kind", "metric"), [("encoder", "macro_f1"), ("encoder", "brier"), ("decoder", "chrf")])
def test_the_best_step_is_the_best_by_the_metric_and_its_weights_are_kept(
    kind: str, metric: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model, data = request.getfixturevalue(kind), request.getfixturevalue("table" if kind == "encoder" else "dialogue")
    train = {"early_stopping": {"metric": metric, "patience": 50, "max_generated": 4}, "validate_every": 1, "refit": False}
    run = whet.train(build_recipe(sections(model, data, train=train)), out=tmp_path / "run")
    scores = {one["step"]: one["score"] for one in run.records() if one["kind"] == "validation"}
    assert len(scores) == 6 and {one.get("metric") for one in run.records() if one["kind"] == "validation"} == {metric}
    pick = min if metric == "brier" else max
    best = pick(scores, key=lambda step: (scores[step], step) if pick is min else (scores[step], -step))
    assert run.manifest["phases"]["fit"]["best_step"] == best
    tuned = load_run(run.path)
    rows = stored_dataset(run).validation
    again = scoring(metric, tuned.recipe, tuned.objective, rows, tuned.card.max_length, None)
    assert again(tuned.policy) == pytest.approx(scores[best], rel=1e-5)
    assert len(again.examples) == (4 if kind == "decoder" else len(rows))


@pytest.mark.slow
@pytest.mark.parametrize("stop_after", [1, 3, 4])
def test_stopped_and_resumed_the_watched_metric_gives_the_same_bytes(
    stop_after: int, decoder: Path, dialogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = {"metric": "chrf", "patience": 1, "max_generated": 4}
    made = build_recipe(sections(decoder, dialogue, train={"early_stopping": early, "checkpoint": {"every": 1}, "refit": False}))
    whole = whet.train(made, out=tmp_path / "whole")

    class Stopped(Exception):
        pass

    save = checkpoint.save

    def save_and_stop(folder: Path, step: int, *rest: Any) -> None:
        save(folder, step, *rest)
        if step == stop_after:
            raise Stopped

    monkeypatch.setattr(checkpoint, "save", save_and_stop)
    with pytest.raises(Stopped):
        whet.train(made, out=tmp_path / "cut")
    monkeypatch.undo()
    cut = whet.train(resume=tmp_path / "cut")
    assert (cut.path / "log.jsonl").read_bytes() == (whole.path / "log.jsonl").read_bytes()
    weights = [sorted(run.model.glob("*.safetensors")) for run in (whole, cut)]
    assert [file_hash(file) for file in weights[0]] == [file_hash(file) for file in weights[1]] and weights[0]
