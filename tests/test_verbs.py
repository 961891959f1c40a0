"""The verbs together, through the Python API, on tiny models and on files written here."""

import ast
import csv
import json
import math
import random
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import whet
from whet.cli import app
from whet.data.dataset import read_dataset
from whet.engine import checkpoint
from whet.errors import DataError, RecipeError, Refused, RunError
from whet.files import file_hash
from whet.models.policy import Policy
from whet.models.rank import UNSIZED
from whet.objectives import classify
from whet.recipe_file import build_recipe
from whet.recipe_parts import Choice
from whet.report.html import dotted
from whet.run import Run
from whet.stages.job import build_job
from whet.stages.predict import predict_tasks
from whet.stages.prepare import prepare_data
from whet.stages.retrain import challenger_recipe
from whet.stages.show import show_run, show_runs
from whet.stages.train import resume, train
from whet.stages.tuned import load_run
from whet.testing import write_tiny
from whet.types import Message

WORDS = {"billing": "invoice charge refund pay money card".split(), "network": "offline router signal wifi cable slow".split()}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("bert"), "bert")


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("llama"), "llama")


def write_table(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def labelled(number, seed=0):
    draw = random.Random(seed)
    rows = []
    for index in range(number):
        label = draw.choice(sorted(WORDS))
        rows.append(
            {
                "text": f"{' '.join(draw.choices(WORDS[label], k=4))} {index}",
                "label": label,
                "channel": draw.choice(["mail", "chat"]),
            }
        )
    return rows


def recipe(model, data, objective, **train):
    quick = {"max_steps": 6, "batch_size": 4, "precision": "fp32", "learning_rate": 0.01}
    evaluate = {"resamples": 100, "max_generated": 3, "max_new_tokens": 5}
    return build_recipe(
        {"model": str(model), "data": data, "objective": objective, "train": quick | train, "evaluate": evaluate}, "test"
    )


@pytest.fixture(scope="module")
def classified(encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("classified")
    table = write_table(folder / "rows.csv", labelled(80))
    data = {"path": str(table), "text": "text", "label": "label", "slices": ["channel"]}
    return whet.evaluate(whet.train(recipe(encoder, data, "classify"), out=folder / "run"))


def test_the_reported_accuracy_is_that_of_the_predictions_file(classified):
    rows = [json.loads(line) for line in (classified.path / "predictions.jsonl").read_text().splitlines()]
    report = classified.report
    right = sum(row["label"] == row["prediction"] for row in rows)
    assert report["n"] == len(rows)
    assert report["metrics"]["accuracy"]["value"] == pytest.approx(right / len(rows))
    assert all(math.isclose(sum(row["probabilities"].values()), 1, abs_tol=1e-4) for row in rows)


def test_the_report_has_intervals_baselines_slices_and_a_verdict(classified):
    report = classified.report
    score = report["metrics"]["accuracy"]
    assert 0 <= score["low"] <= score["value"] <= score["high"] <= 1
    assert set(report["baselines"]) == {"majority_class", "nearest_centroid", "nearest_neighbours"}
    assert sum(part["n"] for part in report["slices"]["channel"].values()) == report["n"]
    assert report["verdict"]["decision"] in {"better", "same", "worse"}
    assert report["verdict"]["sentence"].endswith(".")
    assert "<script" not in (classified.path / "report.html").read_text()


def test_a_run_answers_with_confidence_and_abstains_below_a_threshold(classified):
    predictor = whet.load(classified)
    sure = predictor.predict(["invoice refund money", {"text": "router offline"}])
    assert all(answer.prediction in WORDS and 0 <= answer.confidence <= 1 for answer in sure)
    silent = predictor.predict(["invoice refund money"], abstain_below=1.0)
    assert silent[0].prediction is None
    assert silent[0].abstained


def test_an_empty_text_to_predict_names_its_item(classified):
    with pytest.raises(DataError, match="item 2"):
        whet.load(classified).predict(["fine", "  "])


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ("one text", r"items: one text or row, and a list of them is needed.*predict\(\[...\]\)"),
        ({"text": "one row"}, "items: one text or row"),
        (["fine", 3], "item 2: int. Allowed: a text, or a dictionary"),
        ([None], "item 1: NoneType. Allowed: a text"),
    ],
)
def test_what_is_no_list_of_texts_is_refused_in_words(classified, items, message):
    with pytest.raises(DataError, match=message):
        whet.load(classified).predict(items)


