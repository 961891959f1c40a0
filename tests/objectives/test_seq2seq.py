"""Encoder-decoders: their rows, logits and written targets against transformers' own, and the verbs from a file to an answer."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

import pytest
import torch

from whet import cli, plugins
from whet.data.preflight import preflight
from whet.engine.cut import cut, pack
from whet.engine.targets import source_ids, target_row, target_start, written_targets
from whet.errors import ModelError, RecipeError
from whet.models.load import load_policy
from whet.models.probe import probe_two_sided
from whet.models.save import Card
from whet.models.tensors import load_tensors
from whet.recipe_file import load_recipe
from whet.run import Run
from whet.stages.job import build_job, full_lengths
from whet.stages.new import auto_recipe, fitting, guess_recipe, look, new
from whet.stages.predict import load
from whet.stages.prepare import prepare_data
from whet.stages.train import resume, train
from whet.testing.steps import same_bytes
from whet.testing.tiny import tiny_network, write_tiny

BOTH = ("t5", "bart")
E2E = Path(__file__).resolve().parents[3] / "shared" / "data" / "generate" / "e2e" / "devset.csv"


@pytest.fixture(params=BOTH)
def policy(request, builder):
    return builder(request.param)()


@pytest.fixture
def seq2seq():
    return plugins.build("objectives", "seq2seq", {})


def test_a_row_is_source_and_shifted_target(builder):
    # characters: one token each. T5's decoder begins with padding (0); BART's with </s> (2), and its targets with <s> (1)
    for name, start in (("t5", [0]), ("bart", [2, 1])):
        policy = builder(name)()
        letters = policy.tokenizer("ok", add_special_tokens=False)["input_ids"]
        row = target_row(policy, 7, "hi", "ok", 100)
        assert row.ids.tolist() == [*start, *letters, 2] and target_start(policy) == start
        assert row.tokens["supervised"].tolist() == [0.0] * len(start) + [1.0] * 3 and row.weights == {"lm": 3.0}
        assert row.source.tolist() == policy.tokenizer("hi")["input_ids"] == source_ids(policy, "hi", 100)
        assert row.num_tokens == len(row.ids) + len(row.source) and row.length == max(len(row.ids), len(row.source))
        cut_row = target_row(policy, 7, "abcdefgh", "abcdefgh", 5)
        assert len(cut_row.ids) == len(cut_row.source) == cut_row.length == 5
        assert cut_row.source[-1] == 2, "a source that is cut keeps its end token"


def test_log_probabilities_are_those_of_the_networks_own_loss(policy, seq2seq, examples):
    rows = [unit[0] for unit in seq2seq.units(examples, policy, 100)]
    found = policy.logprobs(pack(rows)).split([len(row.ids) for row in rows])
    for row, ours in zip(rows, found, strict=True):
        labels = row.ids[1:].clone()
        labels[row.tokens["supervised"][1:] == 0] = -100
        loss = policy.network(input_ids=row.source[None], decoder_input_ids=row.ids[None, :-1], labels=labels[None]).loss
        assert float(-ours.sum()) == pytest.approx(float(loss) * row.weights["lm"], rel=1e-5)


def test_plain_heads_and_any_other_head_give_the_same(policy, seq2seq, examples):
    batch = pack([unit[0] for unit in seq2seq.units(examples, policy, 100)])
    assert policy.ability.plain_head and not policy.ability.packs
    places = batch.tokens["supervised"].nonzero().squeeze(-1)
    whole = policy.distributions(batch)
    assert whole.shape == (len(places), len(policy.tokenizer))  # the head sees supervised places only
    chosen = whole.gather(-1, batch.ids[places, None]).squeeze(-1)
    torch.testing.assert_close(policy.logprobs(batch)[places], chosen, rtol=1e-5, atol=1e-5)


def test_t5s_scale_and_barts_bias_are_found():
    tied = tiny_network("t5", 60)
    assert probe_two_sided(tied).scale == 32**-0.5
    tied.config.scale_decoder_outputs = False  # as in T5 1.1
    assert probe_two_sided(tied).scale == 1.0
    assert probe_two_sided(tiny_network("bart", 60)).plain_head
    broken = tiny_network("bart", 60)
    with torch.no_grad():
        broken.model.shared.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        probe_two_sided(broken)


def test_what_is_written_is_what_transformers_generates(policy):
    sources = [source_ids(policy, text, 100) for text in ("where is the card", "hi", "i need a new ticket please", "my parcel")]
    start = target_start(policy)
    ours = list(written_targets(policy, sources, 12))
    for source, mine in zip(sources, ours, strict=True):
        given = {"decoder_input_ids": torch.tensor([start]), "bad_words_ids": [[0]], "forced_eos_token_id": None}
        theirs = policy.network.generate(torch.tensor([source]), max_new_tokens=12, do_sample=False, num_beams=1, **given)[0]
        assert mine == [token for token in theirs.tolist()[len(start) :] if token != 2]
        assert mine == next(iter(written_targets(policy, [source], 12))), "a target depends on its neighbours"


def test_a_micro_batch_counts_sources_too(policy, seq2seq, examples):
    units = seq2seq.units(examples, policy, 100)
    limit = max(unit[0].num_tokens for unit in units) + 30
    batches = list(cut(units, limit))
    assert len(batches) > 1 and all(batch.num_tokens <= limit for batch in batches)
    assert sum(batch.num_tokens for batch in batches) == sum(len(unit[0].ids) + len(unit[0].source) for unit in units)
    for batch in batches:
        assert sum(batch.source_lengths) == len(batch.source) and len(batch.source_lengths) == len(batch.lengths)


def test_the_prefix_stands_before_every_source(builder, examples):
    policy = builder("t5")()
    named = plugins.build("objectives", "seq2seq", {"prefix": "say: "})
    row = named.units(examples[4:5], policy, 200)[0][0]  # five turns: system, user, assistant, user, and the answer
    said = "\n".join(message.content for message in examples[4].messages[:-1])
    assert policy.tokenizer.decode(row.source) == f"say: {said}</s>"
    assert named.source(examples[4]) == f"say: {said}"  # what a server asks for


def table(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("question", "answer"), *rows])
    return path


def shop(number=48):
    colours = ("red", "blue", "old", "new", "big", "small", "green", "grey")
    asked = [
        f"{what} my {colour} parcel"
        for what in ("lost", "where is", "broken is", "late is", "i want", "not")
        for colour in colours
    ]
    return [(text, ("sorry", "it is late", "we call you")[place % 3]) for place, text in enumerate(asked[:number])]


RECIPE = """model: {model}
data: {{path: {path}, prompt: question, response: answer}}
objective: {objective}
technique: {technique}
train: {{max_steps: 6, batch_size: 8, precision: fp32}}
evaluate: {{resamples: 100, max_new_tokens: 6, max_generated: 4}}
"""


def write_recipe(folder, model, objective="seq2seq", technique="auto", rows=None):
    table(folder / "shop.csv", rows or shop())
    text = RECIPE.format(model=model, path=folder / "shop.csv", objective=objective, technique=technique)
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    return folder / "recipe.yaml"


@pytest.mark.parametrize(
    ("model", "objective", "technique", "message"),
    [
        ("t5", "sft", "lora", "is for decoders, and .* is an encoder-decoder. Use objective 'seq2seq'"),
        ("t5", "{name: grpo, reward: {name: regex, pattern: a}}", "lora", "is for decoders"),
        ("llama", "seq2seq", "lora", "is for encoder-decoders, and .* is a decoder. Use objective 'sft'"),
        ("bert", "seq2seq", "lora", "is for encoder-decoders, and .* is an encoder. Use objective 'classify'"),
        ("t5", "seq2seq", "bitfit", "has no biases to learn"),
        ("t5", "seq2seq", "head", "needs an objective with a head of its own|head"),
    ],
)
def test_what_does_not_fit_is_said_with_the_remedy(model, objective, technique, message, tiny_folder, tmp_path):
    recipe = load_recipe(write_recipe(tmp_path, tiny_folder(model), objective, technique))
    with pytest.raises((RecipeError, ModelError), match=message):
        build_job(recipe, prepare_data(recipe, tmp_path), tmp_path)


def test_a_prefix_lies_in_the_decoder_and_is_refused_where_the_encoder_is_asked_alone(builder, examples):
    policy = builder("t5")()
    plugins.build("objectives", "classify", {}).prepare(policy, examples)
    with pytest.raises(ModelError, match="in whose decoder the prefix lies, and this objective asks its encoder alone"):
        plugins.build("techniques", "prefix", {}).attach(policy, 0)


def test_the_tiny_one_learns_with_all_weights_and_a_large_one_with_adapters(tiny_folder, tmp_path):
    recipe = load_recipe(write_recipe(tmp_path, tiny_folder("t5")))
    job = build_job(recipe, prepare_data(recipe, tmp_path), tmp_path)
    assert job.recipe.technique.name == "full" and job.plan.max_length == 128
    shown = next(finding.sentence for finding in job.findings if "first training row" in finding.sentence)
    assert re.search(r"⟦[a-z ]+</s>⟧$", shown) and "</s>\n" in shown  # the source, and below it what is learnt


def test_preflight_sees_cut_rows_and_missing_ends(tiny_folder, tmp_path):
    rows = [(text, f"{answer} " * 40) for text, answer in shop()]
    recipe = load_recipe(write_recipe(tmp_path, tiny_folder("t5"), rows=rows), ["train.max_length=20"])
    job = build_job(recipe, prepare_data(recipe, tmp_path), tmp_path)
    said = " ".join(finding.sentence for finding in job.findings)
    assert "are longer than 20 tokens and were cut" in said
    short = load_recipe(tmp_path / "recipe.yaml")
    dataset = prepare_data(short, tmp_path)
    units = {"train": job.train_units}
    endless = preflight(dataset, units, {}, job.policy.tokenizer, "seq2seq", 21, job.policy.end_id)
    assert any("do not teach the model to stop" in finding.sentence for finding in endless)
    assert full_lengths(units["train"], units["train"]) == [unit[0].length for unit in units["train"]]


def test_new_and_auto_choose_by_the_models_folder(tiny_folder, tmp_path):
    file = tmp_path / "shop.jsonl"
    file.write_text("".join(json.dumps({"prompt": text, "response": f"{answer}, {text}"}) + "\n" for text, answer in shop()))
    seen, bart = look([file]), str(tiny_folder("bart"))
    recipe, told = auto_recipe([file], (), bart, ())
    assert recipe.objective.name == "seq2seq" and recipe.model == bart and told.reasons[-1].endswith("is an encoder-decoder.")
    assert fitting(seen, str(tiny_folder("llama"))).objective == "sft"
    assert fitting(seen, "google/flan-t5-small").objective == "sft"  # nothing is asked of a hub here
    assert guess_recipe(fitting(seen, None), [file])["model"] == "builtin:seedling"
    written, _ = new([file], out=tmp_path / "recipe.yaml", model=bart)
    assert load_recipe(written).objective.name == "seq2seq"


@pytest.mark.slow
def test_killed_and_resumed_a_run_ends_in_the_same_bytes(tiny_folder, tmp_path):
    path = write_recipe(tmp_path, tiny_folder("t5"), technique="lora")
    sets = ["train.checkpoint.every=2", "train.validate_every=2", "train.early_stopping=false"]
    whole = train(load_recipe(path, sets), folder=tmp_path, out=tmp_path / "whole")
    half = train(load_recipe(path, sets), folder=tmp_path, out=tmp_path / "half")
    for name in ("model", "checkpoints/fit/step-6"):  # as if it had been killed before they were written
        for file in (half.path / name).rglob("*"):
            file.unlink()
        (half.path / name).rmdir()
    again = resume(half.path)
    ours, theirs = (load_tensors(run.model / "adapter_model.safetensors") for run in (whole, again))
    assert not same_bytes(ours, theirs) and whole.records() == again.records()


def test_classification_reads_with_the_encoder(builder, examples):
    policy, classify = builder("t5")(), plugins.build("objectives", "classify", {})
    classify.prepare(policy, examples)
    batch = pack([unit[0] for unit in classify.units(examples[:3], policy, 100)])
    assert batch.source is None
    for number, example in enumerate(examples[:3]):
        ids = torch.tensor([policy.tokenizer(example.text)["input_ids"]])
        states = policy.network.get_encoder()(input_ids=ids).last_hidden_state[0]
        torch.testing.assert_close(policy.pooled(batch)[number], states.mean(0), rtol=1e-4, atol=1e-5)


def test_a_model_that_does_not_say_how_its_decoder_begins_is_refused(tmp_path):
    folder = write_tiny(tmp_path / "bart", "bart")
    for file in ("config.json", "generation_config.json"):
        values = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(values | {"decoder_start_token_id": None, "bos_token_id": None}))
    with pytest.raises(ModelError, match=r"Add decoder_start_token_id to its config\.json"):
        load_policy(str(folder))


@pytest.mark.parametrize(("form", "objective"), [("onnx", "seq2seq"), ("gguf", "seq2seq"), ("merged", "classify")])
def test_formats_without_a_place_for_it_say_so(form, objective, builder, examples, tmp_path):
    policy, card = builder("t5")(), Card("t5", "", "full", {}, objective, {}, (), 100, 4096)
    plugins.build("objectives", objective, {}).prepare(policy, examples)
    with pytest.raises(ModelError, match="encoder-decoder"):
        plugins.build("exporters", form, {}).write(policy, plugins.build("techniques", "full", {}), card, tmp_path)


def whet(folder, *words):
    """Run a command of whet there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["whet", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return ended.value.code or 0


@pytest.mark.slow
def test_meaning_representations_become_sentences_from_file_to_prediction(tmp_path, capsys):
    if not E2E.is_file():
        pytest.skip("needs ../shared/data/generate/e2e, which does not come with this project")
    with E2E.open(encoding="utf-8") as file:
        first = {row["mr"]: row["ref"] for row in reversed(list(csv.DictReader(file)))}
    pairs = [pair for pair in first.items() if max(map(len, pair)) < 100]
    table(tmp_path / "e2e.csv", pairs)
    write_tiny(tmp_path / "t5", "t5")
    assert whet(tmp_path, "new", "e2e.csv", "--model", "t5") == 0
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert recipe.objective.name == "seq2seq" and recipe.model == "t5"
    small = ["--set", "train.max_steps=60", "--set", "evaluate.max_new_tokens=24", "--set", "evaluate.max_generated=8"]
    small += ["--set", "train.precision=fp32", "--set", "train.learning_rate=0.01", "--set", "train.epochs=20"]
    assert whet(tmp_path, "train", "recipe.yaml", "--out", "run", *small) == 0
    assert whet(tmp_path, "evaluate", "run") == 0
    report = Run(tmp_path / "run").report
    assert report["verdict"]["decision"] == "better", report["verdict"]["sentence"]
    assert {"loss", "perplexity", "rouge_l", "bleu", "chrf", "exact_match"} <= set(report["metrics"])
    capsys.readouterr()
    assert whet(tmp_path, "predict", "run", "e2e.csv") == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len(rows) == len(pairs) and all(row["prediction"] for row in rows)
    assert load(tmp_path / "run").predict([rows[0]["question"]])[0].prediction == rows[0]["prediction"]
