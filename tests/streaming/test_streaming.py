"""A run that streams learns from each training text once an epoch, wherever it goes on, and tokenises nothing twice."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice

import pytest

from whet.data.keys import text_key
from whet.data.sampled import sampled
from whet.data.stream import streamed_of
from whet.errors import DataError, RecipeError, RunError, WhetError
from whet.plugins import build
from whet.recipe_file import load_recipe
from whet.recipe_parts import Choice
from whet.stages import train as training
from whet.stages.job import build_job
from whet.stages.prepare import prepare_data
from whet.stages.streaming import open_stream
from whet.testing.steps import tiny_plan
from whet.testing.tiny import THINGS
from whet.types import Cursor, Example

RECIPE = """
model: {llama}
data: {{path: {file}, streaming: true, split: {{train: 0.8, validation: 0.1, test: 0.1}}}}
objective: pretrain
technique: full
train: {{max_steps: 9, batch_size: 8, max_tokens: 90, precision: fp32, validate_every: 4, checkpoint: {{every: 2}}, early_stopping: false}}
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own, where kept tokens lie."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "whet" / "tokens"


@pytest.fixture
def corpus(tmp_path):
    """240 texts, the first 20 of which come again at the end, and two empty ones."""
    texts = [f"{number} cards and a {THINGS[number % len(THINGS)]} in box {number % 17}" for number in range(240)]
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*texts, *texts[:20], "", " "]))
    return texts, file


@pytest.fixture
def recipe(corpus, tiny_folder, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE.format(llama=tiny_folder("llama"), file=corpus[1]))
    return file


def opened(recipe, builder, piece_bytes=700, model="llama", max_length=None, **columns):
    """The stream of a recipe, in many small pieces, and the texts that it holds out."""
    read = load_recipe(recipe)
    objective, policy = build("objectives", "pretrain", {}), builder(model)()
    data = sampled(read.data, objective.needs, None)
    streamed = replace(streamed_of(data.stream.record()), piece_bytes=piece_bytes)
    mapped = data.columns.model_copy(update=columns)
    stream = open_stream(read, streamed, mapped, objective, policy, max_length or policy.context, 100, None, {})
    return stream, {text_key(one) for one in (*data.validation, *data.test)}, tiny_plan(policy, batch_size=8)


def told(rows):
    return [(row.id, tuple(row.ids.tolist())) for unit in rows.units for row in unit]


def test_each_training_text_comes_once_an_epoch_and_no_held_out_one_ever(recipe, corpus, builder):
    stream, held, plan = opened(recipe, builder)
    policy, epochs = stream.policy, {}
    for rows in stream.steps(plan, Cursor()):
        epochs.setdefault(rows.after.epoch - (rows.after.position == 0), []).extend(told(rows))
        if rows.after.epoch == 2:
            break
    expected = sorted(
        tuple(row.ids.tolist())
        for number, text in enumerate(corpus[0])
        for (row,) in stream.objective.units([Example(id=number, text=text)], policy, policy.context)
        if text_key(Example(id=number, text=text)) not in held
    )
    for number in (0, 1):
        assert sorted(ids for _, ids in epochs[number]) == expected
    assert epochs[0] != epochs[1] and {one for one, _ in epochs[0]} == {one for one, _ in epochs[1]}
    assert stream.counts["rows"] == 262 == sum(stream.counts[what] for what in stream.counts if what not in {"rows", "units"})
    assert stream.counts["duplicates dropped"] == 20 and "262 rows" in stream.sentence()


def test_from_any_step_the_same_rows_follow_and_nothing_is_tokenised_again(recipe, builder, cache):
    first, _, plan = opened(recipe, builder)
    steps = list(islice(first.steps(plan, Cursor()), 60))
    files = {file: file.stat().st_ino for file in cache.rglob("*.safetensors")}
    assert len(files) > 10 and steps[-1].after.epoch == 2
    for place in (0, 3, 22, 26, 40, 55):
        again, _, _ = opened(recipe, builder)
        follow = islice(again.steps(plan, steps[place].after), 4)
        assert [told(rows) for rows in follow] == [told(rows) for rows in steps[place + 1 : place + 5]], place
    assert {file: file.stat().st_ino for file in cache.rglob("*.safetensors")} == files


