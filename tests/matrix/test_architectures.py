"""Every architecture of the table: packed as padded, trained, saved, loaded, merged, written with; with each technique that fits it.

One of each kind runs with the quick tests, all of them with the slow ones.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from architectures import ARCHITECTURES, write

from whet.engine.cut import pack
from whet.engine.generate import generate
from whet.engine.targets import never_written, source_ids, target_start, written_targets
from whet.errors import ModelError
from whet.models.load import load_policy
from whet.models.policy import Policy
from whet.plugins import build
from whet.testing.agreement import same_slope
from whet.testing.steps import slope, tiny_plan, train, whole_step
from whet.testing.techniques import (
    merging_changes_no_output,
    outputs,
    saved_is_loaded,
    training_reduces_the_loss,
    what_is_written_is_the_likeliest,
)
from whet.types import Row

QUICK = ("Gemma2", "Roberta", "Marian")
OBJECTIVES = {"encoder": "masked", "decoder": "sft", "encoder-decoder": "seq2seq"}
NUM_WRITTEN = 8
PACKED_LAYERS = ("ia3", "adapter", "prefix")
"""Techniques that must see where a network attends."""

Loaded = Callable[..., Policy]
everywhere = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in ARCHITECTURES]
)
those = {
    kind: [
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
        for name, made in ARCHITECTURES.items()
        if made.kind == kind
    ]
    for kind in OBJECTIVES
}


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root, verbosity = tmp_path_factory.mktemp("architectures"), transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()

    def folder(name: str) -> Path:
        return root / name if (root / name).is_dir() else write(name, root / name)

    yield folder
    transformers.logging.set_verbosity(verbosity)


@pytest.fixture(scope="module")
def loaded(folder_of: Callable[[str], Path]) -> Loaded:
    """A function that gives a fresh policy of an architecture, an encoder with its masked-language head unless told otherwise."""
    held: dict[tuple[str, bool], Policy] = {}

    def load(name: str, masked: bool = True) -> Policy:
        key = (name, masked and ARCHITECTURES[name].kind == "encoder")
        if key not in held:
            held[key] = load_policy(str(folder_of(name)), masked=key[1])
        return copy.deepcopy(held[key])

    return load


def objective_of(name):
    return build("objectives", OBJECTIVES[ARCHITECTURES[name].kind], {})


def trained(policy, name, examples, technique, steps=3):
    objective = objective_of(name)
    objective.prepare(policy, examples)
    technique.attach(policy, 0)
    train(objective, policy, examples, tiny_plan(policy, num_steps=steps, learning_rate=1e-2))
    return policy


def assert_cut_in_any_way_is_the_same(policy, objective, examples):
    rows = whole_step(objective, policy, examples)
    alone = slope(objective, policy, rows, max_tokens=1)
    same_slope(alone, slope(objective, policy, rows), False, "packing")
    same_slope(alone, slope(objective, policy, rows, padded=True), False, "padding")


@everywhere
def test_packed_equals_padded_or_the_architecture_is_padded(name, loaded, examples):
    policy, made = loaded(name), ARCHITECTURES[name]
    assert policy.kind == made.kind
    assert policy.ability.packs == made.packs, f"the probe found {policy.ability}"
    objective = objective_of(name)
    build("techniques", "full", {}).attach(policy, 0)
    assert_cut_in_any_way_is_the_same(policy, objective, examples)


@everywhere
def test_one_row_is_what_transformers_computes(name, loaded, folder_of, examples):
    policy, made = loaded(name), ARCHITECTURES[name]
    network = getattr(transformers, made.network).from_pretrained(folder_of(name)).eval()
    objective = objective_of(name)
    objective.prepare(policy, examples)
    rows = [row for unit in whole_step(objective, policy, examples).units for row in unit]
    with torch.no_grad():
        if made.kind == "encoder-decoder":
            asked = [{"input_ids": row.source[None], "decoder_input_ids": row.ids[None]} for row in rows]
            theirs = torch.cat([network(**one, output_hidden_states=True).decoder_hidden_states[-1][0] for one in asked])
        else:
            theirs = torch.cat([network.base_model(input_ids=row.ids[None]).last_hidden_state[0] for row in rows])
    rows_in_order = sorted(rows, key=lambda row: (row.num_tokens, rows.index(row)))
    parts = dict(zip((id(row) for row in rows), torch.split(theirs, [len(row.ids) for row in rows]), strict=True))
    expected = torch.cat([parts[id(row)] for row in rows_in_order])
    found = outputs(policy, objective, examples)
    assert float((found - expected).abs().max() / expected.std()) < 1e-5


@everywhere
@pytest.mark.parametrize(
    "law", [training_reduces_the_loss, saved_is_loaded, merging_changes_no_output, what_is_written_is_the_likeliest]
)
def test_low_rank_updates_keep_the_law(law, name, loaded, examples):
    law(build("techniques", "lora", {"rank": 4}), lambda: loaded(name), objective_of(name), examples)


@everywhere
def test_merged_and_saved_it_is_a_plain_model_of_transformers(name, loaded, examples, tmp_path):
    made, technique = ARCHITECTURES[name], build("techniques", "lora", {"rank": 4})
    policy = trained(loaded(name), name, examples, technique)
    before = outputs(policy, objective_of(name), examples)
    technique.merge(policy)
    policy.network.save_pretrained(tmp_path)
    policy.tokenizer.save_pretrained(tmp_path)
    again = load_policy(str(tmp_path), masked=made.kind == "encoder")
    found = outputs(again, objective_of(name), examples)
    assert float((found - before).abs().max() / before.std()) < 1e-5
    untuned = outputs(loaded(name), objective_of(name), examples)
    assert float((found - untuned).abs().max() / before.std()) > 1e-3, "training changed nothing, so this has shown nothing"


@everywhere
def test_all_weights_trained_are_saved_and_loaded(name, loaded, examples):
    law_of = build("techniques", "full", {})
    saved_is_loaded(law_of, lambda: loaded(name), objective_of(name), examples)


SETTINGS = {"full": {"layers": 1}, "prefix": {"length": 4}, "prompt": {"length": 4}, "lora": {"variant": "dora", "rank": 4}}


@everywhere
@pytest.mark.parametrize("technique", ["full", "lora", "ia3", "adapter", "prefix", "prompt", "bitfit"])
def test_each_technique_trains_and_packs_or_says_why_not(technique, name, loaded, examples):
    policy, objective, made = loaded(name), objective_of(name), build("techniques", technique, SETTINGS.get(technique, {}))
    attends = name not in {"Falcon", "DebertaV2"}  # where attention goes through no interface
    has_biases = any(key.endswith("bias") for key, _ in policy.network.base_model.named_parameters())
    if (technique in PACKED_LAYERS and not attends) or (technique == "bitfit" and not has_biases):
        with pytest.raises(ModelError, match="Use technique"):
            made.attach(policy, 0)
        return
    trained(policy, name, examples, made, steps=2)
    assert_cut_in_any_way_is_the_same(policy, objective, examples)


@pytest.mark.parametrize("name", those["decoder"])
@pytest.mark.parametrize("technique", ["", "lora", "prefix", "prompt"])
def test_a_decoder_writes_what_it_writes_alone(technique, name, loaded, folder_of, examples):
    policy = loaded(name)
    prompts = [policy.tokenizer(example.text)["input_ids"] for example in examples[:4]]
    if technique:
        if technique == "prefix" and name == "Falcon":
            pytest.skip("its attention goes through no interface")
        trained(policy, name, examples, build("techniques", technique, SETTINGS.get(technique, {})))
        expected = [next(generate(policy, [prompt], NUM_WRITTEN, frozenset())) for prompt in prompts]
    else:
        network = transformers.AutoModelForCausalLM.from_pretrained(folder_of(name)).eval()
        options = {"max_new_tokens": NUM_WRITTEN, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        ids = [torch.tensor([prompt]) for prompt in prompts]
        made = [network.generate(one, attention_mask=torch.ones_like(one), **options) for one in ids]
        expected = [out[0, len(prompt) :].tolist() for out, prompt in zip(made, prompts, strict=True)]
    assert list(generate(policy, prompts, NUM_WRITTEN, frozenset())) == expected


@pytest.mark.parametrize("name", those["encoder-decoder"])
def test_an_encoder_decoder_writes_what_transformers_writes(name, loaded, folder_of, examples):
    policy = loaded(name)
    network = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder_of(name)).eval()
    sources = [source_ids(policy, example.text, 64) for example in examples[:4]]
    start = target_start(policy)
    options = {
        "max_new_tokens": NUM_WRITTEN, "do_sample": False, "num_beams": 1, "suppress_tokens": never_written(policy),
        "decoder_input_ids": torch.tensor([start]), "forced_eos_token_id": None, "eos_token_id": policy.end_id,
    }  # fmt: skip
    expected = []
    for source in sources:
        ids = torch.tensor([source])
        written = network.generate(ids, attention_mask=torch.ones_like(ids), **options)[0, len(start) :].tolist()
        expected.append(written[: written.index(policy.end_id)] if policy.end_id in written else written)
    assert list(written_targets(policy, sources, NUM_WRITTEN)) == expected


@pytest.mark.parametrize("name", [*those["decoder"], *those["encoder"], *those["encoder-decoder"]])
def test_a_prompt_begins_as_its_tokens_would(name, loaded):
    # before its first step a prompt of a text is that text before each row, within the windows; an encoder reads a source behind it
    policy, plain = loaded(name, masked=False), loaded(name, masked=False)
    text, row = plain.tokenizer("my", add_special_tokens=False)["input_ids"], [9, 11, 40, 12]
    build("techniques", "prompt", {"text": "my", "length": len(text)}).attach(policy, 0)
    body = plain.network.get_encoder() if plain.kind == "encoder-decoder" else plain.network.base_model
    with torch.no_grad():
        expected = body(input_ids=torch.tensor([text + row])).last_hidden_state[0, len(text) :]

        found = policy.hidden(pack([Row(0, torch.tensor(row)), Row(1, torch.tensor(row[:2]))]))[: len(row)]
    assert float((found - expected).abs().max() / expected.std()) < 1e-4
