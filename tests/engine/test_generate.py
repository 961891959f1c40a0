"""Generation: transformers' own greedy text, whatever else is in the batch; a trained model's known texts; seeded sampling."""

from __future__ import annotations

import json

import pytest
import torch

from whet.engine.generate import BATCH, Sampling, generate
from whet.engine.measure import likelihoods
from whet.models.load import load_policy
from whet.plugins import build
from whet.types import Example

NOTHING: frozenset[int] = frozenset()


def prompts_of(policy, texts):
    return [policy.tokenizer(text)["input_ids"] for text in texts]


TEXTS = ["my card", "where is the parcel that i have sent to you", "a", "please call us about the password today", "no no no no"]


def transformers_own(policy, prompt, number):
    out = policy.network.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), max_new_tokens=number,
        do_sample=False, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_greedy_is_transformers_own(builder, architecture):
    policy = builder(architecture)()
    prompts = prompts_of(policy, TEXTS)
    found = list(generate(policy, prompts, 12, NOTHING))
    assert found == [transformers_own(policy, prompt, 12) for prompt in prompts]


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.8, top_p=0.9, seed=3)])
def test_a_text_does_not_depend_on_its_batch(builder, sampling):
    policy = builder("llama")()
    prompts = prompts_of(policy, TEXTS * (BATCH // len(TEXTS) + 2))  # more than one batch
    found = list(generate(policy, prompts, 8, NOTHING, sampling))
    assert len(found) == len(prompts)
    if sampling.temperature == 0:
        assert found == [next(generate(policy, [prompt], 8, NOTHING)) for prompt in prompts[:5]] * (len(prompts) // 5)
    shorter = list(generate(policy, prompts[:7], 8, NOTHING, sampling))
    assert shorter == found[:7]


def test_a_stop_token_ends_a_text_and_is_not_part_of_it(builder):
    policy = builder("llama")()
    prompts = prompts_of(policy, TEXTS)
    free = list(generate(policy, prompts, 12, NOTHING))
    stop = free[0][3]
    found = list(generate(policy, prompts, 12, frozenset({stop})))
    assert found == [ids[: ids.index(stop)] if stop in ids else ids for ids in free]


def test_a_prompt_that_is_too_long_keeps_its_end_and_still_gets_an_answer(builder):
    policy = builder("llama")()
    prompt = [1] + [10 + number % 80 for number in range(300)]
    (found,) = generate(policy, [prompt], 20, NOTHING)
    assert len(found) == 20
    assert found == transformers_own(policy, prompt[-(policy.context - 20) :], 20)


def test_room_for_a_long_answer_does_not_swallow_the_prompt(builder):
    policy = builder("llama")()
    prompt = prompts_of(policy, ["where is the parcel"])[0]
    (found,) = generate(policy, [prompt], 10 * policy.context, NOTHING)
    assert found[:20] == transformers_own(policy, prompt, 20)
    assert len(prompt) + len(found) == policy.context
    long = [1] + [10 + number % 80 for number in range(100)]
    together = list(generate(policy, [prompt, long, [1, 20]], 10 * policy.context, NOTHING))
    assert together[0] == found, "a longer prompt in the batch has cut this answer short"
    assert [len(ids) for ids in together] == [policy.context - len(prompt), policy.context // 2, policy.context - 2]


def test_sampling_is_seeded_and_temperature_sharpens(builder):
    policy = builder("llama")()
    prompts = prompts_of(policy, TEXTS)

    def drawn(**settings):
        return list(generate(policy, prompts, 10, NOTHING, Sampling(**settings)))

    assert drawn(temperature=1.0, seed=1) == drawn(temperature=1.0, seed=1)
    assert drawn(temperature=1.0, seed=1) != drawn(temperature=1.0, seed=2)
    greedy = list(generate(policy, prompts, 10, NOTHING))
    assert drawn(temperature=1e-4, seed=1) == greedy
    assert drawn(temperature=1.0, top_p=1e-9, seed=1) == greedy  # only the likeliest token is left


def test_sampling_draws_with_the_models_probabilities(builder):
    policy = builder("llama")()
    prompt = prompts_of(policy, ["my card"])[0]
    with torch.no_grad():
        expected = torch.softmax(policy.network(torch.tensor([prompt])).logits[0, -1], dim=-1)
    draws = torch.tensor([ids[0] for ids in generate(policy, [prompt] * 2000, 1, NOTHING, Sampling(temperature=1.0))])
    share = torch.bincount(draws, minlength=len(expected)) / len(draws)
    top = expected.topk(5).indices
    # five standard errors of a share p of 2000 draws
    assert bool(((share - expected)[top].abs() <= 5 * (expected[top] * (1 - expected[top]) / 2000).sqrt()).all())


@pytest.fixture(scope="module")
def trained(stories):
    return load_policy(str(stories)), json.loads((stories / "expected.json").read_text())


def test_a_trained_model_writes_its_documented_story(trained):
    policy, expected = trained
    start = [policy.tokenizer.bos_token_id]
    (ids,) = generate(policy, [start], len(expected["greedy_ids"]) - 1, NOTHING)
    assert start + ids == expected["greedy_ids"]
    assert policy.tokenizer.decode(start + ids, skip_special_tokens=True).strip() == expected["greedy_from_bos"].strip()


def test_a_trained_model_goes_on_as_it_should_from_each_prompt(trained):
    policy, expected = trained
    prompts = prompts_of(policy, expected["greedy"])
    assert all(prompt[0] == policy.tokenizer.bos_token_id and prompt.count(1) == 1 for prompt in prompts), (
        "one start token, and only one"
    )
    found = generate(policy, prompts, 120, NOTHING)
    for prompt, ids, text in zip(prompts, found, expected["greedy"].values(), strict=True):
        written = policy.tokenizer.decode(prompt + ids, skip_special_tokens=True).strip()
        assert written.startswith(text)


def test_pretraining_reads_a_text_behind_one_start_token(trained):
    policy, expected = trained
    objective = build("objectives", "pretrain", {})
    text = expected["greedy_from_bos"]
    ((row,),) = objective.units([Example(id=0, text=text)], policy, 512)
    assert row.ids[0] == policy.tokenizer.bos_token_id and row.ids[-1] == policy.end_id
    assert row.ids[1] != policy.tokenizer.bos_token_id
    assert row.ids[:-1].tolist() == policy.tokenizer(text)["input_ids"]
    assert row.ids[:-1].tolist() == expected["greedy_ids"][: len(row.ids) - 1]


def test_likelihood_of_a_trained_model_is_transformers_own(trained):
    policy, expected = trained
    ids = torch.tensor(expected["greedy_ids"])
    with torch.no_grad():
        logits = policy.network(input_ids=ids[None]).logits[0, :-1]
    own = float(torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum"))
    objective = build("objectives", "pretrain", {})
    units = objective.units([Example(id=0, text=expected["greedy_from_bos"])], policy, 512)
    (row,) = units[0]
    assert row.ids[:-1].tolist() == ids[: len(row.ids) - 1].tolist()
    nll, tokens = likelihoods(policy, units)[0]
    end = float(
        torch.nn.functional.cross_entropy(policy.network(input_ids=row.ids[None]).logits[0, -2:-1], row.ids[-1:]).detach()
    )
    assert tokens == len(row.ids) - 1
    assert nll == pytest.approx(own + end, rel=1e-5)
    assert own / (len(ids) - 1) < 1.0, "its own greedy text must be likely to it"