def test_a_rank_is_chosen_for_all_rows_and_not_for_the_sample_alone(recipe):
    read = load_recipe(recipe, ["technique={name: lora, targets: layers.0.self_attn.q_proj}"])
    data = prepare_data(read, None, training.SILENT)
    tenth = replace(data.stream, sampled_bytes=data.stream.total_bytes // 10)
    said = sum(
        len(row.ids) - 1 for unit in build_job(read, data, None).train_units for row in unit
    )  # a bit for each token but the first
    made = {one.key: one for one in build_job(read, replace(data, stream=tenth), None).decisions}
    assert f"the rows say about {said * data.stream.total_bytes / tenth.sampled_bytes:,.0f} bits" in made["technique.rank"].reason


@pytest.mark.parametrize(
    "changes",
    [{"max_length": 30}, {"clean": (Choice(name="markup"),)}, {"model": "gpt2"}, {"text": "other"}],
    ids=lambda one: next(iter(one)),
)
def test_a_changed_text_setting_or_model_finds_nothing_that_was_kept(changes, recipe, corpus, builder, cache):
    def learnt(**changes):
        stream, _, plan = opened(recipe, builder, **changes)
        before = set(cache.rglob("*.safetensors"))
        steps = list(islice(stream.steps(plan, Cursor()), 24))  # the first window has all of so small a file
        return sorted(ids for rows in steps for _, ids in told(rows)), len(set(cache.rglob("*.safetensors")) - before)

    first, made = learnt()
    assert made > 10 and learnt() == (first, 0)
    if "text" in changes:
        corpus[1].write_text(
            corpus[1].read_text().replace("in box", "of box").replace(': "', ':\t"')
        )  # every line, at its length
        changes = {}
    found, again = learnt(**changes)
    assert abs(again - made) <= 1, "a thread is ahead by a part, which is done or not when the steps end"
    assert found != first or "clean" in changes


def test_a_run_that_was_stopped_ends_in_the_same_bytes(recipe, tmp_path, monkeypatch):
    whole = training.train(load_recipe(recipe), out=tmp_path / "whole")
    stopped = tmp_path / "stopped"
    monkeypatch.setattr("whet.stages.phase.checkpoint.save", _failing_after(2))
    with pytest.raises(WhetError):
        training.train(load_recipe(recipe), out=stopped)
    monkeypatch.undo()
    run = training.resume(stopped)
    assert (run.path / "log.jsonl").read_bytes() == (whole.path / "log.jsonl").read_bytes()
    made = [file.relative_to(whole.path) for file in (whole.path / "model").rglob("*.safetensors")]
    assert made and all((run.path / file).read_bytes() == (whole.path / file).read_bytes() for file in made)
    assert run.manifest["streamed"] == whole.manifest["streamed"] and run.manifest["streamed"]["duplicates dropped"] == 20


def _failing_after(number):
    from whet.engine import checkpoint

    save, saved = checkpoint.save, []

    def write(*arguments):
        if len(saved) == number:
            raise OSError(28, "No space left on device")
        saved.append(save(*arguments))

    return write


def test_an_encoder_decoder_learns_from_a_stream_of_its_kind(tiny_folder, tmp_path):
    file = tmp_path / "pairs.jsonl"
    pairs = [
        {"q": f"what is in box {number}?", "a": f"a {THINGS[number % len(THINGS)]} of box {number}"} for number in range(150)
    ]
    file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    text = RECIPE.format(llama=tiny_folder("t5"), file=file).replace("streaming:", "prompt: q, response: a, streaming:")
    (tmp_path / "recipe.yaml").write_text(text.replace("objective: pretrain", "objective: seq2seq"))
    run = training.train(load_recipe(tmp_path / "recipe.yaml"), out=tmp_path / "run")
    assert run.model.exists() and run.manifest["streamed"]["to learn from"] > 100


def test_each_departure_is_said_aloud(recipe):
    data = prepare_data(load_recipe(recipe), None)
    said = " ".join(data.notices)
    for words in (
        "a hash of each text",
        "exact duplicates are dropped",
        "near duplicates are not looked for",
        "a sample",
        "while they are learnt",
    ):
        assert words in said
    assert {data.columns.split.train, data.columns.split.test} == {0.8, 0.1}


def test_a_file_that_has_changed_stops_the_run_in_words(recipe, corpus, tmp_path):
    run = training.train(load_recipe(recipe), out=tmp_path / "run")
    (run.path / "model").rename(tmp_path / "aside")
    content = corpus[1].read_bytes()
    corpus[1].write_bytes(content.replace(b"cards", b"CARDS", 1))
    with pytest.raises(RunError, match=r"texts\.jsonl: was altered"):
        training.resume(run.path)


@pytest.mark.parametrize(("change", "said"), [
    ("objective: classify", "cannot be used with it"),
    ("group: [text]", "either data.streaming or data.group"),
    ("refit: true", "Leave one of them out"),
])  # fmt: skip
def test_what_needs_all_rows_is_refused(change, said, recipe):
    text = recipe.read_text()
    text = text.replace("objective: pretrain", change) if change.startswith("objective") else text
    text = text.replace("streaming: true", f"streaming: true, {change}") if change.startswith("group") else text
    text = text.replace("max_steps: 9", f"max_steps: 9, {change}") if change.startswith("refit") else text
    recipe.write_text(text)
    with pytest.raises((RecipeError, DataError)) as caught:
        prepare_data(load_recipe(recipe), None)
    assert said in str(caught.value)
