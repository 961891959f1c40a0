"""Loading says in plain words what is wrong, runs no code of a model, and leaves what it loads frozen and in fp32."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch

from whet.errors import ModelError, RunError
from whet.models.builtin import model_hash
from whet.models.load import load_policy
from whet.models.probe import probe
from whet.models.save import Card, load_base, load_tuned, read_card, save_policy
from whet.models.template import PLAIN_TEMPLATE
from whet.plugins import build
from whet.testing.tiny import tiny_network, write_tiny


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A tiny Llama of one's own, to spoil."""
    return shutil.copytree(tiny_folder("llama"), tmp_path / "llama")


def flip_a_bit(file):
    """Alter the smallest bit of the last weight."""
    whole = bytearray(file.read_bytes())
    whole[-4] ^= 1
    file.write_bytes(whole)


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
    flip_a_bit(file)
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
    with pytest.raises(ModelError, match="torn or damaged"):
        load_policy(str(folder))


def test_a_base_model_with_missing_weights_is_refused(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    for gone in ("model.layers.1.mlp.up_proj.weight", "lm_head.weight"):
        save_file(
            {name: tensor for name, tensor in tensors.items() if name != gone},
            folder / "model.safetensors",
            metadata={"format": "pt"},
        )
        with pytest.raises(ModelError, match=gone):
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


def test_an_encoder_decoder_without_its_weights_and_one_that_reads_no_text_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "t5", "is_encoder_decoder": True, "architectures": ["T5ForConditionalGeneration"]}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"of the weights of a T5ForConditionalGeneration, .* would be random"):
        load_policy(str(folder))
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "whisper"}))
    with pytest.raises(ModelError, match="architecture 'whisper' is an encoder-decoder that transformers has no text head for"):
        load_policy(str(folder))


def test_a_network_that_computes_nan_is_refused():
    network = tiny_network("llama", 99)
    with torch.no_grad():
        network.model.norm.weight.fill_(math.nan)
    with pytest.raises(ModelError, match="not finite"):
        probe(network, "decoder")


def card(policy, **changes):
    values = {
        "source": policy.source.name, "source_sha256": policy.source.sha256, "technique": "lora", "technique_settings": {},
        "objective": "classify", "objective_settings": {}, "classes": policy.classes, "max_length": 64, "max_tokens": 256,
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
    assert read_card(out).classes == ("billing", "delivery", "travel") and read_card(out).source == str(folder)


def test_a_base_that_has_changed_is_refused(tuned, folder):
    out, technique = tuned
    file = folder / "model.safetensors"
    flip_a_bit(file)
    with pytest.raises(RunError, match="other weights"):
        load_tuned(out, technique)


def test_weights_from_the_hub_are_hashed_like_those_of_a_folder(folder, tmp_path, monkeypatch):
    cache = tmp_path / "hub"
    snapshot = cache / "models--someone--tiny" / "snapshots" / ("0" * 40)
    shutil.copytree(folder, snapshot)
    (cache / "models--someone--tiny" / "refs").mkdir()
    (cache / "models--someone--tiny" / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("whet.models.load._hub_is_found", lambda: False)
    source = load_policy("someone/tiny").source
    assert (source.name, source.folder) == ("someone/tiny", snapshot)
    assert source.sha256 == load_policy(str(folder)).source.sha256 == model_hash(folder)
    flip_a_bit(snapshot / "model.safetensors")
    with pytest.raises(RunError, match="other weights now"):
        load_base(card(load_policy(str(folder)), source="someone/tiny"))


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


def test_tokens_without_a_row_in_the_weights_are_refused(folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<new>"])  # and nobody saved the rows of the embedding that were learnt for it
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match=r"its tokenizer has tokens up to number .* rows for"):
        load_policy(str(folder))


def test_tied_embeddings_stay_tied_and_are_saved_once(tmp_path, examples):
    from transformers import LlamaConfig, LlamaForCausalLM

    from whet.testing.steps import tiny_plan, train
    from whet.testing.tiny import random_network, tiny_tokenizer

    config = LlamaConfig(
        vocab_size=99, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
        max_position_embeddings=128, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    base, out = tmp_path / "base", tmp_path / "out"
    random_network(LlamaForCausalLM, config).save_pretrained(base)
    tiny_tokenizer("llama").save_pretrained(base)
    policy, technique = load_policy(str(base)), build("techniques", "full", {})
    technique.attach(policy, 0)
    names = [name for name, _ in policy.trainable()]
    assert sum("embed_tokens" in name or "lm_head" in name for name in names) == 1
    train(build("objectives", "sft", {}), policy, examples, tiny_plan(policy, num_steps=3))
    head, embedding = policy.network.lm_head.weight, policy.network.model.embed_tokens.weight
    assert head is embedding
    out.mkdir()
    save_policy(policy, technique, card(policy, technique="full", objective="sft"), out)
    loaded = load_tuned(out, technique)
    assert loaded.network.lm_head.weight is loaded.network.model.embed_tokens.weight
    assert torch.equal(loaded.network.lm_head.weight, head)
