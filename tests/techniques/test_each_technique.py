"""Every technique on the command line with tiny models, what each refuses, and what its paper says of it."""

from __future__ import annotations

import copy
import io
import json
import sys
from typing import Any

import pytest
import torch
import transformers

from whet import cli
from whet.engine.attention import PREFIX
from whet.engine.cut import pack
from whet.engine.fit import Training
from whet.engine.generate import generate
from whet.errors import ModelError, RecipeError
from whet.models.blocks import outline
from whet.models.policy import Policy, Source
from whet.models.probe import probe
from whet.models.quantised import Quantised
from whet.models.template import PLAIN_TEMPLATE
from whet.plugins import build, names
from whet.testing.steps import slope, tiny_plan, train, whole_step
from whet.testing.tiny import ANSWERS, random_network, tiny_texts, tiny_tokenizer
from whet.types import Row


@pytest.fixture(scope="module")
def recipes(tmp_path_factory, tiny_folder):
    folder = tmp_path_factory.mktemp("techniques")
    texts = tiny_texts("red", "blue", "green")
    (folder / "labelled.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in texts))
    lines = [json.dumps({"prompt": text, "response": ANSWERS[index % 4].format("card")}) for index, (text, _) in enumerate(texts)]
    (folder / "chat.jsonl").write_text("\n".join(lines) + "\n")
    quick = "train: {max_steps: 4, batch_size: 4}\nevaluate: {resamples: 100, max_generated: 2, max_new_tokens: 4}\n"
    (folder / "bert.yaml").write_text(
        f"model: {tiny_folder('bert')}\ndata: {{path: {folder}/labelled.csv, text: text, label: label}}\nobjective: classify\n{quick}"
    )
    (folder / "gpt2.yaml").write_text(
        f"model: {tiny_folder('gpt2')}\ndata: {{path: {folder}/chat.jsonl, prompt: prompt, response: response}}\nobjective: sft\n{quick}"
    )
    return folder


def whet(monkeypatch, capsys, *line, typed=""):
    """Run the command line. Returns its exit code and what it printed."""
    monkeypatch.setattr(sys, "argv", ["whet", *map(str, line)])
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    code = 0
    try:
        cli.main()
    except SystemExit as leaving:
        code = leaving.code or 0
    return code, capsys.readouterr()


NO_FORMAT = {
    "adapter": "bottleneck.safetensors",
    "bitfit": "biases.safetensors",
    "full": "model.safetensors",
    "head": "heads.safetensors",
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "prefix" else [pytest.mark.slow]) for name in names("techniques")]
)
@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_trained_judged_and_asked_on_the_command_line(name, architecture, recipes, monkeypatch, capsys, tmp_path):
    if name == "head" and architecture == "gpt2":
        pytest.skip("technique 'head' needs an objective with a head")
    run = tmp_path / "run"
    code, said = whet(monkeypatch, capsys, "train", recipes / f"{architecture}.yaml", "--set", f"technique={name}", "--out", run)
    assert code == 0, said.err
    model = run / "model"
    assert (model / NO_FORMAT.get(name, "adapter_config.json")).is_file()
    code, said = whet(monkeypatch, capsys, "evaluate", run, "--json")
    assert code == 0, said.err
    report = json.loads((run / "report.json").read_text())
    assert report["n"] > 0 and report["metrics"]
    reasons = [
        record["reason"]
        for record in json.loads((run / "manifest.json").read_text())["decisions"]
        if record["key"] == "train.learning_rate"
    ]
    assert len(reasons) == 1 and len(reasons[0]) > 20
    if architecture == "bert":
        code, said = whet(monkeypatch, capsys, "predict", run, recipes / "labelled.csv", "--out", tmp_path / "answers.csv")
        assert code == 0, said.err
        assert len((tmp_path / "answers.csv").read_text().splitlines()) > 30
    else:
        code, said = whet(monkeypatch, capsys, "chat", run, "--json", typed="where is the card\n\n")
        assert code == 0, said.err
        assert [turn["role"] for turn in json.loads(said.out)["messages"]] == ["user", "assistant"]


