"""The untuned model with examples in the prompt, and nearest training rows: what is shown, to whom, and what it changes."""

from __future__ import annotations

import csv
import random
from dataclasses import replace

import pytest
import torch

from whet.engine.embed import asked_rows, neighbours, same_texts, shares, voters
from whet.engine.shots import drawn, nearest_by_meaning, nearest_by_words, shown
from whet.errors import ModelError, RecipeError
from whet.models.load import load_policy
from whet.models.template import encode_chat, prompt_ids
from whet.objectives.classify import Classify
from whet.objectives.sft import Sft
from whet.recipe import FewShot
from whet.recipe_file import build_recipe
from whet.stages.evaluate import evaluate
from whet.stages.few_shot import show_examples
from whet.stages.narrate import SILENT
from whet.stages.train import train
from whet.testing.tiny import tiny_examples
from whet.types import Example, Message

TOPICS = {"card": ["lost", "stolen", "blocked", "new", "old"], "parcel": ["late", "open", "wet", "gone", "heavy"]}


def asked(number: int, text: str, answer: str = "ok", system: str = "") -> Example:
    turns = (Message("user", text), Message("assistant", answer))
    return Example(id=number, messages=(Message("system", system), *turns) if system else turns)


def about_topics() -> list[Example]:
    texts = [f"the {thing} is {how} today" for thing, ways in TOPICS.items() for how in ways]
    return [asked(place, text, text.split()[1]) for place, text in enumerate(texts)]


def test_without_shots_nothing_differs_from_the_base_model(builder):
    policy, examples = builder("llama")(), tiny_examples()
    same = [shown(policy, example, [], 8) for example in examples]
    assert same == examples
    objective = Sft()
    with torch.no_grad():
        assert list(objective.outputs(policy, same, 128)) == list(objective.outputs(policy, examples, 128))
        assert list(objective.answers(policy, same, 4)) == list(objective.answers(policy, examples, 4))


def test_shots_stand_behind_the_system_message_and_only_the_own_answer_is_scored(builder):
    policy = builder("llama")()
    plain = asked(0, "hi", "yes", system="kind")
    with_shots = replace(plain, shots=(Message("user", "a?"), Message("assistant", "b")))
    assert [turn.content for turn in with_shots.turns] == ["kind", "a?", "b", "hi", "yes"]
    assert [turn.content for turn in with_shots.prompt or ()] == ["kind", "a?", "b", "hi"]
    [[row]], [[own]] = (Sft().units([one], policy, 128) for one in (with_shots, plain))
    assert row.ids.tolist() == encode_chat(policy.tokenizer, with_shots.turns).ids
    assert row.weights == own.weights and row.tokens["supervised"].sum() == own.weights["lm"]
    assert row.ids[row.tokens["supervised"] > 0].tolist() == own.ids[own.tokens["supervised"] > 0].tolist()
    # by the chain rule: what the whole costs, less what its beginning costs
    with torch.no_grad():
        given = next(iter(Sft().outputs(policy, [with_shots], 128))).nll
        whole = next(iter(Sft().outputs(policy, [replace(plain, messages=with_shots.turns)], 128))).nll
        before = next(iter(Sft().outputs(policy, [replace(plain, messages=with_shots.turns[:3])], 128))).nll
    assert given == pytest.approx(whole - before, abs=1e-4)


@pytest.mark.parametrize("choose", ["fixed", "similar"])
def test_a_row_is_never_its_own_example(choose):
    train = about_topics()
    test = [replace(asked(100 + one.id, f"  {one.messages[0].content.upper()} ")) for one in train]
    found = drawn(test, train, 4, seed=0) if choose == "fixed" else nearest_by_words(test, train, 4)
    for place, some in enumerate(found):
        assert len(some) == len(set(some)) == 4 and place not in some


def test_the_same_seed_shows_the_same_rows_and_another_seed_others():
    train, test = about_topics(), [asked(50, "anything"), asked(51, "else")]
    assert drawn(test, train, 3, 7) == drawn(test, train, 3, 7)
    assert drawn(test, train, 3, 7)[0] == drawn(test, train, 3, 7)[1]
    assert drawn(test, train, 3, 7) != drawn(test, train, 3, 8)


