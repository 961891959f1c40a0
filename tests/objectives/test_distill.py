"""Distillation: known values, torch's own divergence, who may teach, and runs that remember their teacher."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from torch.nn.functional import kl_div

from whet import plugins
from whet.engine import divergence
from whet.engine.cut import pack
from whet.errors import ModelError, RecipeError, RunError
from whet.models.tensors import load_tensors
from whet.plugins import beside_recipe, named_places, places
from whet.recipe_file import load_recipe
from whet.stages.evaluate import evaluate
from whet.stages.train import resume, train
from whet.testing.steps import ready, same_bytes, slope, whole_step
from whet.testing.tiny import ANSWERS, OPENINGS, THINGS, write_tiny


def distill(teacher, **settings):
    return plugins.build("objectives", "distill", {"teacher": str(teacher), **settings})


def step_of(objective, build, examples, *, double=False):
    policy = ready(objective, build, examples, double=double)
    return slope(objective, policy, whole_step(objective, policy, examples))


def test_from_itself_a_model_has_nothing_to_learn(builder, tiny_folder, examples):
    found = step_of(distill(tiny_folder("llama"), alpha=1.0), builder("llama"), examples, double=True)
    assert found.losses == {"soft": pytest.approx(0.0, abs=1e-12)}
    assert max(float(gradient.abs().max()) for gradient in found.gradients.values()) < 1e-12


@pytest.mark.parametrize(("of", "objective"), [("answers", "sft"), ("text", "pretrain")])
def test_without_the_teacher_it_is_sft_or_pretrain(of, objective, builder, examples, tmp_path):
    alone = distill(tmp_path / "nowhere", alpha=0.0, of=of)  # a teacher that is not asked is not loaded
    ours, theirs = (step_of(one, builder("llama"), examples) for one in (alone, plugins.build("objectives", objective, {})))
    assert ours.losses == theirs.losses and not same_bytes(ours.gradients, theirs.gradients)


def test_the_divergence_is_torchs_own(builder, teacher, examples):
    objective = distill(teacher, alpha=0.3, temperature=3.0)
    policy = ready(objective, builder("llama"), examples)
    batch = pack([row for unit in whole_step(objective, policy, examples).units for row in unit])
    count = int(batch.tokens["supervised"].sum())
    terms, _ = objective.loss(policy, batch, {})
    ours, theirs = (torch.log_softmax(one.distributions(batch) / 3.0, -1) for one in (policy, policy.teacher))
    expected = 0.3 * 9.0 * kl_div(ours, theirs, reduction="sum", log_target=True)
    torch.testing.assert_close(terms["soft"], expected, rtol=1e-5, atol=1e-6)
    assert batch.weights == {"lm": count, "soft": count}
    hard = plugins.build("objectives", "sft", {}).loss(policy, batch, {})[0]["lm"]
    torch.testing.assert_close(terms["lm"], 0.7 * hard)


def test_by_hand():
    # p = (1/2, 1/2) at any temperature; q at T = 1 is (3/4, 1/4): KL = 1/2 log(2/3) + 1/2 log 2 = 1/2 log(4/3)
    wanted, logits = torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]).log()
    found = divergence.softened_divergence(logits, wanted, 1.0)
    torch.testing.assert_close(found, torch.tensor([4.0 / 3.0]).log() / 2)
    # at T = 2 q is proportional to (sqrt 3, 1)
    q = torch.tensor([3.0**0.5, 1.0]) / (3.0**0.5 + 1)
    torch.testing.assert_close(divergence.softened_divergence(logits, wanted, 2.0), (0.5 * (0.5 / q).log()).sum()[None])


def test_only_a_chunk_of_logits_exists_at_one_time(builder, teacher, examples, monkeypatch):
    objective = distill(teacher, alpha=1.0)
    whole = step_of(objective, builder("llama"), examples, double=True)
    sizes, real = [], divergence.softened_divergence
    monkeypatch.setattr(divergence, "softened_divergence", lambda *given: sizes.append(len(given[0])) or real(*given))
    monkeypatch.setattr(divergence, "CHUNK", 7)
    parts = step_of(objective, builder("llama"), examples, double=True)
    assert max(sizes) == 7 and parts.loss == pytest.approx(whole.loss, rel=1e-12)
    for name, gradient in whole.gradients.items():
        torch.testing.assert_close(parts.gradients[name], gradient, rtol=1e-9, atol=1e-12)


def test_a_head_that_is_no_plain_product_gives_the_same(builder, teacher, examples):
    objective = distill(teacher)
    policy = ready(objective, builder("llama"), examples)
    rows = whole_step(objective, policy, examples)
    plain = slope(objective, policy, rows)
    policy.teacher.ability = type(policy.ability)(packs=True, difference=0.0, plain_head=False)
    other = slope(objective, policy, rows)
    assert other.loss == pytest.approx(plain.loss, rel=1e-5)


def test_rows_of_padding_in_one_vocabulary_are_left_out():
    logits, wanted = torch.randn(3, 10, generator=torch.Generator().manual_seed(0)), torch.zeros(3, 8)
    expected = divergence.softened_divergence(logits[:, :8], wanted, 2.0)
    torch.testing.assert_close(divergence.softened_divergence(logits, wanted, 2.0), expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpt2", "has another vocabulary: .* tokens have the same number"),
        ("bert", "is an encoder, and a decoder that writes is needed"),
        ("t5", "is an encoder-decoder, and a decoder"),
        ("nosuch", r"objective\.teacher: .*there is no such model folder"),
    ],
)
def test_who_cannot_teach_is_told_apart(name, message, builder, tiny_folder, examples, tmp_path):
    folder = tmp_path / "nosuch" if name == "nosuch" else tiny_folder(name)
    with pytest.raises(ModelError, match=message):
        distill(folder).prepare(builder("llama")(), examples)


def test_rows_must_be_short_enough_for_the_teacher(builder, examples, tmp_path, teacher):
    short = shutil.copytree(teacher, tmp_path / "short")
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 50}))
    policy = builder("llama")()
    assert policy.context == 128
    distill(short).prepare(policy, examples)
    assert policy.context == 50


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0}, "'temperature' is 0; allowed: greater than 0"),
        ({"alpha": 1.5}, "'alpha' is 1.5; allowed: less than or equal to 1"),
        ({"of": "questions"}, "'of' is 'questions'; allowed: 'answers' or 'text'"),
        ({"temprature": 1}, "did you mean 'temperature'"),
        ({"teacher": 3}, "'teacher' is 3; allowed: a valid string"),
    ],
)
def test_wrong_settings_say_what_is_allowed(settings, message):
    with pytest.raises(RecipeError, match=message):
        plugins.build("objectives", "distill", {"teacher": "x", **settings})
    with pytest.raises(RecipeError, match="'teacher' is missing"):
        plugins.build("objectives", "distill", {})


RECIPE = """model: {folder}/student
data: {{path: {folder}/chat.jsonl, prompt: prompt, response: response}}
objective: {objective}
technique: lora
train: {{max_steps: 4, batch_size: 8, precision: fp32, validate_every: 2, early_stopping: false, checkpoint: {{every: 2}}}}
evaluate: {{resamples: 100, max_new_tokens: 4, max_generated: 2}}
"""


@pytest.fixture
def place(tmp_path, teacher):
    """A folder with a student, a teacher and rows; recipes in it name them from there."""
    write_tiny(tmp_path / "student", "llama")
    shutil.copytree(teacher, tmp_path / "teacher")
    rows = [
        (opening.format(f"{colour} {thing}"), ANSWERS[n % 4].format(thing))
        for colour in ("red", "blue", "old")
        for n, opening in enumerate(OPENINGS)
        for thing in THINGS
    ]
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps({"prompt": a, "response": b}) + "\n" for a, b in rows))
    return tmp_path


def written(place, objective, name="recipe.yaml"):
    (place / name).write_text(RECIPE.format(folder=place, objective=objective))
    return load_recipe(place / name)


def test_a_run_remembers_its_teacher_and_notices_another_one(place):
    first = train(written(place, "sft"), folder=place, out=place / "runs" / "first")
    recipe = written(place, "{name: distill, teacher: runs/first}")
    whole, half = (train(recipe, folder=place, out=place / "runs" / name) for name in ("whole", "half"))
    found = str(place / "runs" / "first")  # beside the recipe, and not in the current folder
    assert whole.manifest["parents"] == [found] and list(whole.manifest["learnt_from"]) == [found]
    assert load_recipe(whole.path / "recipe.yaml").objective.settings["teacher"] == found
    for name in ("model", "checkpoints/fit/step-4"):  # as if it had been killed before they were written
        shutil.rmtree(half.path / name)
    copy = shutil.copytree(half.path, place / "runs" / "copy")
    again = resume(half.path)
    ours, theirs = (load_tensors(run.model / "adapter_model.safetensors") for run in (whole, again))
    assert not same_bytes(ours, theirs) and whole.records() == again.records()
    card = json.loads((first.model / "adapter_config.json").read_text())
    (first.model / "adapter_config.json").write_text(json.dumps(card | {"lora_alpha": 64.0}))
    with pytest.raises(RunError, match="what the run learns from has changed since it was begun"):
        resume(copy)
    shutil.rmtree(first.path)
    with pytest.raises(RunError, match="what the run learns from is not there any more"):
        resume(copy)
    assert evaluate(again.path).report["metrics"]["loss"]["n"] > 0  # the teacher is not asked


def test_a_base_model_teaches_and_a_reward_run_is_found_beside_the_recipe(place, tmp_path):
    run = train(written(place, "{name: distill, teacher: teacher, alpha: 1}"), folder=place, out=place / "runs" / "taught")
    assert run.manifest["parents"] == [] and list(run.manifest["learnt_from"]) == [str(place / "teacher")]
    assert set(next(record for record in run.records() if record["kind"] == "step")["losses"]) == {"soft"}
    model = place / "runs" / "judge" / "model"
    model.mkdir(parents=True)
    shutil.copy(run.model / "policy.json", model)
    card = json.loads((model / "policy.json").read_text()) | {"objective": "reward", "objective_settings": {}}
    (model / "policy.json").write_text(json.dumps(card))
    settings = {"reward": {"name": "run", "path": "runs/judge"}}
    made = plugins.build("objectives", "ppo", settings, place)
    assert named_places(made) == [str(place / "runs" / "judge")]
    assert places(made, settings) == {"reward": {"name": "run", "path": str(place / "runs" / "judge")}}
    assert beside_recipe("runs/judge") == "runs/judge"  # outside of a recipe names stay as they are
