"""Several tasks in one run, through every verb: learnt together, judged each by itself and against the same task alone."""

import csv
import json
import random
import re
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

import whet
from whet.cli import app
from whet.data.dataset import read_dataset
from whet.data.keys import text_key
from whet.errors import Interrupted, RecipeError, RunError, ServerError
from whet.models.builtin import BUILT_IN, is_ready
from whet.recipe_file import build_recipe, load_recipe
from whet.server.served import Shelf
from whet.stages import phase, train
from whet.stages.narrate import SILENT
from whet.stages.serve import Options, load_served_tasks, prepare
from whet.testing import write_tiny
from whet.types import Message

WORDS = {"card": "billing", "parcel": "delivery", "ticket": "travel"}
TONES = {"please": "calm", "now": "urgent"}
RUN_FILES = ("log.jsonl", "splits.json", "model/heads.safetensors", "model/policy.json")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("bert"), "bert")


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    draw = random.Random(0)
    file = tmp_path_factory.mktemp("data") / "rows.csv"
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["message", "intent", "tone", "wait", "tags", "answer"])
        for number in range(90):
            word, tone = draw.choice(sorted(WORDS)), draw.choice(sorted(TONES))
            text = f"where is the {word} {tone} {' '.join(draw.choices('abcdefghijkl', k=3))}"
            tags = WORDS[word] if tone == "now" else f"{WORDS[word]}|slow"
            writer.writerow(
                [text, WORDS[word], TONES[tone], 1.0 + (tone == "now"), tags, "ok" if number % 2 else "please call us"]
            )
    return file


def task(rows, **columns):
    objective = columns.pop("objective", "classify")
    more = {key: columns.pop(key) for key in ("weight", "metric") if key in columns}
    # the texts are variations of a few, which would hardly be divided if those that are nearly the same stayed together
    return {"data": {"path": str(rows), "duplicates": {"near": False}, **columns}, "objective": objective, **more}


def recipe(model, tasks, mixture=None, **more):
    quick = {"max_steps": 8, "batch_size": 8, "precision": "fp32", "learning_rate": 0.01, "validate_every": 4} | more.pop(
        "train", {}
    )
    judge = {"resamples": 100, "max_generated": 3, "max_new_tokens": 5} | more.pop("evaluate", {})
    values = {"model": str(model), "tasks": tasks, "train": quick, "evaluate": judge, **more}
    return build_recipe(values | ({"mixture": mixture} if mixture else {}), "test")


def two(rows):
    return {
        "intent": task(rows, text="message", label="intent", slices=["tone"]),
        "tone": task(rows, text="message", label="tone", weight=0.5),
    }


@pytest.fixture(scope="module")
def shared(encoder, rows, tmp_path_factory):
    """Two tasks and each alone, trained and judged."""
    made = recipe(encoder, two(rows), {"by": "temperature", "temperature": 3, "compare": True})
    return whet.evaluate(whet.train(made, out=tmp_path_factory.mktemp("shared") / "run"))


def test_every_task_is_reported_as_a_run_of_its_own_would_be(shared):
    report = shared.report
    assert list(report["tasks"]) == ["intent", "tone"]
    answers = [json.loads(line) for line in (shared.path / "predictions.jsonl").read_text().splitlines()]
    for name, one in report["tasks"].items():
        own = [answer for answer in answers if answer["task"] == name]
        assert one["n"] == len(own) > 0
        right = sum(answer["label"] == answer["prediction"] for answer in own)
        assert one["metrics"]["accuracy"]["value"] == pytest.approx(right / len(own))
        assert set(one["baselines"]) == {"majority_class", "nearest_centroid", "nearest_neighbours"}
        assert one["verdict"]["sentence"].endswith(".")
        assert report["metrics"][f"{name}/accuracy"] == one["metrics"]["accuracy"]
    assert "slices" in report["tasks"]["intent"]
    assert report["n"] == len(answers)
    assert report["verdict"]["sentence"].startswith("Tuning ")


