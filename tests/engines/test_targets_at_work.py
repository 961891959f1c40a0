"""Requests to encoder-decoders at work together: other architectures, limits, and faults that the battery must notice."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import pad
from transformers import (
    LongT5Config,
    LongT5ForConditionalGeneration,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    PegasusConfig,
    PegasusForConditionalGeneration,
)

from whet import plugins
from whet.engine.continuous import Request, answer_logprobs
from whet.engine.continuous_targets import ContinuousTargets
from whet.engine.generate import Sampling
from whet.engine.targets import source_ids, written_targets
from whet.errors import ModelError
from whet.models.load import load_policy
from whet.testing.engines import (
    a_request_ends_once,
    greedy_is_the_reference,
    reference,
    score_is_what_was_written,
    some_requests,
    together,
    tokens_of,
)
from whet.testing.tiny import random_network, tiny_tokenizer

pytestmark = pytest.mark.slow

SIZES = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 128, "init_std": 0.3, "dropout": 0.0,
    "pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": None,
}  # fmt: skip
LONG = {
    "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "relative_attention_num_buckets": 8, "local_radius": 5,
    "pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("cls", "config", "sizes"),
    [
        (MarianMTModel, MarianConfig, SIZES),
        (PegasusForConditionalGeneration, PegasusConfig, SIZES),
        (M2M100ForConditionalGeneration, M2M100Config, SIZES),
        (LongT5ForConditionalGeneration, LongT5Config, LONG),
    ],
    ids=["marian", "pegasus", "m2m-100", "long-t5"],
)
def test_other_encoder_decoders_are_the_reference_too(cls, config, sizes, tmp_path):
    tokenizer = tiny_tokenizer("t5")
    random_network(cls, config(vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    policy = load_policy(str(tmp_path))
    requests = some_requests(policy, 6, 0)
    found = together(ContinuousTargets(policy, 4, 100), requests, 0)
    assert {request.id: tokens_of(found[request.id]) for request in requests} == {
        request.id: reference(policy, request) for request in requests
    }


def test_a_source_beyond_the_context_is_cut_as_whet_predict_cuts_it(policy_of):
    policy = policy_of("t5")
    text = "where is my card? " * 20
    whole = policy.tokenizer(text)["input_ids"]
    assert len(whole) > policy.context
    found = together(ContinuousTargets(policy, 2, 64), [Request("long", whole, 20), Request("short", [5, 2], 200)], 0)
    kept = source_ids(policy, text, policy.context)
    assert tokens_of(found["long"]) == next(written_targets(policy, [kept], 20))
    assert len(found["short"]) == policy.context - 1, "a target has as much room as the context, but for its first token"


def test_padding_is_not_written_however_likely_it_is(builder):
    policy = builder("bart")()
    policy.network.get_buffer("final_logits_bias")[0, policy.tokenizer.pad_token_id] = 50.0
    requests = some_requests(policy, 4, 0, Sampling(temperature=1.0, seed=3))
    for written in together(ContinuousTargets(policy, 4, 100), requests, 0).values():
        assert policy.tokenizer.pad_token_id not in {one.token for one in written}
    score_is_what_was_written(plugins.build("engines", "torch", {}), policy)  # as the model says it, padding and all
    with pytest.raises(AssertionError, match="not the reference's"):
        greedy_is_the_reference(Faulty(WritesPadding), policy)


class Faulty:
    """An engine for encoder-decoders with a fault."""

    def __init__(self, work, score=answer_logprobs):
        self.work, self.score = work, score

    def start(self, policy):
        return self.work(policy, 4, 100)


class WritesPadding(ContinuousTargets):
    def __init__(self, *args):
        super().__init__(*args)
        self._never = []


class SharesACache(ContinuousTargets):
    def _go_on(self, group):
        """Let those that join later stand behind the others' texts, as rows of a decoder do."""
        joins, others = group.cache is None, self._groups[:-1]
        written = super()._go_on(group)
        if joins and others:
            longest = max(len(other.rows[0].tokens) for other in others)
            for layer in group.cache.self_attention_cache.layers:
                layer.keys, layer.values = (pad(held, (0, 0, longest, 0)) for held in (layer.keys, layer.values))
        return written


class SeesPaddedSources(ContinuousTargets):
    def _read(self, rows):
        group = super()._read(rows)
        group.mask = torch.ones_like(group.mask)
        return group


class KeepsTheWrongRow(ContinuousTargets):
    def _free(self):
        for group in self._groups:
            if any(row.finished for row in group.rows):
                group.states = group.states.flip(0)
                for layer in group.cache.cross_attention_cache.layers:
                    layer.keys, layer.values = layer.keys.flip(0), layer.values.flip(0)
        super()._free()


class GoesOnBehindTheEnd(ContinuousTargets):
    def add(self, request):
        super().add(Request(request.id, request.prompt, request.max_new_tokens))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["t5", "bart"])
@pytest.mark.parametrize("fault", [SharesACache, SeesPaddedSources, KeepsTheWrongRow])
def test_the_battery_notices_targets_that_depend_on_their_neighbours(fault, architecture, policy_of):
    with pytest.raises(AssertionError, match="not the reference's"):
        greedy_is_the_reference(Faulty(fault), policy_of(architecture))


def test_the_battery_notices_a_target_that_goes_on_and_a_score_of_another_source(policy_of):
    policy = policy_of("bart")
    with pytest.raises(AssertionError, match=r"ended by|goes on"):
        a_request_ends_once(Faulty(GoesOnBehindTheEnd), policy)
    with pytest.raises(AssertionError, match="by `score`"):
        score_is_what_was_written(
            Faulty(ContinuousTargets, lambda policy, prompt, answer: answer_logprobs(policy, prompt[:1], answer)), policy
        )


def test_a_long_source_that_has_ended_takes_no_more_memory(policy_of):
    policy = policy_of("t5")
    work = ContinuousTargets(policy, 2, 1000)
    work.add(Request("long", [5] * 80, 2))
    work.add(Request("short", [5, 6, 7], 30))
    work.step()
    (group,) = work._groups
    assert group.states.shape[:2] == (2, 80) and work.num_running == 2
    work.step()
    assert work.num_running == 1 and group.states.shape[:2] == group.mask.shape == (1, 3)
    assert {layer.keys.shape[:3:2] for layer in group.cache.cross_attention_cache.layers} == {(1, 3)}


def test_a_decoder_is_refused(builder):
    with pytest.raises(ModelError, match="only an encoder-decoder"):
        ContinuousTargets(builder("llama")(), 1, 1)
