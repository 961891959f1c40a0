"""Loading says in plain words what is wrong, runs no code of a model, and leaves what it loads frozen and in fp32."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch

from whet.errors import ModelError, RunError
from whet.models.load import load_policy, probe
from whet.models.save import Card, load_tuned, read_card, save_policy
from whet.models.template import PLAIN_TEMPLATE
from whet.plugins import build
from whet.testing.tiny import tiny_network, write_tiny


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A tiny Llama of one's own, to spoil."""
    return shutil.copytree(tiny_folder("llama"), tmp_path / "llama")


def test_a_base_model_is_frozen_and_in_fp32(tiny_folder):
    for architecture, kind in (("llama", "decoder"), ("gpt2", "decoder"), ("bert", "encoder")):
        policy = load_policy(str(tiny_folder(architecture)))
        assert policy.kind == kind and policy.ability.packs and policy.ability.plain_head
        assert not policy.trainable() and not policy.network.training
        assert {parameter.dtype for parameter in policy.network.parameters()} == {torch.float32}
        assert policy.context == 128 and policy.width == 32
        assert policy.tokenizer.chat_template == (PLAIN_TEMPLATE if kind == "decoder" else None)


def test_the_same_seed_gives_the_same_tiny_model(tmp_path):
    first, again, other = (tiny_network("llama", 99, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])
    state = torch.random.get_rng_state()
    write_tiny(tmp_path, "bert")
    assert torch.equal(state, torch.random.get_rng_state()), "making a model has moved torch's own stream"


def test_bytes_of_the_weights_are_in_the_source(folder):
    before = load_policy(str(folder)).source
    assert before.folder == folder and len(before.sha256) == 64
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    assert load_policy(str(folder)).source.sha256 != before.sha256


@pytest.mark.parametrize(
    ("missing", "word"), [("config.json", "config.json"), ("model.safetensors", "safetensors"), ("tokenizer.json", "tokenizer")]
)
def test_a_missing_file_is_named(folder, missing, word):
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=word):
        load_policy(str(folder))


def test_a_folder_that_is_not_there_is_said_to_be_missing(tmp_path):
    with pytest.raises(ModelError, match="no such model folder"):
        load_policy(str(tmp_path / "nowhere"))


def test_an_unknown_builtin_names_the_known_ones():
    with pytest.raises(ModelError, match="builtin:minilm"):
        load_policy("builtin:huge")


def test_torn_weights_are_an_error_in_plain_words(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot load"):
        load_policy(str(folder))


def test_a_models_own_code_is_never_run(folder, tmp_path):
    mark = tmp_path / "ran"
    (folder / "modeling_own.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    config = json.loads((folder / "config.json").read_text())
    for part in ("AutoConfig", "AutoModelForCausalLM"):
        config.setdefault("auto_map", {})[part] = "modeling_own.Own"
    config["model_type"] = "own"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError):
        load_policy(str(folder))
    assert not mark.exists()


def test_an_encoder_decoder_is_refused_by_name(folder):
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "t5", "is_encoder_decoder": True, "architectures": ["T5ForConditionalGeneration"]}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="encoder-decoder"):
        load_policy(str(folder))


def test_a_network_that_computes_nan_is_not_packed():
    network = tiny_network("llama", 99)
    with torch.no_grad():
        network.model.norm.weight.fill_(math.nan)
    default = network.config._attn_implementation
    ability = probe(network, "decoder")
    assert not ability.packs
    assert network.config._attn_implementation == default


def card(policy, **changes):
    values = {
        "source": policy.source.name, "source_sha256": policy.source.sha256, "technique": "lora", "technique_settings": {},
        "objective": "classify", "objective_settings": {}, "classes": policy.classes, "max_length": 64, "cleaners": [],
    }  # fmt: skip
    return Card(**(values | changes))


@pytest.fixture
def tuned(folder, examples, tmp_path):
    """A tuned model's folder, and its technique."""
    policy, technique = load_policy(str(folder)), build("techniques", "lora", {})
    build("objectives", "classify", {}).prepare(policy, examples)
    technique.attach(policy, 0)
    out = tmp_path / "tuned"
    out.mkdir()
    save_policy(policy, technique, card(policy), out)
    return out, technique


def test_a_card_is_read_as_it_was_written(tuned, folder):
    out, _ = tuned
    assert read_card(out).classes == ("account", "billing", "delivery") and read_card(out).source == str(folder)


def test_a_base_that_has_changed_is_refused(tuned, folder):
    out, technique = tuned
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(RunError, match="other weights"):
        load_tuned(out, technique)


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"classes": 3}'])
def test_a_damaged_card_is_an_error_in_plain_words(tuned, content):
    out, _ = tuned
    (out / "policy.json").write_text(content)
    with pytest.raises(RunError, match="damaged"):
        read_card(out)


@pytest.mark.parametrize("name", ["heads.safetensors", "adapter_model.safetensors"])
def test_torn_tuned_weights_are_an_error_in_plain_words(tuned, name):
    out, technique = tuned
    (out / name).write_bytes((out / name).read_bytes()[:50])
    with pytest.raises(RunError, match="safetensors"):
        load_tuned(out, technique)


def test_full_weights_that_do_not_fit_are_refused(folder, tmp_path):
    policy, technique = load_policy(str(folder)), build("techniques", "full", {})
    technique.attach(policy, 0)
    technique.save(policy, tmp_path)
    tensors = dict(policy.network.state_dict())
    from whet.models.tensors import save_tensors

    for spoilt in (
        {name: tensor for name, tensor in tensors.items() if "layers.1" not in name},
        tensors | {"model.extra.weight": torch.zeros(2)},
        tensors | {"model.norm.weight": torch.zeros(3)},
    ):
        save_tensors(spoilt, tmp_path / "model.safetensors")
        with pytest.raises(RunError, match="fit"):
            technique.load(policy, tmp_path)
