"""The fused way through a network is transformers' own, architecture by architecture, or is not gone and the reason is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from architectures import write
from torch import nn

from whet.engine import compiled
from whet.engine.attention import packed
from whet.engine.cut import cut
from whet.engine.fused import why_not
from whet.models.fusion import Fusion, try_fusion
from whet.models.load import load_policy
from whet.models.recompute import recompute_blocks
from whet.plugins import build
from whet.testing.steps import same_bytes, slope, tiny_plan, train, whole_step
from whet.testing.techniques import merging_changes_no_output, saved_is_loaded

here = pytest.mark.skipif(why_not() is not None, reason=f"the kernel is not there: {why_not()}")
FUSED = ("Llama", "Qwen2", "Qwen3", "Mistral", "SmolLM3", "Granite")
ENCODERS = ("Bert", "Roberta", "Electra")
FORM = "is not of the Llama or the BERT family's form"
OTHERS = {"Gemma2": FORM, "GPT2": FORM, "Olmo2": FORM, "DistilBert": FORM, "DebertaV2": "only packed networks are fused"}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    root, held = tmp_path_factory.mktemp("fused"), {}

    def load(name):
        if name not in held:
            held[name] = write(name, root / name)
        return load_policy(str(held[name]))

    return load


def sft():
    return build("objectives", "sft", {})


def learning(policy, examples):
    """What is learnt: answers, or an encoder's classes from a head that has begun."""
    if policy.kind == "decoder":
        return sft()
    objective = build("objectives", "classify", {})
    objective.prepare(policy, examples)
    return objective


@here
@pytest.mark.parametrize("name", FUSED + ENCODERS)
def test_output_and_every_gradient_are_those_of_transformers_modules(name, loaded, examples):
    policy = loaded(name)
    assert policy.fusion is not None, policy.ability.unfused
    body = policy.network.base_model.requires_grad_(True)
    (batch,) = cut(whole_step(learning(policy, examples), policy, examples).units, 10**9)
    positions = batch.positions[None] + policy.ability.first_position
    with packed(batch.lengths):
        theirs = body(input_ids=batch.ids[None], position_ids=positions, use_cache=False).last_hidden_state[0]
    ours = policy.fusion.run(body, policy.fusion.form.layers(body), batch, torch.float32)
    pull = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(0))
    named = dict(body.named_parameters())
    wanted, found = (
        torch.autograd.grad((one * pull).sum(), [*named.values()], allow_unused=True, materialize_grads=True)
        for one in (theirs, ours)
    )
    assert float(((ours - theirs).abs().max() / theirs.std()).detach()) < 1e-5
    for key, one, other in zip(named, wanted, found, strict=True):
        whole = sum(float(gradient.square().sum()) for gradient in wanted) ** 0.5
        assert float((one - other).norm()) <= 1e-5 * (float(one.norm()) + 0.1 * whole), key


@here
@pytest.mark.parametrize("name", FUSED + ENCODERS)
def test_tokens_that_are_asked_for_get_the_states_and_gradients_that_all_would(name, loaded, examples):
    policy = loaded(name)
    body = policy.network.base_model.requires_grad_(True)
    (batch,) = cut(whole_step(learning(policy, examples), policy, examples).units, 10**9)
    places = torch.arange(1, len(batch.ids), 3)
    layers = policy.fusion.form.layers(body)
    some = policy.fusion.run(body, layers, batch, torch.float32, places)
    every = policy.fusion.run(body, layers, batch, torch.float32)[places]
    torch.testing.assert_close(some, every, rtol=1e-5, atol=1e-5)
    pull = torch.randn(every.shape, generator=torch.Generator().manual_seed(0))
    wanted, found = (
        torch.autograd.grad((one * pull).sum(), [*body.parameters()], allow_unused=True, materialize_grads=True)
        for one in (every, some)
    )
    whole = sum(float(gradient.square().sum()) for gradient in wanted) ** 0.5
    assert all(float((one - other).norm()) <= 1e-5 * whole for one, other in zip(wanted, found, strict=True))