def test_a_similar_row_is_nearer_than_a_random_one():
    train = about_topics()
    test = [asked(60, "my parcel is not here"), asked(61, "i need a card")]
    places = nearest_by_words(test, train, 5)
    assert {train[place].response for place in places[0]} == {"parcel"} and {train[place].response for place in places[1]} == {
        "card"
    }
    try:
        embedder = load_policy("builtin:minilm")
    except ModelError:
        pytest.skip("needs builtin:minilm, which comes in a package of its own")
    with torch.no_grad():
        meant = nearest_by_meaning(embedder, [asked(62, "where has my package gone?")], train, 3)
    assert {train[place].response for place in meant[0]} == {"parcel"}


def test_words_that_no_training_row_has_are_no_error():
    assert nearest_by_words([asked(0, "xyzzy"), asked(1, "")], about_topics(), 2) == [[0, 1], [0, 1]]


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_as_many_examples_as_fit_stand_before_a_question_the_nearest_last(architecture, builder):
    policy = builder(architecture)()
    chosen = [asked(number, f"question {number}", "x" * number) for number in range(1, 9)]
    example = asked(20, "the own one", "fine")
    made = shown(policy, example, chosen, max_new_tokens=10)
    number = len(made.shots or ()) // 2
    assert 0 < number < 8
    assert [turn.content for turn in made.shots or ()][-2:] == ["question 1", "x"]
    assert len(prompt_ids(policy.tokenizer, made.prompt or ())) + 10 <= policy.context
    more = replace(example, shots=tuple(turn for one in reversed(chosen[: number + 1]) for turn in one.messages or ()))
    assert len(prompt_ids(policy.tokenizer, more.prompt or ())) + 10 > policy.context


def test_a_question_that_fills_the_context_is_asked_without_examples_and_that_is_said(builder):
    policy = builder("llama")()
    test = [asked(0, "long " * 22), asked(1, "short")]
    found = show_examples(policy, about_topics(), test, FewShot(examples=1, choose="fixed"), 0, 4, "fp32", SILENT)
    assert [bool(one.shots) for one in found.examples] == [False, True]
    assert found.record["fewer"] == 1 and "Before 1 of 2 rows there were fewer" in found.record["sentence"]
    assert found.outputs(["base 0", "base 1"], lambda some: [f"shown {one.id}" for one in some]) == ["base 0", "shown 1"]


def test_without_the_embedder_words_decide_and_that_is_said(builder, monkeypatch):
    def absent(name):
        raise ModelError(f"{name} is not there")

    monkeypatch.setattr("whet.stages.few_shot.load_policy", absent)
    found = show_examples(
        builder("llama")(), about_topics(), [asked(9, "a wet parcel")], FewShot(examples=1), 0, 4, "fp32", SILENT
    )
    assert "share most words" in found.record["sentence"]
    assert [turn.content for turn in found.examples[0].shots or ()] == ["the parcel is wet today", "parcel"]


# Nearest neighbours


def test_votes_weigh_the_inverse_of_the_distance():
    # unit vectors at 60, 90 and 180 degrees from the query: distances 1, sqrt 2 and 2
    query = torch.tensor([[1.0, 0.0]])
    keys = torch.tensor([[-1.0, 0.0], [0.5, 3**0.5 / 2], [0.0, 1.0]])
    [(places, weights)] = neighbours(query, keys, 3)
    total = 1 + 1 / 2**0.5 + 0.5
    assert places == [1, 2, 0] and weights == pytest.approx([1 / total, 1 / 2**0.5 / total, 0.5 / total], rel=1e-6)
    assert shares(["a", "b"], [(("a",), weights[0]), (("b",), weights[1]), (("a",), weights[2])])["a"] == pytest.approx(
        1.5 / total
    )


def test_a_row_never_votes_on_itself(builder):
    policy, examples = builder("bert")(), tiny_examples(9)
    vectors = torch.nn.functional.normalize(torch.randn(9, policy.width, generator=torch.Generator().manual_seed(0)), dim=-1)
    for example, cast in zip(examples, voters(vectors, vectors, examples, examples, 8), strict=True):
        assert example.text not in {voter.text for voter, _ in cast} and sum(vote for _, vote in cast) == pytest.approx(1)
    one = Example(id=0, text="same")
    assert same_texts([one], [replace(one, id=1), replace(one, text_pair="other")]) == {0: [0]}


