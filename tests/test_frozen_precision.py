"""`train.frozen_precision: int8` through the whole of training: it learns nearly the same, resumes to the same bytes, and refuses in words."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from whet.engine import machine
from whet.engine.cut import pack
from whet.engine.int8_products import Int8, why_not
from whet.engine.machine import computing
from whet.engine.products import Plain, laid_out
from whet.errors import RecipeError
from whet.models.memory import activation_bytes
from whet.models.shapes import shape_of
from whet.recipe_file import build_recipe, load_recipe
from whet.run import Run
from whet.stages import fitting, frozen_products
from whet.stages.advice import _to_fit
from whet.stages.estimate import job_load
from whet.stages.fitting import choose, decided
from whet.stages.job import Kept, build_job
from whet.stages.phase import Flag
from whet.stages.prepare import prepare_data
from whet.stages.search import result_of, search
from whet.stages.show import show_machine
from whet.stages.train import resume, train
from whet.stages.trials import run_trial
from whet.testing.tiny import ANSWERS, tiny_texts

there = pytest.mark.skipif(why_not() is not None, reason=f"no products in int8 here: {why_not()}")
LAID_OUT = type(laid_out(torch.zeros(64, 64, dtype=torch.bfloat16)))
lays = pytest.mark.skipif(LAID_OUT is Plain, reason="no kernel here reads a matrix that is laid out")


@pytest.fixture
def rows(tmp_path):
    texts = tiny_texts("red", "blue", "green")
    lines = [json.dumps({"prompt": text, "response": ANSWERS[place % 4].format("card")}) for place, (text, _) in enumerate(texts)]
    (tmp_path / "chat.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "labelled.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in texts))
    pairs = [json.dumps({"prompt": text, "chosen": "yes, the card", "rejected": "no"}) for text, _ in texts]
    (tmp_path / "pairs.jsonl").write_text("\n".join(pairs) + "\n")
    return tmp_path


@pytest.fixture
def recipe(rows, tiny_folder):
    def build(model="llama", *, objective="sft", technique="lora", **settings):
        columns = {
            "sft": {"path": str(rows / "chat.jsonl"), "prompt": "prompt", "response": "response"},
            "classify": {"path": str(rows / "labelled.csv"), "text": "text", "label": "label"},
            "dpo": {"path": str(rows / "pairs.jsonl"), "prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
        }[objective]
        learning = {"max_steps": 8, "batch_size": 4, "precision": "bf16", "checkpoint": {"every": 2}, "frozen_precision": "int8"}
        values = {"model": str(tiny_folder(model)), "data": columns, "objective": objective, "technique": technique}
        return build_recipe(values | {"train": learning | settings}, "here")

    return build


def losses(run: Run) -> list[float]:
    return [record["loss"] for record in run.records() if "loss" in record]


@there
@pytest.mark.parametrize(("model", "objective"), [("llama", "sft"), ("bert", "classify")])
def test_it_learns_nearly_what_it_learns_without(model, objective, recipe, tmp_path):
    rounded = losses(train(recipe(model, objective=objective), out=tmp_path / "rounded"))
    plain = losses(train(recipe(model, objective=objective, frozen_precision="same"), out=tmp_path / "plain"))
    assert rounded != plain
    assert rounded == pytest.approx(plain, rel=0.02, abs=0.01)


@there
@pytest.mark.parametrize("kept", [2, 8])
def test_killed_after_a_checkpoint_it_ends_in_the_same_bytes(kept, recipe, tmp_path):
    whole = train(recipe("bert", objective="classify", refit=False, early_stopping=False), out=tmp_path / "whole")
    killed = tmp_path / "killed"
    shutil.copytree(whole.path, killed)
    shutil.rmtree(killed / "model")
    for folder in (killed / "checkpoints").rglob("step-*"):
        if int(folder.name.removeprefix("step-")) > kept:
            shutil.rmtree(folder)
    resume(killed)
    for name in ("adapter_model.safetensors", "heads.safetensors"):
        assert (killed / "model" / name).read_bytes() == (whole.model / name).read_bytes()


@there
def test_every_product_of_a_frozen_weight_is_one_and_training_again_on_all_rows_too(recipe, tmp_path, monkeypatch):
    made, original = [], Int8.__init__
    monkeypatch.setattr(Int8, "__init__", lambda self, matrix: made.append(tuple(matrix.shape)) or original(self, matrix))
    train(recipe("bert", objective="classify", refit=True), out=tmp_path / "run")
    groups_per_layer, layers = 4, 2
    assert len(made) == 2 * groups_per_layer * layers  # each frozen matrix once, of the first model and of the second


@there
@pytest.mark.parametrize(
    ("technique", "objective", "frozen"),
    [("head", "classify", 8), ({"name": "full", "layers": 1}, "classify", 4), ("bitfit", "classify", 8)],
)
def test_each_technique_that_leaves_layers_as_they_are_computes_so(technique, objective, frozen, recipe, tmp_path, monkeypatch):
    made, original = [], Int8.__init__
    monkeypatch.setattr(Int8, "__init__", lambda self, matrix: made.append(matrix) or original(self, matrix))
    train(
        recipe("bert" if objective == "classify" else "llama", objective=objective, technique=technique, refit=False),
        out=tmp_path / "run",
    )
    assert len(made) == frozen


@there
def test_it_takes_less_memory_for_frozen_weights(recipe):
    loads = {}
    for precision in ("int8", "same"):
        one = recipe(frozen_precision=precision)
        loads[precision] = job_load(build_job(one, prepare_data(one, None), None))
    assert loads["int8"].int8
    assert not loads["same"].int8


@there
def test_what_does_not_fit_is_not_made_to_fit_by_computing_blocks_again_in_other_products(recipe, monkeypatch):
    monkeypatch.setattr(fitting, "estimate_job", lambda job: SimpleNamespace(total=2 if job.recomputed else 3))
    found = {}
    for precision in ("int8", "same"):
        job = build_job(one := recipe(frozen_precision=precision), prepare_data(one, None), None)
        chosen = choose(job, room=2)
        found[precision] = chosen.recomputed, decided(job, chosen, 2)[0].reason
    assert not found["int8"][0]
    assert found["int8"][1].startswith("products in int8 are made by the fused steps alone")
    assert found["same"][0]


def test_a_machine_whose_jobs_compute_on_a_gpu_does_not_offer_int8(monkeypatch):
    monkeypatch.setattr(machine, "device", lambda: torch.device("cuda"))
    assert show_machine()["frozen_precision"].startswith("same only: jobs here compute on an accelerator")


REFUSED = {
    "full": ({"technique": "full"}, "technique 'full' leaves no weights frozen. Allowed: lora"),
    "fp32": ({"precision": "fp32"}, "train.precision is fp32 here"),
    "dpo": ({"objective": "dpo"}, "objective 'dpo' compares with answers of the model as it was"),
    "recomputed": ({"gradient_checkpointing": True}, "train.gradient_checkpointing is true"),
    "dora": (
        {"technique": {"name": "lora", "variant": "dora"}},
        "technique {name: lora, variant: dora, rank: 16} puts modules of its own, which are not in int8, in the place of 14 of 14 layers. Allowed: lora (not variant dora), ",
    ),
    "another form": (
        {"model": "gpt2"},
        "is not computed by the package's own steps: 'gpt2' is not of the Llama or the BERT family's form",
    ),
    "adapter": (
        {"technique": "adapter"},
        "technique 'adapter' puts modules of its own, which are not in int8, in the place of 4 of 14 layers",
    ),
}


VALUES_LEARN = '''"""Of each block the values' weight learns, which is one product with those of queries and keys."""
from whet.plugins import plugin
from whet.techniques import full