def test_what_a_type_checker_knows_of_whet_is_what_there_is():
    # a module's __getattr__ that it sees would make every misspelt verb pass
    top = ast.parse(Path(whet.__file__).read_text()).body
    assert not any(isinstance(node, ast.FunctionDef) for node in top)
    known = [node for node in top if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    names = [alias.asname for node in known[0].body for alias in node.names]
    assert sorted(names) == sorted((*whet.VERBS, *whet.TYPES))
    assert all(callable(getattr(whet, name)) for name in names) and whet.Run is Run
    with pytest.raises(AttributeError, match="no attribute 'trian'; its verbs are"):
        whet.trian


def test_answers_do_not_depend_on_what_else_is_asked(classified):
    predictor = whet.load(classified)
    texts = [row["text"] for row in labelled(20, seed=5)]
    together = predictor.predict(texts)
    alone = [predictor.predict([text])[0] for text in texts]
    assert [one.prediction for one in together] == [one.prediction for one in alone]
    assert [one.confidence for one in together] == pytest.approx([one.confidence for one in alone], abs=1e-6)


def test_every_row_is_used_or_dropped_with_its_reason(classified):
    said = json.loads((classified.path / "data" / "accounting.json").read_text())["sources"]["path"]
    assert said["rows"] == 80 == sum(said["used"].values()) + sum(said["dropped"].values())


def test_what_auto_became_is_stored_with_its_reason(classified):
    decisions = {decision["key"]: decision for decision in classified.manifest["decisions"]}
    assert decisions["technique"]["value"] == "lora"
    assert all(decision["reason"] for decision in decisions.values())
    chosen = load_run(classified.path).recipe.train.model_dump()
    anew = {
        "parallel",
        "gradient_checkpointing",
        "keep_states",
    }  # of the machine, on which the run may go on elsewhere; they change no result
    assert {key for key, value in chosen.items() if value == "auto"} <= anew
    left = {key for key, value in dotted(load_run(classified.path).recipe.model_dump(mode="json")) if value == "auto"}
    assert left - {"continual.weights"} <= set(decisions)  # of stages that are merged, and nothing is merged here
    assert decisions["data.duplicates.near"]["value"] == "drop" and decisions["train.gradient_checkpointing"]["value"] is False
    written = (classified.path / "recipe.yaml").read_text(encoding="utf-8")
    assert re.search(r"redact: auto +# auto: private data are counted", written)
    assert re.search(r"parallel: auto +# auto: one device", written)


def test_the_numbers_that_a_technique_goes_by_are_stored_where_the_recipe_names_none(classified):
    decisions = {decision["key"]: decision for decision in classified.manifest["decisions"]}
    assert decisions["technique.rank"]["value"] == 16 and decisions["technique.alpha"]["value"] == 32.0
    assert re.fullmatch(
        r"the rows say about \d+ bits and each rank holds about [\d,]+, so rank 1 would do; 16 is the least that is taken",
        decisions["technique.rank"]["reason"],
    )
    assert decisions["technique.alpha"]["reason"].startswith("the default of lora. The update is scaled by alpha / rank")
    assert load_run(classified.path).recipe.technique.settings == {"rank": 16}
    said = CliRunner().invoke(app, ["show", str(classified.path)], terminal_width=200)
    assert said.exit_code == 0 and re.search(r"technique\.alpha +32\.0 +the default of lora", said.output)


def test_the_rank_that_was_chosen_is_the_one_that_learns(decoder, tmp_path):
    rows = [{"prompt": row["text"], "response": " ".join([row["text"]] * 3)} for row in labelled(120)]
    recipe = build_recipe(
        {
            "model": str(decoder),
            "data": {"path": str(write_table(tmp_path / "rows.csv", rows)), "prompt": "prompt", "response": "response"},
            "objective": "sft",
            "technique": {"name": "lora", "targets": "layers.0.self_attn.q_proj"},
            "train": {"max_steps": 1},
        },
        "recipe",
    )
    run = train(recipe, out=tmp_path / "run")
    (told,) = [one for one in run.manifest["decisions"] if one["key"] == "technique.rank"]
    assert told["value"] > UNSIZED and load_run(run.path).recipe.technique.settings["rank"] == told["value"]
    down = [tensor for name, tensor in load_file(run.model / "adapter_model.safetensors").items() if "lora_A" in name]
    assert [tensor.shape[0] for tensor in down] == [told["value"]]
    again = challenger_recipe(run, [])
    assert again.technique.settings == {"targets": "layers.0.self_attn.q_proj", "rank": "auto"}  # what is a default stays one
    assert challenger_recipe(run, ["technique.rank=4"]).technique.settings["rank"] == 4


@pytest.mark.parametrize(("rank", "told"), [(16, False), (48, True), ("auto", False)])
def test_a_named_rank_that_no_layer_can_use_is_told_of(decoder, tmp_path, rank, told):
    rows = [{"prompt": row["text"], "response": row["label"]} for row in labelled(60)]
    recipe = build_recipe(
        {
            "model": str(decoder),
            "data": {"path": str(write_table(tmp_path / "rows.csv", rows)), "prompt": "prompt", "response": "response"},
            "objective": "sft",
            "technique": {"name": "lora", "rank": rank},
            "train": {"max_steps": 1},
        },
        "recipe",
    )
    job = build_job(recipe, prepare_data(recipe, None), None)
    said = [one for one in job.findings if "adapted layers can use" in one.sentence]
    assert bool(said) == told and all(one.level == "note" for one in said)
    if told:  # the tiny Llama is 32 wide, and its keys and values are narrower
        assert said[0].sentence.startswith("Rank 48 is more than 14 of 14 adapted layers")
        assert said[0].remedy == "Rank 32 is as much as any of them can use."


@pytest.mark.parametrize(("rank", "told"), [(8, True), (16, False)])
def test_a_run_goes_on_with_the_rank_that_it_began_with_whatever_would_be_chosen_now(decoder, tmp_path, rank, told):
    # as versions wrote it that did not size: no rank in the recipe, and its default told as a decision, or (older) nowhere
    rows = [{"prompt": row["text"], "response": " ".join([row["text"]] * 3)} for row in labelled(120)]
    values = {
        "model": str(decoder),
        "data": {"path": str(write_table(tmp_path / "rows.csv", rows)), "prompt": "prompt", "response": "response"},
        "objective": "sft",
        "technique": {"name": "lora", "targets": "layers.0.self_attn.q_proj", "rank": rank},
        "train": {"max_steps": 2, "checkpoint": {"every": 1, "keep": 9}, "validate_every": 1, "refit": False},
    }
    whole = train(build_recipe(values, "recipe"), out=tmp_path / "whole")
    assert challenger_recipe(whole, []).technique.settings["rank"] == rank  # named, so it is not chosen again
    begun = tmp_path / "begun"
    shutil.copytree(whole.path, begun)
    recipe, manifest = begun / "recipe.yaml", json.loads((begun / "manifest.json").read_text())
    written = re.sub(rf"\n +rank: {rank}\b.*", "", recipe.read_text())
    assert written != recipe.read_text()
    recipe.write_text(written)
    if told:
        manifest["decisions"].append({"key": "technique.rank", "value": rank, "reason": "the default of lora"})
    manifest["recipe_sha256"] = file_hash(recipe)
    (begun / "manifest.json").write_text(json.dumps(manifest))
    assert challenger_recipe(Run(begun), []).technique.settings.get("rank", "auto") == "auto"
    assert len(whet.load(Run(begun)).predict([{"prompt": rows[0]["prompt"]}])) == 1  # finished, it loads
    shutil.rmtree(begun / "model")
    shutil.rmtree(begun / "checkpoints" / "fit" / "step-2")
    again = resume(begun)
    assert file_hash(again.model / "adapter_model.safetensors") == file_hash(whole.model / "adapter_model.safetensors")
    tensors = load_file(again.model / "adapter_model.safetensors")
    assert {tensor.shape[0] for name, tensor in tensors.items() if "lora_A" in name} == {rank}


def test_a_run_of_prepared_rows_is_shown_as_what_it_is(tmp_path):
    data = write_table(tmp_path / "rows.csv", labelled(40))
    recipe = build_recipe({"model": "builtin:minilm", "data": {"path": str(data)}, "objective": "classify"}, "recipe")
    run = whet.prepare(recipe, out=tmp_path / "runs" / "rows")
    assert show_runs(tmp_path / "runs") == [
        {"run": str(run.path), "kind": "prepare", "model": None, "verdict": "rows prepared, nothing trained"}
    ]


def test_judging_on_another_file_leaves_the_run_as_it_was(classified, tmp_path):
    table = write_table(tmp_path / "other.csv", labelled(30, seed=9))
    before = file_hash(classified.path / "model" / "heads.safetensors")
    files = ("report.json", "report.html", "predictions.jsonl")
    own = {name: file_hash(classified.path / name) for name in files}
    judged = whet.evaluate(classified, test=table)
    assert judged.report["n"] == 30 and judged.report["test"] == ["other.csv"]
    assert all((classified.path / "evaluations" / "other" / name).is_file() for name in files)
    assert file_hash(classified.path / "model" / "heads.safetensors") == before
    assert {name: file_hash(classified.path / name) for name in files} == own
    assert whet.evaluate(classified, test=table).evaluation == "other"  # the same rows again
    other = write_table(table, labelled(31, seed=9))
    assert whet.evaluate(classified, test=other).evaluation == "other-2"
    assert [one["name"] for one in show_run(classified.path)["evaluations"]] == ["other", "other-2"]


def test_rows_that_were_learnt_from_are_not_in_the_score(classified, tmp_path):
    learnt = [{"text": one.text, "label": one.label, "channel": "mail"} for one in read_dataset(classified.path).train[:9]]
    new = labelled(5, seed=77)
    judged = whet.evaluate(classified, test=write_table(tmp_path / "again.csv", learnt + new)).report
    assert judged["n"] == 5 and judged["hints"][0].startswith("9 of 14 rows of again.csv also stand in what was learnt from")
    with pytest.raises(Refused, match="9 of 9 rows"):
        whet.evaluate(classified, test=write_table(tmp_path / "all.csv", learnt))
    assert not (classified.path / "evaluations" / "all").exists()
    kept = whet.evaluate(classified, test=tmp_path / "all.csv", keep_learnt=True).report
    assert kept["n"] == 9 and "flatter" in kept["hints"][0]


def test_several_labels_are_learnt_and_judged(encoder, tmp_path):
    rows = [{"text": row["text"], "tags": f"{row['label']};{row['channel']}"} for row in labelled(60)]
    data = {"path": str(write_table(tmp_path / "rows.csv", rows)), "text": "text", "labels": "tags"}
    run = whet.evaluate(whet.train(recipe(encoder, data, {"name": "classify", "kind": "several"}), out=tmp_path / "run"))
    assert set(run.report["metrics"]) >= {"micro_f1", "exact_set"}
    answer = whet.load(run).predict(["invoice refund"])[0]
    assert set(answer.prediction) <= {"billing", "network", "mail", "chat"}


def test_a_number_is_learnt_and_judged(encoder, tmp_path):
    rows = [{"text": f"{'money ' * (index % 7 + 1)}{index}", "price": index % 7 + 0.5} for index in range(60)]
    data = {"path": str(write_table(tmp_path / "rows.csv", rows)), "text": "text", "label": "price"}
    run = whet.evaluate(whet.train(recipe(encoder, data, {"name": "classify", "kind": "number"}), out=tmp_path / "run"))
    assert run.report["metric"] == "mean_absolute_error"
    assert "mean_value" in run.report["baselines"]
    assert isinstance(whet.load(run).predict(["money money"])[0].prediction, float)


def conversations(path):
    lines = [json.dumps({"prompt": f"say {index}", "completion": f"it is {index} today"}) for index in range(40)]
    path.write_text("\n".join(lines))
    return {"path": str(path), "prompt": "prompt", "response": "completion"}


def test_sft_reports_likelihood_and_written_answers_against_the_base(decoder, tmp_path):
    run = whet.evaluate(whet.train(recipe(decoder, conversations(tmp_path / "rows.jsonl"), "sft"), out=tmp_path / "run"))
    report = run.report
    assert set(report["metrics"]) >= {"loss", "perplexity", "rouge_l", "bleu", "chrf", "exact_match"}
    assert report["metrics"]["loss"]["n"] == report["n"]
    assert report["metrics"]["rouge_l"]["n"] == 3
    assert math.isclose(math.exp(report["metrics"]["loss"]["value"]), report["metrics"]["perplexity"]["value"], rel_tol=1e-6)
    assert isinstance(whet.load(run).predict(["say 3"])[0].prediction, str)


def test_pretraining_reports_bits_per_character(decoder, tmp_path):
    (tmp_path / "rows.jsonl").write_text(
        "\n".join(json.dumps({"text": f"the cat {index} sat on the mat"}) for index in range(40))
    )
    data = {"path": str(tmp_path / "rows.jsonl"), "text": "text"}
    run = whet.evaluate(whet.train(recipe(decoder, data, "pretrain"), out=tmp_path / "run"))
    assert run.report["metric"] == "bits_per_character"
    with pytest.raises(RunError, match="gives no answers"):
        whet.load(run).predict(["x"])


def test_refitting_learns_from_the_validation_rows_too(encoder, tmp_path):
    data = {"path": str(write_table(tmp_path / "rows.csv", labelled(60))), "text": "text", "label": "label"}
    run = whet.train(recipe(encoder, data, "classify", refit=True, max_steps=20, validate_every=5), out=tmp_path / "run")
    phases = run.manifest["phases"]
    assert set(phases) == {"fit", "refit"}
    first = [record for record in run.records() if record["kind"] == "step" and record["phase"] == "refit"]
    # 42 + 9 rows in steps of 4: the epochs that early stopping found, over more rows
    assert len(first) == phases["refit"]["steps"] == max(1, round(phases["fit"]["best_step"] / 11 * 13))


def validation_loss(run):
    """The mean of -log p(label) over the validation rows that the run stores."""
    rows = read_dataset(run.path).validation
    tuned = whet.load(run).tuned
    given = tuned.objective.outputs(tuned.policy, rows, tuned.policy.context)
    return -sum(math.log(one.probabilities[row.label]) for one, row in zip(given, rows, strict=True)) / len(rows)


def test_the_saved_model_is_as_sure_as_the_validation_rows_made_it(encoder, tmp_path):
    # the best of these steps is not the last, and their temperatures differ
    data = {"path": str(write_table(tmp_path / "data.csv", labelled(60))), "text": "text", "label": "label"}
    run = train(recipe(encoder, data, "classify", max_steps=30, validate_every=5, learning_rate=0.05), out=tmp_path / "run")
    fit = run.manifest["phases"]["fit"]
    assert fit["temperature"] != 1.0
    assert validation_loss(run) == pytest.approx(fit["best_loss"], rel=1e-4)


def test_a_model_trained_again_on_all_rows_keeps_the_temperature_of_the_fit(encoder, tmp_path):
    data = {"path": str(write_table(tmp_path / "data.csv", labelled(60))), "text": "text", "label": "label"}
    run = train(recipe(encoder, data, "classify", refit=True), out=tmp_path / "run")
    phases = run.manifest["phases"]
    assert phases["refit"]["temperature"] == phases["fit"]["temperature"] != 1.0
    step = checkpoint.load(run.checkpoints / "refit", phases["refit"]["steps"])
    saved = whet.load(run).tuned.policy.heads["classify"].weight
    assert torch.allclose(saved * phases["fit"]["temperature"], step.tensors["model/heads.classify.weight"], rtol=1e-5)


def test_an_objective_of_ones_own_is_trained_and_its_hash_kept(encoder, tmp_path):
    source = Path(classify.__file__).read_text(encoding="utf-8")
    (tmp_path / "mine.py").write_text(source)
    table = write_table(tmp_path / "rows.csv", labelled(60))
    made = recipe(encoder, {"path": str(table), "text": "text", "label": "label"}, "./mine.py")
    with pytest.raises(RecipeError, match="only from a recipe"):
        whet.train(made, out=tmp_path / "run")
    run = train(made, folder=tmp_path, out=tmp_path / "run")
    assert run.manifest["plugins"] == {"./mine.py": file_hash(tmp_path / "mine.py")}
    with pytest.raises(RunError, match="never loaded from a run"):
        whet.evaluate(run)
    assert whet.evaluate(run, recipe=tmp_path / "recipe.yaml").report["n"] > 0
    (tmp_path / "mine.py").write_text(source + "\n")
    with pytest.raises(RunError, match="not the file"):
        whet.evaluate(run, recipe=tmp_path / "recipe.yaml")


def test_auto_goes_from_a_file_to_a_verdict(encoder, tmp_path):
    table = write_table(tmp_path / "rows.csv", labelled(80))
    run = whet.auto(table, model=str(encoder), sets=["train.max_steps=4", "evaluate.resamples=100"], out=tmp_path / "run")
    assert run.report["verdict"]["sentence"]
    assert "channel" in run.report["slices"]


def test_auto_recognises_a_number_to_predict(encoder, tmp_path):
    rows = [{"text": f"{'money ' * (index % 7 + 1)}for the {index}th time", "price": 0.25 * index} for index in range(60)]
    table = write_table(tmp_path / "rows.csv", rows)
    run = whet.auto(table, model=str(encoder), sets=["train.max_steps=4", "evaluate.resamples=100"], out=tmp_path / "run")
    assert run.report["metric"] == "mean_absolute_error"


def test_auto_refuses_a_label_column_without_labels(encoder, tmp_path):
    rows = [{"text": row["text"], "label": ""} for row in labelled(40)]
    with pytest.raises(DataError, match="'label' is empty in every row"):
        whet.auto(write_table(tmp_path / "rows.csv", rows), model=str(encoder), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_asked_is_cleaned_as_the_training_rows_were_and_comes_out_as_it_went_in(classified, tmp_path):
    predictor = whet.load(classified)
    raw, clean = "  invoice <b>refund</b>&nbsp;&amp; \u00a0money ", "invoice refund & money"
    assert predictor.clean(raw) == clean != raw
    assert predictor.predict([raw]) == predictor.predict([clean])
    table = write_table(tmp_path / "ask.csv", [{"text": raw}])
    assert next(predict_tasks({"": predictor}, table, 0.0, []))["text"] == raw


def test_the_whole_plan_and_the_metric_are_stored(classified):
    manifest, stored = classified.manifest, load_run(classified.path).recipe
    assert manifest["plan"]["schedule"] == {"name": "linear"}
    assert manifest["plan"]["optimiser"].items() >= {"name": "adamw", "beta2": 0.999}.items()
    assert (manifest["plan"]["clip"], manifest["plan"]["weight_decay"]) == (1.0, 0.01)
    assert 0 <= manifest["packing_difference"] < 1e-4
    assert stored.evaluate.metric == "accuracy"
    cleaned = next(decision for decision in manifest["decisions"] if decision["key"] == "data.clean")
    assert cleaned["value"] == ["encoding", "markup", "unicode", "controls", "spaces"]
    assert "spellings of one label" in (classified.path / "recipe.yaml").read_text()


@pytest.mark.slow
def test_how_a_run_is_judged_can_be_set_for_one_report(classified):
    report = whet.evaluate(classified, sets=["evaluate.metric=macro_f1", "evaluate.max_rows=7"]).report
    assert (report["metric"], report["n"]) == ("macro_f1", 7)
    assert report["settings"]["metric"] == "macro_f1"
    assert whet.evaluate(classified).report["metric"] == "accuracy"
    for wrong, said in (
        ("evaluate.metrc=accuracy", "did you mean 'evaluate.metric'"),
        ("data.text=label", "only how it is judged"),
        ("evaluate.metric=rouge_l", "a metric of text, which this objective does not give"),
        ("evaluate.resamples=1", "greater than or equal to 100"),
    ):
        with pytest.raises(RecipeError, match=said):
            whet.evaluate(classified, sets=[wrong])


METRIC = """from typing import ClassVar

from whet.plugins import plugin
from whet.stats import mean


@plugin
class Short:
    higher_is_better: ClassVar[bool] = True
    best: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("text",)

    def statistics(self, example, output):
        return (float(len(output.text) < 20),)

    def reduce(self, statistics):
        return mean(statistics)
"""


@pytest.mark.slow
def test_a_metric_of_ones_own_or_one_that_fits_is_the_verdicts(decoder, tmp_path):
    (tmp_path / "short.py").write_text(METRIC)
    (tmp_path / "half.py").write_text(METRIC.replace("def reduce", "def reduced"))
    made = recipe(decoder, conversations(tmp_path / "rows.jsonl"), "sft", max_steps=2)

    def judged_by(metric):
        return made.model_copy(update={"evaluate": made.evaluate.model_copy(update={"metric": metric})})

    with pytest.raises(RecipeError, match="no plugin of kind 'metrics': it has no reduce"):
        train(judged_by("./half.py"), folder=tmp_path, out=tmp_path / "run")
    run = train(judged_by("./short.py"), folder=tmp_path, out=tmp_path / "run")
    assert run.manifest["plugins"] == {"./short.py": file_hash(tmp_path / "short.py")}
    report = whet.evaluate(run, recipe=tmp_path / "recipe.yaml").report
    assert report["metric"] == report["verdict"]["metric"] == "short"
    assert report["plugins"] == run.manifest["plugins"]
    report = whet.evaluate(run, recipe=tmp_path / "recipe.yaml", sets=["evaluate.metric=token_f1"]).report
    assert report["metric"] == "token_f1" and {"loss", "rouge_l"} < set(report["metrics"])


@pytest.mark.parametrize("technique", ["full", "lora"])
def test_a_changed_base_is_never_compared_with(decoder, tmp_path, technique):
    base = Path(shutil.copytree(decoder, tmp_path / "base"))
    made = recipe(base, conversations(tmp_path / "rows.jsonl"), "sft", max_steps=1)
    run = whet.train(made.model_copy(update={"technique": Choice(name=technique)}), out=tmp_path / "run")
    (base / "model.safetensors").write_bytes(flipped((base / "model.safetensors").read_bytes()))
    with pytest.raises(RunError, match=r"other weights now .*Bring those back"):
        whet.evaluate(run)
    assert not (run.path / "report.json").exists()


def flipped(content):
    return content[:-4] + bytes([content[-4] ^ 1]) + content[-3:]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classify", "sft"])
def test_scoring_takes_no_larger_batches_than_training_may(kind, encoder, decoder, tmp_path, monkeypatch):
    sizes = []
    computed = Policy.computed
    monkeypatch.setattr(
        Policy, "computed", lambda self, batch, places=None: sizes.append(batch.lengths) or computed(self, batch, places)
    )
    if kind == "classify":
        table = write_table(tmp_path / "rows.csv", labelled(60))
        made = recipe(encoder, {"path": str(table), "text": "text", "label": "label"}, kind, max_tokens=40)
    else:
        made = recipe(decoder, conversations(tmp_path / "rows.jsonl"), kind, max_tokens=40)
    run = whet.train(made, out=tmp_path / "run")
    assert json.loads((run.model / "policy.json").read_text())["max_tokens"] == 40
    whet.evaluate(run)
    assert len(sizes) > 20 and all(sum(lengths) <= 40 or len(lengths) == 1 for lengths in sizes)


def test_answers_are_as_long_as_the_recipe_says_in_predict_and_chat(decoder, tmp_path):
    run = whet.train(recipe(decoder, conversations(tmp_path / "rows.jsonl"), "sft", max_steps=1), out=tmp_path / "run")
    predictor = whet.load(run)
    longest = predictor.tuned.recipe.evaluate.max_new_tokens
    asked = predictor.reply([Message("user", "say 3")])
    assert asked == predictor.reply([Message("user", "say 3")], max_new_tokens=longest)
    assert asked == predictor.predict(["say 3"])[0].prediction
    assert len(predictor.reply([Message("user", "say 3")], max_new_tokens=3 * longest)) > len(asked)


def test_rows_that_fit_are_tokenised_once(encoder, tmp_path, monkeypatch):
    asked = []
    units = classify.Classify.units
    monkeypatch.setattr(classify.Classify, "units", lambda self, some, *rest: asked.append(len(some)) or units(self, some, *rest))
    data = {"path": str(write_table(tmp_path / "rows.csv", labelled(60))), "text": "text", "label": "label"}
    run = whet.train(recipe(encoder, data, "classify", max_steps=1), out=tmp_path / "run")
    used = json.loads((run.path / "data" / "accounting.json").read_text())["sources"]["path"]["used"]
    assert asked.count(used["validation"]) == 1
    assert asked.count(used["train"]) == 1


def test_programs_get_counts_and_hints_and_a_table_from_standard_input_keeps_its_separator(classified):
    table = "channel;text\nmail;refund please, now\nchat;\n"
    done = CliRunner().invoke(app, ["predict", str(classified.path), "--json"], input=table)
    found = json.loads(done.stdout)
    assert found["counts"] == {"rows": 2, "abstained": 0, "errors": 1} and found["rows"] == 2
    assert [row["text"] for row in found["predictions"]] == ["refund please, now", ""]
    assert done.stderr.index("separated by semicolons") < done.stderr.index("1 asked")
    plain = CliRunner().invoke(app, ["predict", str(classified.path)], input=table).stdout.splitlines()
    assert plain[0] == "channel;text;prediction;confidence;abstained;error" and plain[1].startswith("mail;refund please, now;")
    as_text = json.loads(
        CliRunner().invoke(app, ["predict", str(classified.path), "--json", "--input-format", "text"], input=table).stdout
    )
    assert as_text["counts"]["rows"] == 3
    judged = json.loads(CliRunner().invoke(app, ["evaluate", str(classified.path), "--json"]).stdout)
    assert judged["hints"] == classified.report["hints"]


def test_chat_answers_one_message(classified):
    done = CliRunner().invoke(app, ["chat", str(classified.path), "refund please"])
    assert done.exit_code == 0 and "sure)" in done.stdout and len(done.stdout.splitlines()) == 1