def test_sharing_is_compared_on_the_same_rows_with_a_run_of_the_task_alone(shared):
    for name, one in shared.report["tasks"].items():
        place = train.alone_path(shared.path, name)
        alone = whet.evaluate(place)
        sharing = one["sharing"]
        assert alone.manifest["parents"] == [str(shared.path)]
        assert sharing["alone"]["value"] == pytest.approx(alone.report["metrics"]["accuracy"]["value"])
        assert sharing["shared"] == one["metrics"]["accuracy"]
        assert sharing["difference"]["value"] == pytest.approx(sharing["shared"]["value"] - sharing["alone"]["value"])
        assert name in sharing["sentence"]
        ours, theirs = read_dataset(shared.path).of_task(name), read_dataset(place)
        assert [one.text for one in ours.test] == [one.text for one in theirs.test]
        assert ours.classes == theirs.classes
        assert (
            load_recipe(place / "recipe.yaml").train.learning_rate == load_recipe(shared.path / "recipe.yaml").train.learning_rate
        )


def test_no_text_is_learnt_from_in_one_task_and_judged_on_in_another(shared):
    dataset = read_dataset(shared.path)
    held = {text_key(example) for example in dataset.test}
    assert held and not held & {text_key(example) for example in (*dataset.train, *dataset.validation)}
    assert {example.task for example in dataset.test} == {"intent", "tone"}


def test_the_pages_show_each_task_and_are_self_contained(shared):
    page = (shared.path / "report.html").read_text()
    for name in ("intent", "tone"):
        assert f'href="tasks/{name}.html"' in page
        own = (shared.path / "tasks" / f"{name}.html").read_text()
        assert f"--task {name}" in own
        assert "<script" not in page + own
    assert "With the other tasks, or alone?" in page


def test_heads_are_saved_under_the_tasks_names_and_loaded_to_the_same_answers(shared):
    heads = load_file(shared.path / "model" / "heads.safetensors")
    assert {name.rpartition(".")[0] for name in heads} == {"intent__classify", "tone__classify"}
    assert len(heads["intent__classify.weight"]) == 3 and len(heads["tone__classify.weight"]) == 2
    answers = [json.loads(line) for line in (shared.path / "predictions.jsonl").read_text().splitlines()]
    for name in ("intent", "tone"):
        predictor = whet.load(shared, task=name)
        asked = [answer for answer in answers if answer["task"] == name]
        found = predictor.predict([answer["text"] for answer in asked])
        assert [one.prediction for one in found] == [answer["prediction"] for answer in asked]


def test_the_same_seed_gives_the_same_bytes_and_a_killed_run_ends_in_them(encoder, rows, tmp_path, monkeypatch):
    made = recipe(encoder, two(rows), {"by": "temperature"})
    straight, again = (whet.train(made, out=tmp_path / name).path for name in ("straight", "again"))
    assert all((straight / name).read_bytes() == (again / name).read_bytes() for name in RUN_FILES)
    save = phase.checkpoint.save

    def killed(folder, step, *rest):
        save(folder, step, *rest)
        if step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(phase.checkpoint, "save", killed)
    with pytest.raises(Interrupted):
        whet.train(made, out=tmp_path / "stopped")
    monkeypatch.setattr(phase.checkpoint, "save", save)
    resumed = whet.train(resume=tmp_path / "stopped").path
    assert all((straight / name).read_bytes() == (resumed / name).read_bytes() for name in RUN_FILES)


@pytest.mark.slow
def test_a_comparison_that_was_stopped_goes_on_with_the_tasks_that_are_left(encoder, rows, tmp_path, monkeypatch):
    made = recipe(encoder, two(rows), {"compare": True})
    begin = train.train_on

    def stopped(recipe, dataset, path, *rest):
        if path.name.endswith("tone-alone"):
            raise Interrupted("Stopped.")
        return begin(recipe, dataset, path, *rest)

    monkeypatch.setattr(train, "train_on", stopped)
    with pytest.raises(Interrupted, match=r"while training tone alone.*--resume"):
        begin(made, train.prepare_data(made, None), tmp_path / "run", None, SILENT)
    with pytest.raises(RunError, match=r"'tone' has not been trained alone yet.*whet train --resume"):
        whet.evaluate(tmp_path / "run")
    assert not (tmp_path / "run" / "report.json").exists()
    monkeypatch.setattr(train, "train_on", begin)
    intent = (tmp_path / "run-intent-alone" / "model" / "heads.safetensors").stat().st_mtime_ns
    run = whet.train(resume=tmp_path / "run")
    assert (tmp_path / "run-intent-alone" / "model" / "heads.safetensors").stat().st_mtime_ns == intent
    assert set(whet.evaluate(run).report["verdict"]["sharing"]) == {"intent", "tone"}


