"""The cache of a network goes in and comes out by the name that the installed transformers gives it."""

from __future__ import annotations

import inspect
import warnings

import pytest
import torch

from whet.models.key_values import NAMES, cache_in, go_on


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_reading_in_two_parts_gives_the_logits_of_reading_at_once(builder, architecture):
    network = builder(architecture)().network
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")  # a name that is going to be dropped warns
        whole, _ = go_on(network, None, input_ids=ids)
        _, cache = go_on(network, None, input_ids=ids[:, :3])
        rest, cache = go_on(network, cache, input_ids=ids[:, 3:])
    assert cache.get_seq_length() == 5
    torch.testing.assert_close(rest, whole[:, 3:], rtol=1e-5, atol=1e-6)


def test_the_name_is_one_that_the_network_takes(builder):
    assert set(NAMES) & set(inspect.signature(builder("llama")().network.forward).parameters)


@pytest.mark.parametrize("name", NAMES)
def test_a_cache_is_found_under_either_name(name):
    held = object()
    assert cache_in({name: held, "input_ids": None}) is held


def test_no_cache_is_none():
    assert cache_in({"past_key_values": None}) is None