@here
def test_a_loss_asks_the_last_layer_only_for_what_it_needs(loaded, examples, monkeypatch):
    policy, asked = loaded("Llama"), []
    monkeypatch.setattr(Fusion, "run", lambda *given: asked.append(given[5]) or RUN(*given))
    (batch,) = cut(whole_step(sft(), policy, examples).units, 10**9)
    with torch.autocast("cpu", torch.bfloat16):
        policy.logprobs(batch)
        policy.pooled(batch)
    supervised = [place - 1 for place, one in enumerate(batch.tokens["supervised"].tolist()) if one]
    ends = [sum(batch.lengths[: row + 1]) - 1 for row in range(len(batch.lengths))]
    assert [places.tolist() for places in asked] == [supervised, ends]


@here
@pytest.mark.parametrize("name", [name for name in FUSED + ENCODERS if name != "Granite"])  # no plain head: asked as a whole
@pytest.mark.parametrize(
    "technique",
    ["lora", *(pytest.param(name, marks=pytest.mark.slow) for name in ("full", "bitfit", "prefix", "ia3", "adapter"))],
)
def test_in_bf16_it_is_as_near_to_fp32_as_transformers_modules(technique, name, loaded, examples, monkeypatch):
    policy = loaded(name)
    if technique == "bitfit" and not any(key.endswith("bias") for key, _ in policy.network.base_model.named_parameters()):
        pytest.skip("it has no biases")
    settings = {"lora": {"rank": 4}, "prefix": {"length": 4}}.get(technique, {})
    build("techniques", technique, settings).attach(policy, 0)
    objective, fusion = learning(policy, examples), policy.fusion
    rows = whole_step(objective, policy, examples)
    asked, losses, gradients = [], [], []
    monkeypatch.setattr(Fusion, "run", lambda *given: asked.append(given) or RUN(*given))
    for seed in range(3 if technique == "lora" else 1):  # one loss may lie near to fp32's by luck
        with torch.no_grad():
            for key, weight in policy.trainable():
                if key.endswith("up"):  # B begins at 0, where A learns nothing
                    weight.normal_(std=0.1, generator=torch.Generator().manual_seed(seed))
        exact = slope(objective, policy, rows)
        asked.clear()
        own = slope(objective, policy, rows, precision="bf16")
        assert bool(asked) == (technique != "prefix"), "a prefix hooks into the body, the others do not"
        policy.fusion = None
        theirs = slope(objective, policy, rows, precision="bf16")
        policy.fusion = fusion
        losses.append([abs(one.loss - exact.loss) / abs(exact.loss) for one in (own, theirs)])
        gradients.append([apart(one, exact) for one in (own, theirs)])
    (own_loss, their_loss), (own_slope, their_slope) = (
        torch.tensor(each).square().mean(0).sqrt().tolist() for each in (losses, gradients)
    )
    assert own_loss <= 1.5 * their_loss + 5e-3
    assert own_slope <= 2 * their_slope, f"{own_slope:.3g} from fp32, transformers' modules {their_slope:.3g}"


def apart(one, exact):
    """Return the norm of the difference of all gradients."""
    return sum(float((one.gradients[key].float() - gradient).square().sum()) for key, gradient in exact.gradients.items()) ** 0.5


RUN = Fusion.run