@pytest.mark.slow
def test_tasks_of_different_kinds_share_an_encoder(encoder, rows, tmp_path):
    tasks = {
        "intent": task(rows, text="message", label="intent"),
        "wait": task(rows, text="message", label="wait", objective={"name": "classify", "kind": "number"}, metric="spearman"),
        "tags": task(rows, text="message", labels="tags", objective={"name": "classify", "kind": "several"}),
    }
    run = whet.evaluate(
        whet.train(recipe(encoder, tasks, {"by": "weight"}, train={"refit": True, "epochs": 1}), out=tmp_path / "run")
    )
    report = run.report["tasks"]
    assert {name: one["metric"] for name, one in report.items()} == {"intent": "accuracy", "wait": "spearman", "tags": "micro_f1"}
    found = {name: whet.load(run, task=name).predict(["where is the card now"])[0].prediction for name in tasks}
    assert found["intent"] in WORDS.values() and isinstance(found["wait"], float) and isinstance(found["tags"], tuple)


@pytest.mark.slow
def test_tasks_that_write_share_the_head_and_chat_answers_as_ever(decoder, rows, tmp_path):
    tasks = {
        "reply": task(rows, prompt="message", response="answer", objective="sft"),
        "language": task(rows, text="message", objective="pretrain"),
    }
    run = whet.evaluate(whet.train(recipe(decoder, tasks, {"compare": True}), out=tmp_path / "run"))
    assert not (run.path / "model" / "heads.safetensors").exists()
    assert run.report["tasks"]["reply"]["metric"] == "loss"
    assert {one["sharing"]["num_differing"] > 0 for one in run.report["tasks"].values()} == {True}
    predictor = whet.load(run)
    assert isinstance(predictor.reply([Message("user", "where is the card")]), str)
    assert predictor.tuned.task == "reply"


def test_predict_gives_each_task_columns_of_its_own(shared, rows, tmp_path):
    runner = CliRunner()
    done = runner.invoke(app, ["predict", str(shared.path), str(rows), "--out", str(tmp_path / "all.csv"), "--json"])
    assert done.exit_code == 0, done.output
    with (tmp_path / "all.csv").open() as file:
        found = list(csv.DictReader(file))
    assert len(found) == 90
    assert list(found[0])[6:] == [
        f"{name}_{key}" for name in ("intent", "tone") for key in ("prediction", "confidence", "abstained", "error")
    ]
    done = runner.invoke(app, ["predict", str(shared.path), str(rows), "--task", "tone", "--out", str(tmp_path / "tone.csv")])
    assert done.exit_code == 0, done.output
    with (tmp_path / "tone.csv").open() as file:
        tone = list(csv.DictReader(file))
    assert [row["prediction"] for row in tone] == [row["tone_prediction"] for row in found]
    assert [row["confidence"] for row in tone] == [row["tone_confidence"] for row in found]


def test_a_file_without_a_tasks_column_is_told_how_to_ask_one_task_alone(shared, tmp_path):
    (tmp_path / "rows.csv").write_text("first,second\nwhere is the card,now\n")
    done = CliRunner().invoke(app, ["predict", str(shared.path), str(tmp_path / "rows.csv"), "--json"])
    said = str(done.exception)
    assert said.startswith("task 'intent': ") and said.endswith("To ask one task alone: --task NAME (intent, tone).")


def test_a_row_that_cannot_be_asked_says_so_in_every_task_and_counts_once(shared, tmp_path):
    (tmp_path / "rows.csv").write_text('message,intent_prediction\nwhere is the card,mine\n"",mine\n')
    done = CliRunner().invoke(app, ["predict", str(shared.path), str(tmp_path / "rows.csv"), "--json"])
    told = json.loads(done.stdout)
    assert told["counts"] == {"rows": 2, "abstained": 0, "errors": 1}
    first, second = told["predictions"]
    assert first["intent_prediction"] == "mine" and first["whet_intent_prediction"] in WORDS.values()
    assert second["intent_error"] and second["tone_error"] and second["tone_prediction"] is None


