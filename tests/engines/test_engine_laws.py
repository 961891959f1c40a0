"""Every engine keeps the laws of engines, on decoders and encoder-decoders; and the battery notices one that does not."""

from __future__ import annotations

import pytest
from transformers import Gemma2Config, Gemma2ForCausalLM, MistralConfig, MistralForCausalLM

from whet import plugins
from whet.engine.continuous import Continuous, Request
from whet.engine.generate import Sampling, generate
from whet.errors import ModelError
from whet.models.load import load_policy
from whet.testing.engines import ENGINE_LAWS, greedy_is_the_reference, reference, some_requests, together, tokens_of
from whet.testing.tiny import random_network, tiny_tokenizer

WINDOW = 8


@pytest.mark.parametrize("law", ENGINE_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize(
    "architecture", ["llama", "bart", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gpt2", "t5"))]
)
@pytest.mark.parametrize("name", plugins.names("engines"))
def test_engine_keeps_the_law(name, architecture, law, policy_of):
    law(plugins.build("engines", name, {}), policy_of(architecture))


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("llama", {"max_rows": 1}),
        pytest.param("llama", {"max_rows": 3, "max_prompt_tokens": 1}, marks=pytest.mark.slow),
        pytest.param("bart", {"max_rows": 3, "max_prompt_tokens": 1}, marks=pytest.mark.slow),
    ],
)
def test_few_rows_change_nothing(architecture, settings, policy_of):
    greedy_is_the_reference(plugins.build("engines", "torch", settings), policy_of(architecture))


@pytest.mark.parametrize(
    ("cls", "config"), [(MistralForCausalLM, MistralConfig), (Gemma2ForCausalLM, Gemma2Config)], ids=["mistral", "gemma2"]
)
def test_attention_with_a_window_is_the_reference_too(cls, config, tmp_path):
    tokenizer = tiny_tokenizer("llama")
    made = config(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        max_position_embeddings=128, vocab_size=len(tokenizer), initializer_range=0.1, sliding_window=WINDOW,
    )  # fmt: skip
    random_network(cls, made).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    policy = load_policy(str(tmp_path))
    requests = some_requests(policy, 8, 0)
    assert max(len(request.prompt) + request.max_new_tokens for request in requests) > 4 * WINDOW
    found = together(Continuous(policy, 4, 100), requests, 0)
    assert {request.id: tokens_of(found[request.id]) for request in requests} == {
        request.id: reference(policy, request) for request in requests
    }


def test_a_seeded_request_is_the_references_own_draw(builder):
    policy = builder("llama")()
    sampling = Sampling(temperature=0.9, top_p=0.8, seed=11)
    requests = some_requests(policy, 6, 1, sampling)
    found = together(Continuous(policy, 4, 100), requests, 0)
    for request in requests:
        assert tokens_of(found[request.id]) == next(
            generate(policy, [request.prompt], request.max_new_tokens, frozenset(), sampling)
        )


def test_a_prompt_beyond_the_context_is_cut_as_the_reference_cuts_it(builder):
    policy = builder("llama")()
    long = Request("long", [1] + [10 + number % 80 for number in range(300)], 20)
    found = together(Continuous(policy, 2, 64), [long, Request("short", [1, 20], 5)], 0)
    assert tokens_of(found["long"]) == reference(policy, long) and len(found["long"]) == 20
    assert len(found["short"]) == 5


def test_an_encoder_is_refused(builder):
    with pytest.raises(ModelError, match="only a decoder"):
        plugins.build("engines", "torch", {}).start(builder("bert")())


class Leaky:
    """An engine whose rows read their neighbours: it answers with the text of the request before."""

    def start(self, policy):
        return LeakyWork(policy)

    def score(self, policy, prompt, answer):
        return [0.0] * len(answer)


class LeakyWork(Continuous):
    def __init__(self, policy):
        super().__init__(policy, 4, 100)

    def step(self):
        for row in self._rows[1:]:
            row.tokens[-1] = self._rows[0].tokens[-1]
        return super().step()


def test_the_battery_notices_rows_that_read_their_neighbours(builder):
    with pytest.raises(AssertionError, match="not the reference's"):
        greedy_is_the_reference(Leaky(), builder("llama")())


def test_a_long_text_that_has_ended_takes_no_more_memory(builder):
    policy = builder("llama")()
    work = Continuous(policy, 2, 200)
    work.add(Request("long", [1] + [5] * 80, 2, frozenset()))
    work.add(Request("short", [1, 5, 6], 30, frozenset()))
    widest = 0
    while work.num_running + work.num_waiting:
        work.step()
        widest = max(widest, work._mask.shape[1])
        if work.num_running == 1:
            break
    assert widest >= 81 and work.num_running == 1
    assert work._mask.shape[1] < 20, "the columns that only the long one needed are gone"
    assert {layer.keys.shape[2] for layer in work._cache.layers} == {work._mask.shape[1]}