def test_of_very_many_rows_a_fixed_draw_is_asked():
    train = [Example(id=place, text=str(place)) for place in range(7000)]
    few = asked_rows(train, 10)
    assert len(few) == 5000 and few == asked_rows(train, 10) and [one.id for one in few] == sorted(one.id for one in few)
    assert len(asked_rows(train, 6000)) == 6000 and asked_rows(train[:4000], 10) == train[:4000]


@pytest.mark.parametrize(("kind", "field"), [("one", "label"), ("several", "labels"), ("number", "value")])
def test_neighbours_answer_every_kind_of_classify(kind, field, builder):
    policy, examples = builder("bert")(), tiny_examples(24)
    found = Classify(kind=kind).baselines(policy, examples[:18], examples[18:], 64)["nearest_neighbours"]
    assert all(getattr(output, field) is not None for output in found)
    if kind == "one":
        assert all(sum(output.probabilities.values()) == pytest.approx(1) for output in found)
    if kind == "number":
        assert all(0 <= output.value <= 2.5 for output in found)


# The verb


@pytest.fixture(scope="module")
def wrote(tmp_path_factory, tiny_folder):
    folder = tmp_path_factory.mktemp("shots")
    generator = random.Random(0)
    with (folder / "talk.csv").open("w", newline="") as opened:
        rows = [(f"{generator.choice('abcdef')}{place} card", f"{'xyz'[place % 3]}{place}") for place in range(60)]
        csv.writer(opened).writerows([("question", "answer"), *rows])
    recipe = {
        "model": str(tiny_folder("llama")),
        "data": {"path": str(folder / "talk.csv"), "prompt": "question", "response": "answer"},
        "objective": "sft",
        "train": {"max_steps": 2, "precision": "fp32"},
        "evaluate": {"resamples": 100, "max_generated": 3, "max_new_tokens": 4},
    }
    return train(build_recipe(recipe, "test"), out=folder / "run")


def test_a_prompt_with_examples_is_scored_on_the_same_rows_and_may_be_the_one_to_beat(wrote):
    plain = evaluate(wrote.path).report
    assert set(plain["baselines"]) == {"base_model"} and "few_shot" not in plain
    report = evaluate(wrote.path, sets=["evaluate.few_shot.examples=2", "evaluate.few_shot.choose=fixed"]).report
    assert report["baselines"]["base_model"] == plain["baselines"]["base_model"]
    few = report["baselines"]["few_shot"]["metrics"]
    assert few.keys() == report["metrics"].keys()
    assert all(few[name]["n"] == report["metrics"][name]["n"] for name in few)
    losses = {name: report["baselines"][name]["metrics"]["loss"]["value"] for name in report["baselines"]}
    assert losses["few_shot"] != losses["base_model"]
    assert report["verdict"]["baseline"] == min(losses, key=losses.__getitem__)
    assert report["few_shot"]["examples"] == 2 and "a fixed draw (seed 0)" in report["few_shot"]["sentence"]
    assert report["few_shot"]["sentence"][:30] in (wrote.path / "report.html").read_text()
    again = evaluate(wrote.path, sets=["evaluate.few_shot.examples=2", "evaluate.few_shot.choose=fixed"])
    assert again.report == report
    other = evaluate(wrote.path, sets=["evaluate.few_shot={examples: 2, choose: fixed}", "evaluate.seed=5"]).report
    assert other["baselines"]["few_shot"]["metrics"]["loss"] != few["loss"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("evaluate.few_shot.examples=-1", "greater than or equal to 0"),
        ("evaluate.few_shot.examples=many", "'many'"),
        ("evaluate.few_shot.examples=1000", "less than or equal to 100"),
        ("evaluate.few_shot.choose=nearest", "'similar' or 'fixed'"),
        ("evaluate.few_shot.exampels=2", "did you mean 'evaluate.few_shot.examples'"),
        ("evaluate.few_shot=5", "evaluate.few_shot"),
    ],
)
def test_a_wrong_setting_is_named(setting, said, wrote):
    with pytest.raises(RecipeError, match="few_shot") as caught:
        evaluate(wrote.path, sets=[setting])
    assert said in str(caught.value)