def test_another_file_is_judged_for_the_task_that_is_named(shared, tmp_path):
    file = tmp_path / "more.csv"
    file.write_text(
        "message,tone\n"
        + "".join(f"my {word} {tone} {letter} new,{TONES[tone]}\n" for word in WORDS for tone in TONES for letter in "xyz")
    )
    before = (shared.path / "report.json").read_bytes()
    with pytest.raises(RecipeError, match=r"several tasks.*--task intent"):
        whet.evaluate(shared, test=file)
    judged = whet.evaluate(shared, test=file, task="tone")
    assert judged.report["n"] == 18 and judged.report["metric"] == "accuracy"
    assert judged.results.parent.name == "evaluations"
    assert (shared.path / "report.json").read_bytes() == before
    with pytest.raises(RecipeError, match=r"no task 'colour'. Allowed: intent, tone"):
        whet.evaluate(shared, test=file, task="colour")
    with pytest.raises(RecipeError, match=r"--task says which task the rows of --test are for"):
        whet.evaluate(shared, task="tone")


@pytest.mark.parametrize(
    "verb",
    [
        ["compress", "RUN", "int8"],
        ["export", "RUN", "merged"],
        ["chat", "RUN", "hello"],
        ["monitor", "RUN"],
        ["retrain", "RUN", "new.csv"],
    ],
)
def test_verbs_that_take_one_task_say_so(verb, shared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [str(shared.path) if word == "RUN" else word for word in verb])
    assert done.exit_code == 1, done.output
    assert "several tasks" in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_one_task_is_exported_and_checked_on_its_own_rows(shared, tmp_path):
    made = whet.export(shared, "merged", task="tone", out=tmp_path / "tone")
    assert made.manifest["task"] == "tone" and made.manifest["check"]["rows"] > 0
    (weight,) = [tensor for name, tensor in load_file(made.path / "head.safetensors").items() if name.endswith("weight")]
    told = (made.path / "README.md").read_text()
    assert len(weight) == 2 and "calm" in told and "urgent" in told and "billing" not in told


def test_every_task_is_served_under_its_name_and_answers_as_predict(shared, tmp_path):
    served = load_served_tasks(shared.path)
    assert list(served) == ["intent", "tone"]
    assert served["intent"].policy.network is served["tone"].policy.network
    shelf, texts = Shelf(), ["where is the card now", "where is the parcel please a b"]
    shelf.put("tickets", served)
    assert shelf.names() == ["tickets/intent", "tickets/tone"] == list(shelf.names_of("tickets"))
    for name in served:
        one = shelf.get(f"tickets/{name}")
        expected = whet.load(shared, task=name).predict(texts)
        assert [found.label for found in one.classify(one.examples(texts))] == [found.prediction for found in expected]
    shelf.put("tickets", {"": served["tone"]})  # the run behind the name was exchanged for one of a single task
    assert shelf.names() == ["tickets"]


def test_a_contract_takes_one_model_and_says_which_there_are(shared):
    with pytest.raises(ServerError, match="a contract serves one model, and here are 2: tickets/intent, tickets/tone"):
        prepare([shared.path], names=["tickets"], options=Options(port=0, log=None, contract="vertex"), say=str)


def test_a_damaged_head_is_told(shared, tmp_path):
    shutil.copytree(shared.path, tmp_path / "run")
    card = json.loads((tmp_path / "run/model/policy.json").read_text())
    card["tasks"]["tone"].append("third")
    (tmp_path / "run/model/policy.json").write_text(json.dumps(card))
    with pytest.raises(RunError, match=r"'tone__classify' has 2 outputs, and policy\.json 3 classes"):
        whet.load(tmp_path / "run", task="tone")


@pytest.mark.slow
def test_a_search_over_a_mixture_compares_by_the_weighted_loss(encoder, rows, tmp_path):
    pytest.importorskip("optuna")
    space = {"train.learning_rate": [0.001, 0.02]}
    found = whet.search(recipe(encoder, two(rows), search={"space": space, "trials": 2}), out=tmp_path / "found")
    result = json.loads((found.path / "search.json").read_text())
    assert [trial["state"] for trial in result["trials"]] == ["complete", "complete"]
    assert set(whet.evaluate(tmp_path / "found-best").report["tasks"]) == {"intent", "tone"}


def spoilt(text, old, new):
    assert old in text
    return text.replace(old, new)


