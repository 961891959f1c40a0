"""Hidden tokens: how many and which, the same after a crash, transformers' own loss, and a run whose model another recipe takes."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM

from whet.engine.cut import pack
from whet.errors import ModelError, RunError
from whet.models.load import load_policy
from whet.objectives.masked import Masked
from whet.recipe import Recipe
from whet.recipe_file import build_recipe
from whet.stages.evaluate import evaluate
from whet.stages.predict import load
from whet.stages.train import train
from whet.testing.steps import tiny_plan
from whet.types import Cursor, Example, Row

WORDS = ["my", "card", "parcel", "is", "lost", "where", "the", "please"]


def long_texts(number: int = 40, words: int = 60) -> list[Example]:
    drawn = random.Random(0)
    return [Example(id=place, text=" ".join(drawn.choices(WORDS, k=words))) for place in range(number)]


def rows_of_steps(policy, examples, plan, number: int, cursor: Cursor = Cursor()) -> list[list[Row]]:
    objective = Masked()
    units = objective.units(examples, policy, plan.max_length)
    steps = itertools.islice(objective.steps(units, policy, plan, cursor, {}), number)
    return [[row for unit in step.units for row in unit] for step in steps]


def test_shares_are_bert_s(builder) -> None:
    policy = builder("masked-bert")()
    rows = [unit[0] for unit in Masked().units(long_texts(200), policy, policy.context)]
    hidden = torch.cat([row.tokens["supervised"] for row in rows]) > 0
    inner, ids = torch.cat([row.tokens["inner"] for row in rows]), torch.cat([row.ids for row in rows])
    target = torch.cat([row.tokens["target"] for row in rows])
    n = int(hidden.sum())
    assert abs(n / int(inner.sum()) - 0.15) < 4 * math.sqrt(0.15 * 0.85 / int(inner.sum()))
    assert not bool((hidden & ~inner).any()) and bool((ids == target)[~hidden].all())
    masked = float((ids[hidden] == policy.tokenizer.mask_token_id).float().mean())
    same = float((ids[hidden] == target[hidden]).float().mean())
    assert abs(masked - 0.8) < 0.04 and abs(same - 0.1) < 0.03  # of the 10 % drawn anew a few are what they were


def test_masks_follow_from_seed_epoch_row_and_place(builder) -> None:
    policy, examples = builder("masked-bert")(), long_texts(6)
    plan = tiny_plan(policy, batch_size=2)
    straight = rows_of_steps(policy, examples, plan, 9)
    again = rows_of_steps(policy, examples, plan, 5, Cursor(1, 2))  # after four steps, in the second epoch
    for left, right in zip(straight[4:], again, strict=True):
        assert [row.id for row in left] == [row.id for row in right]
        assert all(torch.equal(a.ids, b.ids) for a, b in zip(left, right, strict=True))
    epochs = [{row.id: row.ids for step in straight[start : start + 3] for row in step} for start in (0, 3, 6)]
    assert all(not torch.equal(epochs[0][row], epochs[1][row]) for row in epochs[0])
    short = [dataclasses.replace(one, text=" ".join((one.text or "").split()[:30])) for one in examples]
    for whole, part in zip(Masked().units(examples, policy, 128), Masked().units(short, policy, 128), strict=True):
        assert torch.equal(whole[0].tokens["supervised"][1:31], part[0].tokens["supervised"][1:31])
    other = rows_of_steps(policy, examples, dataclasses.replace(plan, seed=1), 3)
    assert all(not torch.equal(row.ids, epochs[0][row.id]) for step in other for row in step)


def test_a_row_hides_one_token_at_least_and_special_ones_never(builder) -> None:
    policy = builder("masked-bert")()
    units = Masked(share=0.01).units([Example(id=place, text="lost") for place in range(20)], policy, 16)
    assert all(unit[0].tokens["supervised"].tolist() == [0, 1, 0] for unit in units)


def test_whole_words_are_hidden_whole(builder) -> None:
    policy = builder("masked-bert")()
    text = "card,parcel! is (lost) " * 12
    units = Masked(whole_words=True, share=0.4).units([Example(id=place, text=text) for place in range(20)], policy, 50)
    split = 0
    for unit in units:
        group, inner = unit[0].tokens["group"], unit[0].tokens["inner"]
        for one in group[inner].unique():
            chosen = unit[0].tokens["supervised"][inner & (group == one)]
            assert chosen.min() == chosen.max()
            split += len(chosen) > 1
    assert split > 20 and len(units) >= 40


def test_a_long_text_is_cut_and_nothing_lost(builder) -> None:
    policy = builder("masked-bert")()
    example = long_texts(1)[0]
    whole = policy.tokenizer(example.text)["input_ids"][1:-1]
    pieces = [unit[0].tokens["target"][unit[0].tokens["inner"]].tolist() for unit in Masked().units([example], policy, 20)]
    assert [token for piece in pieces for token in piece] == whole and max(map(len, pieces)) == 18


def test_the_loss_is_transformers(builder, tiny_folder) -> None:
    policy = builder("masked-bert")()
    rows = [unit[0] for unit in Masked().units(long_texts(3, 20), policy, policy.context)]
    batch = pack(rows)
    ours = Masked().loss(policy, batch, {})[0]["masked"]
    network, total = AutoModelForMaskedLM.from_pretrained(tiny_folder("masked-bert")).eval(), 0.0
    for row in rows:
        labels = torch.where(row.tokens["supervised"] > 0, row.tokens["target"], -100)
        with torch.no_grad():
            loss = float(network(input_ids=row.ids[None], labels=labels[None]).loss)
        total += loss * row.weights["masked"]
    assert math.isclose(float(ours.detach()), total, rel_tol=1e-5)


@pytest.mark.parametrize("model", ["builtin:minilm", "bert", "llama"])
def test_a_model_without_the_head_is_refused(model, tiny_folder) -> None:
    name = model if ":" in model else str(tiny_folder(model))
    with pytest.raises(ModelError, match=r"masked-language head.*Name an encoder that was saved with one, such as"):
        load_policy(name, masked=True)


def recipe(model: object, file: Path, objective: str, **train_settings: object) -> Recipe:
    values = {
        "model": str(model),
        "data": {"path": str(file), "text": "text"},
        "objective": objective,
        "train": {"max_steps": 12, "refit": False, **train_settings},
        "evaluate": {"resamples": 100},
    }
    return build_recipe(values, "test")


@pytest.mark.slow
def test_adapted_to_a_domain_then_classified(tmp_path: Path, tiny_folder) -> None:
    """The run's model folder is the base model of the next recipe, with the weights that were learnt."""
    file = tmp_path / "rows.csv"
    rows = [f"{one.text},{'lost' if place % 2 else 'found'}" for place, one in enumerate(long_texts(60, 8))]
    file.write_text("text,label\n" + "\n".join(rows))
    first = train(recipe(tiny_folder("masked-bert"), file, "masked", learning_rate=5e-3), out=tmp_path / "adapted")
    report = evaluate(first.path).report
    assert report["metric"] == "pseudo_perplexity"
    tuned, base = report["metrics"]["pseudo_perplexity"], report["baselines"]["base_model"]["metrics"]["pseudo_perplexity"]
    assert tuned["value"] < base["value"]
    with pytest.raises(RunError, match="gives no answers"):
        load(first.path).predict(["my card"])
    adapted, before = load_policy(str(first.model)), load_policy(str(tiny_folder("masked-bert")))
    name = "encoder.layer.0.output.dense.weight"
    assert not torch.equal(adapted.network.state_dict()[name], before.network.state_dict()[name])
    second = train(recipe(first.model, file, "classify"), out=tmp_path / "classified")
    assert evaluate(second.path).report["n"] == 9
