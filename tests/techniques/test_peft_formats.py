"""Folders in PEFT's format: PEFT computes the same from ours, and we the same from its own. Checked against the peft package."""

from __future__ import annotations

import json
import warnings

import pytest
import torch

from whet.errors import RunError
from whet.plugins import build
from whet.testing.steps import tiny_plan, train

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peft = pytest.importorskip("peft")

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # PEFT asks transformers in a way that it will end
    pytest.mark.filterwarnings("ignore:Position ids are not supported"),
]
IDS = torch.tensor([[5, 9, 31, 40, 7, 22]])
OURS = {
    "prefix": {"length": 3},
    "prompt": {"length": 3},
    "ia3": {},
    "lora": {"rank": 4, "alpha": 6, "variant": "rslora"},
    "lora dora": {"rank": 4, "alpha": 6, "variant": "dora"},
    "lora pissa": {"rank": 4, "alpha": 6, "init": "pissa"},
}


def technique(name):
    return build("techniques", name.split()[0], OURS[name])


def last_states(network, length=IDS.shape[1]):
    """What the network gives for the real tokens; PEFT also gives it for a prompt's own."""
    with torch.no_grad():
        return network(input_ids=IDS, attention_mask=torch.ones_like(IDS))[0][:, -length:]


def trained(build_policy, examples, made):
    policy = build_policy()
    objective = build("objectives", "classify", {})
    objective.prepare(policy, examples)
    made.attach(policy, seed=0)
    train(objective, policy, examples, tiny_plan(policy, num_steps=3, learning_rate=1e-2))
    return policy


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "bert"])
@pytest.mark.parametrize("name", OURS)
def test_peft_reads_our_folder(name, architecture, builder, examples, tmp_path):
    made = technique(name)
    policy = trained(builder(architecture), examples, made)
    made.save(policy, tmp_path)
    base = builder(architecture)().network
    base.set_attn_implementation("sdpa")
    before = last_states(base)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # keys of the adapter that PEFT misses or does not know
        theirs = peft.PeftModel.from_pretrained(base, str(tmp_path)).eval()
    expected = last_states(policy.network)
    torch.testing.assert_close(last_states(theirs), expected, rtol=1e-5, atol=2e-5)
    assert (expected - before).abs().max() > 1e-3, "the adapter does nothing, so this has shown nothing"


def theirs(name, network):
    """PEFT's settings for a technique."""
    task = "FEATURE_EXTRACTION" if network.config.model_type == "bert" else "CAUSAL_LM"
    turned = network.config.model_type == "gpt2"
    layers = {
        "llama": ["k_proj", "v_proj", "down_proj"],
        "gpt2": ["c_attn", "mlp.c_proj"],
        "bert": ["key", "value", "output.dense"],
    }
    targets = layers[network.config.model_type]
    if name == "prefix":
        return peft.PrefixTuningConfig(num_virtual_tokens=3, task_type=task)
    if name == "prompt":
        return peft.PromptTuningConfig(num_virtual_tokens=3, task_type=task)
    if name == "ia3":
        return peft.IA3Config(target_modules=targets, feedforward_modules=targets[-1:], fan_in_fan_out=turned, task_type=task)
    kind = {"lora": {"use_rslora": True}, "lora dora": {"use_dora": True}}[name]
    return peft.LoraConfig(r=4, lora_alpha=6, target_modules=targets, fan_in_fan_out=turned, task_type=task, **kind)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "bert"])
@pytest.mark.parametrize("name", ["prefix", "prompt", "ia3", "lora", "lora dora"])
def test_we_read_what_peft_wrote(name, architecture, builder, tmp_path):
    network = builder(architecture)().network
    network.set_attn_implementation("sdpa")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = peft.get_peft_model(network, theirs(name, network)).eval()
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if "ia3_l" in key or "lora_B" in key:
                    parameter += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(str(tmp_path))
    expected = last_states(model)
    policy = builder(architecture)()
    before = last_states(policy.network)
    build("techniques", name.split()[0], {}).load(policy, tmp_path)  # length, rank, alpha and variant are the folder's
    torch.testing.assert_close(last_states(policy.network), expected, rtol=1e-5, atol=2e-5)
    assert (expected - before).abs().max() > 1e-3


def test_pissa_begins_at_pefts_singular_vectors(builder):
    # the product of the first singular vectors is unique, their signs are not
    policy = builder("llama")()
    weight = policy.network.model.layers[0].self_attn.q_proj.weight.clone()
    technique("lora pissa").attach(policy, 0)
    layer = policy.network.model.layers[0].self_attn.q_proj
    base = builder("llama")().network
    model = peft.get_peft_model(base, peft.LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj"], init_lora_weights="pissa"))
    residual = model.base_model.model.model.layers[0].self_attn.q_proj.base_layer.weight
    torch.testing.assert_close(weight - layer.scale * layer.up @ layer.down, residual, rtol=1e-4, atol=1e-5)


def test_pissa_is_saved_as_plain_lora_of_twice_the_rank(builder, examples, tmp_path):
    made = technique("lora pissa")
    made.save(trained(builder("llama"), examples, made), tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["use_rslora"], config["use_dora"]) == (8, 12, False, False)


@pytest.mark.parametrize(("name", "other"), [("prefix", "prompt"), ("ia3", "lora"), ("lora", "ia3")])
def test_a_folder_of_another_technique_is_refused(name, other, builder, tmp_path):
    policy = builder("llama")()
    technique(name).attach(policy, 0)
    technique(name).save(policy, tmp_path)
    with pytest.raises(RunError, match="Name the technique"):
        technique(other).load(builder("llama")(), tmp_path)


@pytest.mark.parametrize("name", ["prefix", "prompt"])
def test_a_prefix_of_another_model_is_refused(name, builder, tmp_path):
    policy = builder("llama")()
    technique(name).attach(policy, 0)
    technique(name).save(policy, tmp_path)
    tensors = {"prompt_embeddings": torch.zeros(3, 20)}
    from whet.models.tensors import save_tensors

    save_tensors(tensors, tmp_path / "adapter_model.safetensors")
    with pytest.raises(RunError, match="another base model"):
        technique(name).load(builder("llama")(), tmp_path)


def test_an_adapter_that_changed_its_base_is_refused(builder, tmp_path):
    policy = builder("llama")()
    technique("lora").attach(policy, 0)
    technique("lora").save(policy, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text()) | {"init_lora_weights": "pissa_niter_16"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match="pissa_niter_16"):
        technique("lora").load(builder("llama")(), tmp_path)
