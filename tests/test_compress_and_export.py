"""`whet compress` and `whet export`, through the Python API and the command line, on tiny runs that are trained here."""

from __future__ import annotations

import csv
import importlib
import json
import random
import shutil

import pytest
from typer.testing import CliRunner

import whet
from whet.cli import app
from whet.engine.latency import measure_in_turn
from whet.errors import ModelError, RecipeError, Refused, RunError
from whet.models.tensors import load_tensors
from whet.recipe_file import build_recipe
from whet.report.compression import Latency, build_comparison
from whet.report.scores import Group, Resampling
from whet.stages.compress import _calibration
from whet.stages.prepare import stored_dataset
from whet.stages.tuned import load_run
from whet.testing import write_tiny
from whet.types import Example, Output

WORDS = {"billing": "invoice charge refund pay money card".split(), "network": "offline router signal wifi cable slow".split()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny classifier, tuned with LoRA."""
    folder = tmp_path_factory.mktemp("handoff")
    draw = random.Random(0)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for index in range(120):
            label = draw.choice(sorted(WORDS))
            writer.writerow([f"{' '.join(draw.choices(WORDS[label], k=4))} {index}", label])
    recipe = {
        "model": str(write_tiny(folder / "bert", "bert")),
        "data": {"path": str(folder / "rows.csv"), "text": "text", "label": "label"},
        "objective": "classify",
        "technique": {"name": "lora", "rank": 4},
        "train": {"max_steps": 12, "batch_size": 8, "precision": "fp32", "learning_rate": 0.01, "refit": False},
        "evaluate": {"resamples": 100},
    }
    return whet.train(build_recipe(recipe, "test"), out=folder / "run")


@pytest.fixture(scope="module")
def compressed(trained):
    return whet.compress(trained, "int8", out=trained.path.with_name("int8"))


def test_a_compressed_run_names_its_parent_and_says_what_was_gained_and_lost(trained, compressed):
    manifest = compressed.manifest
    assert manifest["kind"] == "compress"
    assert manifest["parents"] == [str(trained.path)]
    found = json.loads((compressed.path / "compression.json").read_text())
    base = sum(file.stat().st_size for file in (trained.path.parent / "bert").glob("*.safetensors"))
    own = sum(file.stat().st_size for file in trained.model.glob("*.safetensors"))
    assert found["size"]["before_bytes"] == base + own
    assert found["size"]["after_bytes"] == sum(file.stat().st_size for file in compressed.model.glob("*.safetensors"))
    assert found["latency"]["repeats"] >= 5
    assert found["latency"]["before"]["lower_quartile"] <= found["latency"]["before"]["median"]
    accuracy = found["metrics"]["accuracy"]
    assert accuracy["before"]["n"] == accuracy["after"]["n"] == found["n"] == len(stored_dataset(trained).test)
    assert accuracy["difference"]["value"] == pytest.approx(accuracy["after"]["value"] - accuracy["before"]["value"])
    assert found["worth_it"] in {"yes", "no", "depends"}
    assert found["sentence"].endswith(").")


def test_a_compressed_run_answers_and_is_judged_as_any_other(trained, compressed):
    texts = ["invoice refund money", "router offline wifi"]
    before, after = (whet.load(run).predict(texts) for run in (trained, compressed))
    assert [one.prediction for one in before] == [one.prediction for one in after]
    assert [one.confidence for one in before] == pytest.approx([one.confidence for one in after], abs=0.05)
    report = whet.evaluate(compressed).report
    found = json.loads((compressed.path / "compression.json").read_text())
    assert report["metrics"]["accuracy"]["value"] == found["metrics"]["accuracy"]["after"]["value"]
    assert not any(file.suffix in {".bin", ".pt", ".pkl"} for file in compressed.path.rglob("*"))


def test_calibration_rows_are_training_rows(trained):
    tuned = load_run(trained.path)
    dataset = stored_dataset(trained)
    drawn = {row for batch in _calibration(tuned, dataset, 16) for row in batch.row_ids}
    assert len(drawn) == 16
    assert drawn <= {example.id for example in dataset.train}
    assert not drawn & {example.id for example in (*dataset.test, *dataset.validation)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_a_run_that_learnt_beside_the_untuned_model_is_handed_on_as_any_other(objective, tmp_path):
    rows = [{"prompt": f"where is parcel {n}", "chosen": "on its way", "rejected": "no", "label": "good"} for n in range(40)]
    columns = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
    if objective == "kto":
        columns = {"prompt": "prompt", "response": "chosen", "label": "label"}
        rows = [row | ({"label": "bad", "chosen": "no"} if n % 2 else {}) for n, row in enumerate(rows)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "model": str(write_tiny(tmp_path / "llama", "llama")),
        "data": {"path": str(tmp_path / "rows.jsonl"), **columns},
        "objective": objective,
        "technique": {"name": "lora", "rank": 2},
        "train": {"max_steps": 2, "batch_size": 8, "precision": "fp32"},
    }
    run = whet.train(build_recipe(recipe, "test"), out=tmp_path / "run")
    assert whet.export(run, "merged", out=tmp_path / "merged").manifest["check"]["passed"]
    tuned = load_run(run.path)
    assert sum(len(set(batch.row_ids)) for batch in _calibration(tuned, stored_dataset(run), 4)) >= 4
    assert tuned.policy.reference is None, "what is compressed and written is the run's own model"


def test_a_run_that_its_gate_refused_is_not_handed_on(trained, tmp_path):
    run = tmp_path / "refused"
    shutil.copytree(trained.path, run)
    (run / "gate.json").write_text(json.dumps({"passed": False, "decision": "fail", "rules": [], "rulings": []}))
    for verb in (lambda **more: whet.compress(run, "int8", **more), lambda **more: whet.export(run, "merged", **more)):
        with pytest.raises(Refused, match="--ignore-gate"):
            verb(out=tmp_path / "child")
        assert not (tmp_path / "child").exists()
        verb(out=tmp_path / "child", ignore_gate=True)
        shutil.rmtree(tmp_path / "child")
    (run / "gate.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        whet.compress(run, "int8", out=tmp_path / "child")


@pytest.mark.parametrize(
    ("verb", "name", "sets", "error", "words"),
    [
        ("compress", "int3", [], RecipeError, "Allowed: dynamic_int8, int4, int8, magnitude, wanda"),
        ("compress", "int4", ["group=32"], RecipeError, "did you mean 'group_size'"),
        ("compress", "int4", ["group_size=7"], RecipeError, "allowed: 16, 32, 64 or 128"),
        ("compress", "magnitude", ["sparsity=1.5"], RecipeError, "less than 1"),
        ("compress", "wanda", ["pattern=4:2"], RecipeError, "n:m with n below m"),
        ("compress", "wanda", ["sparsity"], RecipeError, "--set key=value"),
        ("export", "ggfu", [], RecipeError, "Did you mean 'gguf'"),
        ("export", "gguf", ["type=q4"], RecipeError, "'type' is 'q4'"),
        ("export", "gguf", [], ModelError, "Export it as merged or onnx"),
        ("export", "merged", ["dtype=fp8"], RecipeError, "fp32"),
        ("export", "./mine.py", [], RecipeError, "only from a recipe that you start"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_mistake_gets_a_sentence_and_leaves_nothing(verb, name, sets, error, words, trained, tmp_path):
    with pytest.raises(error) as raised:
        getattr(whet, verb)(trained, name, sets=sets, out=tmp_path / "child")
    assert words in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over_and_nothing_is_compressed_twice(trained, compressed, tmp_path):
    with pytest.raises(RunError, match="this folder exists"):
        whet.compress(trained, "int8", out=compressed.path)
    with pytest.raises(RunError, match="this folder exists"):
        whet.export(trained, "merged", out=compressed.path)
    with pytest.raises(ModelError, match="Compress its parent run"):
        whet.compress(compressed, "int4", out=tmp_path / "child")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore")
def test_an_export_is_a_folder_with_its_check(trained, tmp_path):
    made = whet.export(trained, "merged", out=tmp_path / "out")
    manifest = made.manifest
    assert manifest["parents"] == [str(trained.path)]
    check = manifest["check"]
    assert check["passed"]
    assert check["rows"] == check["same_tokens"] == len(stored_dataset(trained).test)
    assert check["difference"] <= check["allowed"]
    assert check["agreement"] == 1.0
    assert set(manifest["files"]) >= {"model.safetensors", "config.json", "head.safetensors", "tokenizer.json", "README.md"}
    with pytest.raises(RunError, match="kind 'export'"):
        whet.load(made)


@pytest.mark.filterwarnings("ignore")
def test_a_compressed_run_is_exported_with_the_numbers_it_computes_with(compressed, tmp_path):
    made = whet.export(compressed, "merged", out=tmp_path / "out")
    weight = load_tensors(made.path / "model.safetensors")["encoder.layer.0.attention.self.query.weight"]
    assert max(len(row.unique()) for row in weight) <= 32, "a row of 32 numbers"
    assert made.manifest["check"]["difference"] <= 1e-4


WRONG = '''
"""A format that spoils what it writes."""

from safetensors.torch import load_file, save_file

import whet.exporters.merged as merged
from whet.plugins import plugin


@plugin
class Wrong(merged.Merged):
    """Merged, with one weight of every layer norm forgotten."""

    def write(self, policy, technique, card, folder):
        super().write(policy, technique, card, folder)
        tensors = load_file(folder / "model.safetensors")
        for name in tensors:
            if name.endswith("LayerNorm.weight"):
                tensors[name][0] = 0.0
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
'''


@pytest.mark.filterwarnings("ignore")
def test_an_artefact_that_answers_otherwise_is_refused_and_does_not_get_its_name(trained, tmp_path):
    (tmp_path / "wrong.py").write_text(WRONG)
    (tmp_path / "recipe.yaml").write_text("")
    with pytest.raises(Refused, match="not what was trained: its outputs differ by up to"):
        whet.export(trained, "./wrong.py", out=tmp_path / "out", recipe=tmp_path / "recipe.yaml")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["recipe.yaml", "wrong.py"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("verb", ["export", "deploy"])
def test_a_folder_that_another_process_made_meanwhile_is_not_written_over(verb, trained, tmp_path, monkeypatch):
    stage = importlib.import_module(f"whet.stages.{verb}")
    load, place = stage.load_run if verb == "export" else stage.load, tmp_path / "new"

    def late(*args, **kwargs):
        place.mkdir()
        (place / "theirs").write_text("theirs")
        return load(*args, **kwargs)

    monkeypatch.setattr(stage, "load_run" if verb == "export" else "load", late)
    with pytest.raises(RunError, match="made by another process"):
        getattr(whet, verb)(trained, "merged" if verb == "export" else "docker", out=place)
    assert [file.relative_to(tmp_path).as_posix() for file in sorted(tmp_path.rglob("*"))] == ["new", "new/theirs"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_command_line_prints_one_object(trained, tmp_path):
    shell = CliRunner()
    found = shell.invoke(
        app, ["compress", str(trained.path), "magnitude", "--set", "sparsity=0.3", "--out", str(tmp_path / "a"), "--json"]
    )
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["method"] == "magnitude"
    found = shell.invoke(app, ["export", str(trained.path), "merged", "--out", str(tmp_path / "b"), "--json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["check"]["passed"]


# The verdict, on answers made by hand


def comparison(num_wrong_after, sizes=(1000, 400), before_ms=(10.0,) * 9, after_ms=(5.0,) * 9):
    """200 rows, all right before; so many wrong after."""
    examples = [Example(id=number, label="a") for number in range(200)]
    right, wrong = Output(label="a", probabilities={"a": 0.9, "b": 0.1}), Output(label="b", probabilities={"a": 0.1, "b": 0.9})
    after = [wrong] * num_wrong_after + [right] * (200 - num_wrong_after)
    return build_comparison(
        groups=[Group(("accuracy",), examples, after, {"before": [right] * 200})],
        metric="accuracy",
        before_bytes=sizes[0],
        after_bytes=sizes[1],
        latency=Latency("a row", before_ms, after_ms),
        resampling=Resampling(200, 0),
    )


def test_smaller_faster_and_as_good_is_worth_it():
    found = comparison(0)
    assert found["worth_it"] == "yes"
    assert found["size"]["times_smaller"] == 2.5
    assert found["latency"]["times_as_fast"] == 2.0
    assert "the same as before in every row" in found["sentence"]


def test_clearly_worse_answers_are_not_worth_it():
    found = comparison(40)  # 20 points fewer
    assert found["worth_it"] == "no"
    assert found["metrics"]["accuracy"]["decision"] == "worse"
    assert "20.0 points fewer than before, clearly worse" in found["sentence"]


def test_too_few_differing_rows_decide_nothing():
    assert "only 5 test rows scored differently" in comparison(5)["sentence"]


def test_smaller_but_slower_depends_and_nothing_gained_is_not_worth_it():
    slower = comparison(0, before_ms=(5.0,) * 9, after_ms=(10.0,) * 9)
    assert slower["worth_it"] == "depends"
    assert slower["sentence"].startswith("Worth it only where space counts")
    assert comparison(0, sizes=(1000, 1000), after_ms=(10.0,) * 9)["worth_it"] == "no"


def test_a_pace_that_a_round_denies_is_none():
    # of a pruned model on a machine with other work: nothing is computed otherwise, and four of five rounds were slower by chance
    assert Latency("a row", (100.0, 71.0, 108.0, 90.0, 396.0), (224.0, 93.0, 230.0, 120.0, 150.0)).pace() == "as fast"
    assert Latency("a row", (10.0, 20.0, 30.0, 10.0, 10.0), (5.0, 12.0, 14.0, 6.0, 7.0)).pace() == "faster"
    assert Latency("a row", (5.0, 12.0, 14.0, 6.0, 7.0), (10.0, 20.0, 30.0, 10.0, 10.0)).pace() == "slower"
    assert Latency("a row", (10.0, 10.0, 10.0, 10.0), (5.0, 20.0, 5.0, 20.0)).pace() == "as fast"


def test_rounds_are_timed_in_turn():
    order = []
    times = measure_in_turn([lambda: order.append("a"), lambda: order.append("b")])
    assert len(times[0]) == len(times[1]) == 25
    assert "".join(order[:8]) == "ab" + "abbaab", "the first round is not counted"
