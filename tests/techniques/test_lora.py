"""LoRA in PEFT's format: PEFT reads our folder and we read its own, with the same outputs; what does not fit is said."""

from __future__ import annotations

import json
import warnings

import pytest
import torch

from whet.errors import ModelError, RunError
from whet.models.tensors import save_tensors
from whet.plugins import build
from whet.techniques.lora import Lora
from whet.testing.steps import tiny_plan, train

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peft = pytest.importorskip("peft")

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # PEFT asks transformers in a way that it will end
IDS = torch.tensor([[5, 9, 31, 40, 7, 22]])


@pytest.fixture(params=["llama", "gpt2", "bert"])
def architecture(request):
    return request.param


def states(network):
    with torch.no_grad():
        return network(input_ids=IDS)[0]


def trained(build_policy, examples, technique):
    policy = build_policy()
    objective = build("objectives", "classify", {})
    objective.prepare(policy, examples)
    technique.attach(policy, seed=0)
    train(objective, policy, examples, tiny_plan(policy, num_steps=5, learning_rate=1e-2))
    return policy


def test_peft_reads_our_folder(builder, examples, tmp_path, architecture):
    technique = Lora(rank=3, alpha=7)
    policy = trained(builder(architecture), examples, technique)
    technique.save(policy, tmp_path)
    base = builder(architecture)().network
    base.set_attn_implementation("sdpa")
    before = states(base)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # keys of the adapter that PEFT misses or does not know
        theirs = peft.PeftModel.from_pretrained(base, str(tmp_path)).eval()
    expected = states(policy.network)
    torch.testing.assert_close(states(theirs), expected, rtol=1e-5, atol=1e-5)
    assert (expected - before).abs().max() > 1e-3, "the adapter does nothing, so this has shown nothing"


def peft_folder(build_policy, folder, **settings):
    """A folder that PEFT wrote, and what its model computes."""
    network = build_policy().network
    kinds = {module.__class__.__name__ for module in network.modules()}
    targets = (
        ["c_attn", "c_proj"] if "Conv1D" in kinds else ["query", "value"] if "BertLayer" in kinds else ["q_proj", "down_proj"]
    )
    config = peft.LoraConfig(
        **({"r": 4, "lora_alpha": 6, "target_modules": targets, "fan_in_fan_out": "Conv1D" in kinds} | settings)
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = peft.get_peft_model(network, config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.2)
    model.save_pretrained(str(folder))
    return states(model.eval())


def test_we_read_what_peft_wrote(builder, tmp_path, architecture):
    expected = peft_folder(builder(architecture), tmp_path)
    for technique in (Lora(rank=4, alpha=6), Lora()):  # the folder says its own rank and alpha
        policy = builder(architecture)()
        before = states(policy.network)
        technique.load(policy, tmp_path)
        torch.testing.assert_close(states(policy.network), expected, rtol=1e-5, atol=1e-5)
        assert (expected - before).abs().max() > 1e-3


@pytest.mark.parametrize("settings", [{"rank_pattern": {"q_proj": 2}}, {"alpha_pattern": {"q_proj": 2}}])
def test_a_kind_of_lora_that_we_do_not_compute_is_refused(builder, tmp_path, settings):
    peft_folder(builder("llama"), tmp_path, **settings)
    with pytest.raises(RunError, match=next(iter(settings))):
        Lora().load(builder("llama")(), tmp_path)


def test_an_adapter_of_another_model_is_refused(builder, tmp_path):
    policy = builder("llama")()
    Lora().attach(policy, 0)
    Lora().save(policy, tmp_path)
    with pytest.raises((ModelError, RunError)):
        Lora().load(builder("bert")(), tmp_path)


def test_an_adapter_of_another_width_is_refused(builder, tmp_path):
    policy = builder("llama")()
    technique = Lora(rank=2)
    technique.attach(policy, 0)
    technique.save(policy, tmp_path)
    tensors = {name: tensor[:, :16] if "lora_A" in name else tensor for name, tensor in _tensors(tmp_path).items()}
    save_tensors(tensors, tmp_path / "adapter_model.safetensors")
    with pytest.raises(RunError, match="another base model"):
        technique.load(builder("llama")(), tmp_path)


def _tensors(folder):
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("targets", "endings"),
    [
        (["q_proj", "v_proj"], {"q_proj", "v_proj"}),
        (r"layers\.1\.mlp", {"gate_proj", "up_proj", "down_proj"}),
        ("all-linear", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
    ],
)
def test_targets_choose_layers(builder, targets, endings):
    policy = builder("llama")()
    Lora(targets=targets).attach(policy, 0)
    names = {name.split(".")[-2] for name, _ in policy.trainable()}
    assert names == endings


def test_targets_that_match_nothing_name_what_there_is(builder):
    with pytest.raises(ModelError, match="q_proj"):
        Lora(targets=["query"]).attach(builder("llama")(), 0)


def test_the_update_is_scaled_by_alpha_over_rank(builder):
    # eq. 3 of Hu et al.: W x + (alpha / r) B A x
    policy = builder("llama")()
    layer = policy.network.model.layers[0].self_attn.q_proj
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    before = layer(x).detach()
    Lora(rank=4, alpha=10).attach(policy, 0)
    adapted = policy.network.model.layers[0].self_attn.q_proj
    with torch.no_grad():
        adapted.up.normal_()
        expected = before + 2.5 * (x @ adapted.down.T) @ adapted.up.T
        torch.testing.assert_close(adapted(x), expected, rtol=1e-5, atol=1e-5)


def test_another_seed_starts_elsewhere(builder):
    starts = []
    for seed in (0, 1):
        policy = builder("llama")()
        Lora().attach(policy, seed)
        starts.append(policy.network.model.layers[0].self_attn.q_proj.down.detach())
    assert not torch.equal(*starts)


def test_the_saved_config_is_pefts(builder, tmp_path):
    policy = builder("gpt2")()
    Lora(rank=2).attach(policy, 0)
    Lora(rank=2).save(policy, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA" and config["r"] == 2 and config["fan_in_fan_out"] is True