GOOD = """model: MODEL
tasks:
  intent: {data: {path: ROWS, text: message, label: intent}, objective: classify}
  tone:
    data: {path: ROWS, text: message, label: tone}
    objective: classify
    weight: 0.5
mixture: {by: temperature, temperature: 2}
train: {max_steps: 2}
"""
MISTAKES = {
    "both": ("train:", "data: {path: ROWS}\ntrain:", r"recipe.yaml:2: a recipe has either 'tasks', or 'data' and 'objective'"),
    "one name twice": ("  tone:", "  intent:", r"recipe.yaml:4: not valid YAML: found duplicate key \"intent\""),
    "unknown key": ("weight:", "wieght:", r"recipe.yaml:7: unknown key 'tasks.tone.wieght'; did you mean 'tasks.tone.weight'"),
    "no temperature": ("temperature: 2", "temperature: 0", r"recipe.yaml:8: 'mixture.temperature' is 0; allowed: greater than 0"),
    "no weight": ("0.5", "0", r"recipe.yaml:7: 'tasks.tone.weight' is 0; allowed: greater than 0"),
    "temperature unread": ("by: temperature, ", "by: size, ", r"recipe.yaml:8: 'mixture' is .*a temperature only with by: temperature"),
    "a name": ("  tone:", "  the tone:", r"recipe.yaml:2: 'the tone' is the name of a task; allowed: letters"),
    "no rows": ("label: tone}", "label: empty}", r"task 'tone': "),
    "no column": ("label: tone}", "label: tune}", r"task 'tone': .*no column 'tune'.*Did you mean 'tone'"),
    "no plugin": ("objective: classify\n    w", "objective: clasify\n    w", r"recipe.yaml:6: 'clasify' is no plugin.*Did you mean 'classify'"),
    "a decoder's task": ("objective: classify\n    w", "objective: pretrain\n    w", r"recipe.yaml:2: task 'tone' writes text and task 'intent' does not"),
    "steps of its own": ("objective: classify\n    w", "objective: masked\n    w", r"recipe.yaml:2: task 'tone': objective 'masked' needs steps of its own"),
    "a metric to stop by": ("max_steps: 2", "early_stopping: {metric: accuracy}", r"recipe.yaml:9: early stopping of several tasks watches"),
    "parents": ("train:", "parents: [runs/first]\ntrain:", r"recipe.yaml:2: a run of several tasks begins with a base model"),
    "a gate of no task": ("train:", "gate: [{metric: rouge_l, minimum: 0.5}]\ntrain:", r"recipe.yaml:9: a gate decides on one task"),
    "a gate": ("train:", "gate: [{metric: accuracy, minimum: 0.5}]\ntrain:", r"recipe.yaml:9: a gate decides on one task"),
    "a metric of one": ("train:", "evaluate: {metric: r2}\ntrain:", r"recipe.yaml:9: 'r2' is a metric of value"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_place_and_leaves_nothing(mistake, encoder, rows, tmp_path, monkeypatch):
    old, new, message = MISTAKES[mistake]
    table = rows.read_text().splitlines()
    (tmp_path / "rows.csv").write_text("\n".join([table[0] + ",empty", *(f"{line}," for line in table[1:])]) + "\n")
    text = spoilt(GOOD, old, new).replace("MODEL", str(encoder)).replace("ROWS", "rows.csv")
    (tmp_path / "recipe.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    done = CliRunner(env={"COLUMNS": "400"}).invoke(app, ["train", "recipe.yaml", "--json"])
    assert done.exit_code == 1, done.output
    assert "Traceback" not in done.output
    assert re.search(message, str(done.exception)), done.exception
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_tickets_intent_and_channel_on_the_built_in_encoder(tmp_path):
    if not is_ready(BUILT_IN["minilm"]):
        pytest.skip("builtin:minilm is not installed")
    tickets = Path(__file__).parents[1] / "examples" / "tickets" / "tickets.csv"
    tasks = {name: task(tickets, text="message", label=name) for name in ("intent", "channel")}
    made = recipe(
        "builtin:minilm",
        tasks,
        technique="lora",
        train={"max_steps": 12, "learning_rate": "auto", "batch_size": 16, "validate_every": 12},
        evaluate={"max_rows": 60},
    )
    report = whet.evaluate(whet.train(made, out=tmp_path / "run")).report["tasks"]
    assert report["intent"]["metrics"]["accuracy"]["low"] > 0.5
    for one in report.values():  # 12 steps beat no nearest neighbours, but they have learnt something of both
        assert one["metrics"]["accuracy"]["value"] > one["baselines"]["majority_class"]["metrics"]["accuracy"]["value"]