def test_a_prefix_attends_as_equation_3_says(builder):
    # softmax over the prefix's keys and the row's own; worked out by hand for one head of the first layer
    policy = builder("bert")()
    build("techniques", "prefix", {"length": 2}).attach(policy, 0)
    module = policy.network.encoder.layer[0].attention.self
    x = policy.network.embeddings(
        torch.tensor([[5, 6, 7]]), position_ids=torch.tensor([[2, 3, 4]])
    )  # behind the two virtual tokens
    with torch.no_grad():
        q, k, v = (layer(x)[0, :, :8] for layer in (module.query, module.key, module.value))
        prefix = module.get_submodule(PREFIX)
        scores = q @ torch.cat([prefix.keys[0], k]).T / 8**0.5
        expected = torch.softmax(scores, dim=-1) @ torch.cat([prefix.values[0], v])
        torch.testing.assert_close(module(x)[0][0, :, :8], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["prefix", "prompt"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_prompt_or_prefix_computes_what_its_tokens_would(architecture, name, builder):
    # untrained, it begins as the embeddings of real tokens, or as their keys and values: the same as these tokens before each row
    policy, plain = builder(architecture)(), builder(architecture)()
    ids = plain.tokenizer("my parcel", add_special_tokens=False)["input_ids"]
    build("techniques", name, {"text": "my parcel", "length": len(ids)}).attach(policy, 0)
    rows = [torch.tensor([9, 11, 40]), torch.tensor([20, 21, 5, 6])]
    with torch.no_grad():
        found = policy.hidden(pack([Row(index, row) for index, row in enumerate(rows)]))
        longer = [torch.cat([torch.tensor(ids), row]) for row in rows]
        whole = plain.hidden(pack([Row(index, row) for index, row in enumerate(longer)]))
        parts = [part[len(ids) :] for part in torch.split(whole, [len(row) for row in longer])]
    torch.testing.assert_close(found, torch.cat(parts), rtol=1e-5, atol=1e-5)
    prompts = [row.tolist() for row in rows]
    expected = list(generate(plain, [ids + prompt for prompt in prompts], 6, frozenset()))
    assert list(generate(policy, prompts, 6, frozenset())) == expected


@pytest.mark.parametrize("name", ["prefix", "prompt"])
def test_virtual_tokens_use_up_context(name, builder):
    policy = builder("gpt2")()
    before = policy.context
    made = build("techniques", name, {"length": 10})
    made.attach(policy, 0)
    assert policy.context == before - 10
    row = Row(0, torch.arange(3, 3 + policy.context) % 90)
    assert torch.isfinite(policy.hidden(pack([row]))).all()  # the last position is the model's last
    made.detach(policy)
    assert policy.context == before


@pytest.mark.parametrize(
    ("name", "settings", "architecture", "error", "words"),
    [
        ("bitfit", {}, "llama", ModelError, "no biases to learn. Use technique 'ia3' or 'lora'"),
        ("prefix", {"length": 128}, "gpt2", ModelError, "Allowed: 1 to 120"),
        ("prompt", {"length": 500}, "gpt2", ModelError, "Allowed: 1 to 120"),
        ("full", {"layers": 3}, "bert", ModelError, "Allowed: 1 to 2, or all"),
        ("full", {"layers": 0}, "bert", RecipeError, "layers"),
        ("lora", {"variant": "dora", "init": "pissa"}, "bert", RecipeError, "do not go together"),
        ("lora", {"init": "pissa", "rank": 40}, "bert", RecipeError, "rank is 40"),
        ("lora", {"targets": "q_proj("}, "llama", RecipeError, "not a regular expression"),
        ("qlora", {"targets": ["nothing"]}, "llama", ModelError, "Its layers end in"),
        ("adapter", {"placement": "below"}, "llama", RecipeError, "houlsby"),
        ("qlora", {"bits": "int4"}, "llama", RecipeError, "nf4"),
    ],
)
def test_what_cannot_be_is_said(name, settings, architecture, error, words, builder):
    with pytest.raises(error, match=words.replace("(", r"\(")):
        build("techniques", name, settings).attach(builder(architecture)(), 0)


@pytest.mark.parametrize("name", ["prefix", "prompt", "adapter"])
def test_what_does_not_merge_says_so(name, builder):
    policy = builder("llama")()
    made = build("techniques", name, {})
    made.attach(policy, 0)
    with pytest.raises(ModelError, match="cannot be merged"):
        made.merge(policy)


def test_the_second_factor_learns_at_its_own_rate(builder, examples):
    # LoRA+: one step of Adam moves every number by its rate, whatever the gradient; B begins at zero
    policy = builder("llama")()
    objective = build("objectives", "sft", {})
    build("techniques", "lora", {"learning_rate_ratio": 4.0}).attach(policy, 0)
    plan = tiny_plan(policy, num_steps=1, learning_rate=1e-3)
    training = Training.begin(policy, objective, plan)
    before = policy.network.model.layers[0].self_attn.v_proj.down.detach().clone()
    train(objective, policy, examples, plan, training)
    layer = policy.network.model.layers[0].self_attn.v_proj
    assert torch.allclose(layer.up.detach().abs().max(), torch.tensor(4e-3), rtol=1e-3)
    assert torch.equal(layer.down.detach(), before)  # B was zero, so A had no gradient yet
    assert sorted({group["lr_ratio"] for group in training.optimiser.param_groups}) == [1.0, 4.0]


@pytest.mark.parametrize(("bits", "least", "most"), [("nf4", 0.5, 0.6), ("int8", 1.0, 1.15)])
def test_a_quantised_layer_takes_the_memory_it_says(bits, least, most):
    # bytes a weight: 4 bits, and of 64 weights an 8-bit scale, whose 256 share one of 32 bits: 0.516; 8 bits, and 32 of a row of 256
    layer = torch.nn.Linear(256, 512)
    held = Quantised(layer, bits)
    assert least <= held.num_bytes / layer.weight.numel() <= most
    error = float((held.weight - layer.weight).detach().abs().mean() / layer.weight.detach().abs().mean())
    assert error < (0.12 if bits == "nf4" else 0.01)


def test_nf4_has_the_papers_values():
    # Dettmers et al. 2023, appendix E, rounded there to these; a block whose largest weight is 1 is held exactly
    paper = [-1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004, 0.0,
             0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0]  # fmt: skip
    layer = torch.nn.Linear(64, 4, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(paper * 4).expand(4, 64))
    torch.testing.assert_close(Quantised(layer, "nf4").weight, layer.weight.detach(), rtol=1e-5, atol=1e-5)


COMMON: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 128, "initializer_range": 0.1, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
CAPS: dict[str, Any] = {"head_dim": 8, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "MistralForCausalLM": COMMON | {"num_key_value_heads": 2, "sliding_window": 4},
    "Gemma2ForCausalLM": COMMON | CAPS | {"num_key_value_heads": 2, "sliding_window": 4},
    "GPTNeoXForCausalLM": COMMON,
    "OPTForCausalLM": COMMON | {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "FalconForCausalLM": COMMON | {"new_decoder_architecture": False, "multi_query": True, "alibi": False},
    "BloomForCausalLM": {"vocab_size": 97, "hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.1},
}
REFUSED = {
    ("prefix", "FalconForCausalLM"),
    ("prefix", "BloomForCausalLM"),
    ("ia3", "FalconForCausalLM"),
    ("ia3", "BloomForCausalLM"),
}
REFUSED |= {("adapter", "FalconForCausalLM"), ("adapter", "BloomForCausalLM")}


@pytest.fixture(scope="module")
def other_policies():
    made: dict[str, Policy] = {}
    for name, settings in ARCHITECTURES.items():
        cls = getattr(transformers, name)
        network = random_network(cls, cls.config_class(**settings))
        network.requires_grad_(False)
        tokenizer = tiny_tokenizer("gpt2")
        tokenizer.chat_template = PLAIN_TEMPLATE
        made[name] = Policy(network, tokenizer, "decoder", Source(name, None, ""), probe(network, "decoder"))  # type: ignore[arg-type]
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", ["prefix", "prompt", "adapter", "ia3"])
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_other_architectures_pack_and_write_or_are_refused(name, architecture, other_policies, examples):
    policy = copy.deepcopy(other_policies[architecture])
    made, objective = (
        build("techniques", name, {"length": 5} if name in {"prefix", "prompt"} else {}),
        build("objectives", "sft", {}),
    )
    if (name, architecture) in REFUSED:
        with pytest.raises(ModelError, match="Use technique"):
            made.attach(policy, 0)
        return
    made.attach(policy, 0)
    train(objective, policy, examples, tiny_plan(policy, num_steps=3, learning_rate=1e-2, max_length=100))
    rows = whole_step(objective, policy, examples)
    alone = slope(objective, policy, rows, max_tokens=1)
    for found in (slope(objective, policy, rows), slope(objective, policy, rows, padded=True)):
        assert found.losses["lm"] == pytest.approx(alone.losses["lm"], rel=1e-6)
    if architecture != "BloomForCausalLM":  # it takes no positions, so prompts of unequal length cannot stand in one batch
        prompts = [policy.tokenizer(example.text)["input_ids"] for example in examples[:3]]
        together = list(generate(policy, prompts, 5, frozenset()))
        assert together == [next(generate(policy, [prompt], 5, frozenset())) for prompt in prompts]


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "bert"])
def test_the_outline_names_what_runs(architecture, builder):
    found = outline(builder(architecture)())
    assert len(found.blocks) == 2 and found.num_attended == 2
    block = found.blocks[0]
    endings = {
        "llama": (("k_proj", "v_proj"), "o_proj", "down_proj"),
        "gpt2": (("c_attn",), "attn.c_proj", "mlp.c_proj"),
        "bert": (("key", "value"), "attention.output.dense", "layer.0.output.dense"),
    }[architecture]
    (attention,) = block.attentions
    assert [name.rpartition(".")[2] for name in attention.keys_values] == list(endings[0])
    assert attention.output.endswith(endings[1]) and (block.feed_forward or "").endswith(endings[2])