@here
@pytest.mark.parametrize("technique", ["lora", pytest.param("full", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["Llama", pytest.param("Bert", marks=pytest.mark.slow)])
def test_training_that_was_stopped_goes_on_to_the_same_bytes(name, technique, loaded, examples):
    def begin():
        policy = loaded(name)
        objective = learning(policy, examples)
        build("techniques", technique, {}).attach(policy, 0)
        assert policy.fusion is not None
        return objective, policy, tiny_plan(policy, num_steps=4, precision="bf16")

    objective, policy, plan = begin()
    whole, _ = train(objective, policy, examples, plan)
    objective, policy, _ = begin()
    half, _ = train(objective, policy, examples, replace(plan, num_steps=2))
    kept = {key: value.clone() for key, value in half.tensors().items()}
    objective, policy, _ = begin()
    again, _ = train(objective, policy, examples, replace(plan, num_steps=0))
    again.restore(kept, half.step, half.cursor, half.objective_state)
    train(objective, policy, examples, plan, again)
    assert again.step == 4 and same_bytes(whole.tensors(), again.tensors()) == []


@here
@pytest.mark.parametrize("law", [saved_is_loaded, merging_changes_no_output])
def test_what_is_saved_or_merged_after_training_in_bf16_is_what_was_trained(law, loaded, examples, monkeypatch):
    monkeypatch.setattr(
        "whet.testing.techniques.tiny_plan", lambda *given, **changes: tiny_plan(*given, precision="bf16", **changes)
    )
    law(build("techniques", "lora", {"rank": 4}), lambda: loaded("Llama"), sft(), examples)


@here
@pytest.mark.parametrize("name", OTHERS)
def test_what_has_another_form_goes_through_transformers_modules_and_says_so(name, loaded):
    policy = loaded(name)
    assert policy.fusion is None and OTHERS[name] in policy.ability.unfused


@here
def test_a_network_that_computes_something_else_is_found_out(loaded):
    network = loaded("Llama").network
    network.base_model.layers[1].mlp.act_fn = nn.GELU()  # of the family's form, but for what it does
    fusion, reason = try_fusion(network)
    assert fusion is None and "differs from transformers'" in reason


@here
@pytest.mark.parametrize(
    ("name", "place"),
    [("Llama", place) for place in ("layers.0", "layers.1.mlp", "norm", "layers.0.self_attn", "embed_tokens")]
    + [("Bert", f"encoder.layer.0{place}") for place in ("", ".attention", ".attention.self", ".output", ".output.LayerNorm")]
    + [("Bert", "encoder"), ("Bert", "embeddings"), ("Bert", "encoder.layer.1.intermediate.dense")],
)
def test_who_hooks_into_a_module_is_called(name, place, loaded, examples, monkeypatch):
    policy, called = loaded(name), []
    (batch,) = cut(whole_step(learning(policy, examples), policy, examples).units, 10**9)
    with torch.autocast("cpu", torch.bfloat16):
        policy.network.base_model.get_submodule(place).register_forward_hook(lambda *given: called.append(place))
        policy.hidden(batch)
    assert called


@here
def test_blocks_that_are_computed_again_keep_no_more_than_they_promise(loaded, examples, monkeypatch):
    policy = loaded("Llama")
    build("techniques", "full", {}).attach(policy, 0)
    recompute_blocks(policy)
    monkeypatch.setattr(Fusion, "run", lambda *given: pytest.fail("the blocks were passed by"))
    assert slope(sft(), policy, whole_step(sft(), policy, examples), precision="bf16").loss > 0


@here
def test_another_module_in_a_modules_place_is_asked(loaded, examples):
    policy, called = loaded("Llama"), []

    class Other(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            called.append(x)
            return self.inner(x)

    policy.network.base_model.layers[1].mlp = Other(policy.network.base_model.layers[1].mlp)
    (batch,) = cut(whole_step(sft(), policy, examples).units, 10**9)
    with torch.autocast("cpu", torch.bfloat16):
        policy.hidden(batch)
    assert called


def test_without_the_kernel_the_reason_is_known(loaded, monkeypatch):
    monkeypatch.setenv(compiled.SWITCH, "off")
    compiled.library.cache_clear()
    why_not.cache_clear()
    try:
        policy = loaded("Llama")
        assert policy.fusion is None and policy.ability.unfused == f"{compiled.SWITCH} is off"
    finally:
        monkeypatch.undo()
        compiled.library.cache_clear()
        why_not.cache_clear()