@plugin
class Values(full.Full):
    """One weight of each block."""

    def attach(self, policy, seed):
        policy.network.requires_grad_(False)
        for name, weight in policy.network.named_parameters():
            weight.requires_grad_(name.endswith("value.weight"))
        policy.heads.requires_grad_(True)
'''


@there
def test_a_product_of_which_a_part_learns_is_refused_and_not_silently_left_as_it_is(recipe, tmp_path):
    (tmp_path / "values.py").write_text(VALUES_LEARN)
    one = recipe("bert", objective="classify", technique="./values.py")
    with pytest.raises(
        RecipeError, match=r"one product with frozen ones \(2 of 8 products\).*Set train.frozen_precision to same\.$"
    ):
        train(one, folder=tmp_path, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    again = recipe("bert", objective="classify", technique="./values.py", frozen_precision="same")
    assert losses(train(again, folder=tmp_path, out=tmp_path / "run"))


@there
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_written(case, recipe, tmp_path):
    settings, words = REFUSED[case]
    with pytest.raises(RecipeError) as refused:
        train(recipe(**settings), out=tmp_path / "run")
    assert words in str(refused.value)
    assert str(refused.value).endswith("Set train.frozen_precision to same.")
    assert not (tmp_path / "run").exists()


def test_a_machine_without_such_products_is_told(recipe, monkeypatch):
    monkeypatch.setattr(frozen_products, "why_not", lambda: "this processor does not multiply in int8")
    one = recipe()
    with pytest.raises(
        RecipeError, match=r"int8, and this processor does not multiply in int8\. Go on on a machine that does, as a run"
    ):
        build_job(one, prepare_data(one, None), None)


@there
def test_switched_on_and_off_again_a_network_computes_as_before(recipe):
    """Where nothing learns, too: what is laid out for the one is never used for the other."""
    one = recipe("bert", objective="classify", frozen_precision="same")
    job = build_job(one, prepare_data(one, None), None)
    batch = pack([row for unit in job.train_units[:4] for row in unit])
    assert job.policy.fusion is not None
    found = []
    for int8 in (False, True, False, True):
        job.policy.fusion.multiply(int8=int8)
        with torch.no_grad(), computing("bf16", job.policy.device):
            found.append(job.policy.fusion.states(job.policy.network, batch))
    assert torch.equal(found[0], found[2]) and torch.equal(found[1], found[3])
    assert not torch.equal(found[0], found[1])


@there
def test_an_encoder_of_which_all_is_frozen_is_in_int8_from_the_first_pass(recipe, monkeypatch):
    made, original = [], Int8.__init__
    monkeypatch.setattr(Int8, "__init__", lambda self, matrix: made.append(matrix) or original(self, matrix))
    one = recipe("bert", objective="classify", technique="head")
    job = build_job(one, prepare_data(one, None), None)
    batch = pack([row for unit in job.train_units[:4] for row in unit])
    with torch.no_grad(), computing("bf16", job.policy.device):
        job.policy.fusion.states(job.policy.network, batch)
    assert made


@there
@lays
@pytest.mark.parametrize(("precision", "kind", "each"), [("same", LAID_OUT, 4), ("int8", Int8, 2)])
def test_what_a_head_alone_lays_out_of_a_frozen_body_is_in_the_estimate(precision, kind, each, recipe, tmp_path, monkeypatch):
    made, original = [], kind.__init__
    monkeypatch.setattr(kind, "__init__", lambda self, matrix: made.append(matrix.numel()) or original(self, matrix))
    one = recipe("bert", objective="classify", technique="head", frozen_precision=precision, refit=False)
    job = build_job(one, prepare_data(one, None), None)
    load, shape = job_load(job), shape_of(job.policy)
    assert load.fused and load.deep == 0
    train(one, out=tmp_path / "run")
    counted = activation_bytes(shape, load) - activation_bytes(shape, replace(load, fused=False))
    assert counted == each * sum(made) > 0


@lays
@pytest.mark.parametrize(("technique", "learnt"), [("bitfit", 0.0), ("full", 1.0), ({"name": "full", "layers": 1}, 0.5)], ids=str)
def test_what_is_laid_out_where_a_part_of_the_body_learns_is_in_the_estimate(technique, learnt, recipe, tmp_path, monkeypatch):
    made, original = [], LAID_OUT.__init__
    monkeypatch.setattr(LAID_OUT, "__init__", lambda self, matrix: made.append(matrix.numel()) or original(self, matrix))
    one = recipe("bert", objective="classify", technique=technique, frozen_precision="same", refit=False)
    job = build_job(one, prepare_data(one, None), None)
    load, shape = job_load(job), shape_of(job.policy)
    assert load.fused and load.whole and load.learnt == learnt
    train(one, out=tmp_path / "run")
    assert activation_bytes(shape, load) - activation_bytes(shape, replace(load, learnt=1.0)) == 2 * sum(made)
    assert sum(made) == (1 - learnt) * shape.linear


def test_devices_do_not_share_a_model_whose_products_are_in_int8(recipe, monkeypatch):
    monkeypatch.setattr(frozen_products, "why_not", lambda: None)
    one = recipe()
    job = build_job(one, prepare_data(one, None), None)
    assert fitting._obstacle(job) == "products in int8 (train.frozen_precision) need whole weights"
    job.recipe = recipe(frozen_precision="same")
    assert fitting._obstacle(job) == ""


def test_advice_for_a_technique_that_int8_refuses_takes_it_back(recipe):
    shape, load = shape_of_tiny(recipe)
    ways = [{"technique": "full", "fits": True, "chosen": False, "learning": 5, "bytes": 1 << 20}]
    said = [advice for advice, _ in _to_fit(shape, replace(load, int8=True), 0, 1 << 40, ways, [])]
    assert "--set technique=full --set train.frozen_precision=same" in said
    said = [advice for advice, _ in _to_fit(shape, load, 0, 1 << 40, ways, [])]
    assert "--set technique=full" in said


def shape_of_tiny(recipe):
    one = recipe(frozen_precision="same")
    job = build_job(one, prepare_data(one, None), None)
    return shape_of(job.policy), job_load(job)


SEARCHED = {
    "rates": {"train.learning_rate": {"low": 1e-4, "high": 3e-2, "log": True}},
    "itself": {"train.frozen_precision": ["same", "int8"]},
}


@there
@pytest.mark.parametrize("space", SEARCHED)
def test_a_search_tries_in_int8_what_it_then_trains_in_int8(space, recipe, tmp_path):
    one = recipe("bert", objective="classify", max_steps=4, validate_every=2, learning_rate=1e-3, refit=False)
    values = one.model_dump(mode="json", exclude_none=True)
    values["search"] = {"trials": 3, "sampler": "random" if space == "rates" else "grid", "space": SEARCHED[space]}
    result = result_of(run := search(build_recipe(values, "here"), out=tmp_path / "found"))
    trials = result["trials"]
    assert [trial["error"] for trial in trials] == [None] * 3 and len({trial["value"] for trial in trials}) == 2 + (
        space == "rates"
    )
    best = load_recipe(run.path / "best.yaml")
    # the whole training of the same setting has the same validation loss as its trial, to the bit
    assert Run(Path(result["child"])).manifest["phases"]["fit"]["best_loss"] == result["best"]["value"]
    if space == "rates":
        assert best.train.frozen_precision == "int8"
        return
    for trial in trials:  # each is what it would be by itself, whatever was tried before it
        alone = recipe("bert", objective="classify", max_steps=4, validate_every=2, learning_rate=1e-3, **under(trial["setting"]))
        assert run_trial(alone, prepare_data(alone, None), "loss", Kept(), None, Flag(), lambda *_: False).value == trial["value"]


def under(setting):
    return {key.removeprefix("train."): value for key, value in setting.items()}
