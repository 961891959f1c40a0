"""Every exporter keeps the laws, and other programs than the one it is checked with read the same numbers."""

from __future__ import annotations

import copy

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from whet import plugins
from whet.errors import ModelError
from whet.models.artefact import own_outputs
from whet.models.gguf_tokenizer import describe_tokenizer, rebuild_tokenizer
from whet.models.load import load_policy
from whet.models.save import Card
from whet.testing.exporters import EXPORTER_LAWS
from whet.testing.tiny import CONTEXT, tiny_examples, tiny_network

SLOW = {"onnx"}
CASES = [
    (name, *case)
    for name, cases in {
        "adapter": [("bert", "classify", "lora"), ("llama", "sft", "lora"), ("t5", "seq2seq", "lora")],
        "merged": [
            ("bert", "classify", "lora"),
            ("llama", "classify", "lora"),
            ("gpt2", "sft", "full"),
            ("bart", "seq2seq", "lora"),
        ],
        "gguf": [("bytes", "sft", "lora")],
        "onnx": [("bert", "classify", "lora"), ("llama", "sft", "full")],
    }.items()
    for case in cases
]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of bytes with merges, as most decoders have, trained on the tiny examples."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=["<|end|>", "<|turn|>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([example.text or "" for example in tiny_examples()], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>", bos_token="<|end|>", model_max_length=CONTEXT)


@pytest.fixture(scope="session")
def byte_llama(tmp_path_factory):
    """A function that gives a fresh tiny Llama with a tokenizer of bytes."""
    folder = tmp_path_factory.mktemp("bytes")
    tokenizer = byte_tokenizer()
    tiny_network("llama", len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    loaded = load_policy(str(folder))
    return lambda: copy.deepcopy(loaded)


@pytest.fixture
def of(builder, byte_llama):
    return lambda architecture: byte_llama if architecture == "bytes" else builder(architecture)


def test_every_exporter_has_a_case():
    assert {case[0] for case in CASES} == set(plugins.names("exporters"))


@pytest.mark.parametrize("law", EXPORTER_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize(
    ("name", "architecture", "objective", "technique"),
    [pytest.param(*case, marks=pytest.mark.slow if case[0] in SLOW else ()) for case in CASES],
)
@pytest.mark.filterwarnings("ignore")  # of the other programs
def test_exporter_keeps_the_law(law, name, architecture, objective, technique, of, examples):
    built = plugins.build("objectives", objective, {})
    law(plugins.build("exporters", name, {}), of(architecture), plugins.build("techniques", technique, {}), built, examples)


def card(policy, objective="sft"):
    return Card(policy.source.name, policy.source.sha256, "full", {}, objective, {}, policy.classes, 100, 4096)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_transformers_own_reader_of_gguf_gives_the_same_logits(byte_llama, tmp_path):
    policy, full = byte_llama(), plugins.build("techniques", "full", {})
    rows = [torch.arange(3, 20), torch.arange(40, 45)]
    ours = own_outputs(policy, rows)
    plugins.build("exporters", "gguf", {"type": "f32"}).write(policy, full, card(policy), tmp_path)
    read = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32).eval()
    for row, one in zip(rows, ours, strict=True):
        assert torch.allclose(read(row[None]).logits[0], one, atol=1e-4)


@pytest.mark.parametrize(("kind", "bound"), [("f16", 2.0**-11), ("q8_0", 0.5 / 127 + 2.0**-10)])
def test_a_gguf_file_is_read_back_within_half_a_step(kind, bound, byte_llama, tmp_path):
    policy, exporter = byte_llama(), plugins.build("exporters", "gguf", {"type": kind})
    exporter.write(policy, plugins.build("techniques", "full", {}), card(policy), tmp_path)
    read = exporter.read(tmp_path).tensors
    state = policy.network.state_dict()
    assert set(read) == set(state) - set(policy.network.all_tied_weights_keys or ())
    matrices = {
        name: float((read[name] - state[name]).abs().max() / state[name].abs().max()) for name in read if read[name].ndim > 1
    }
    assert 0 < max(matrices.values()) <= bound
    assert all(torch.equal(read[name], state[name]) for name in read if read[name].ndim == 1), "vectors stay fp32"


def test_a_tokenizer_of_bytes_comes_back_from_its_description(byte_llama):
    tokenizer = byte_llama().tokenizer
    made = rebuild_tokenizer(describe_tokenizer(tokenizer, len(tokenizer) + 3))
    for text in ("my card is lost", "Ünïcode  two spaces\n\t7,5", "a<|turn|>b<|end|>", ""):
        assert made.encode(text).ids == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_tokenizer_of_pieces_comes_back_from_its_description(stories):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(stories)
    said = describe_tokenizer(tokenizer, len(tokenizer))
    assert said.kind == "llama"
    made = rebuild_tokenizer(said)
    for text in ("Once upon a time, there was a dog.", "Ünïcode  two spaces\n\t7,5"):
        assert made.encode(text).ids == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_tokenizer_that_gguf_has_no_name_for_is_refused(builder):
    with pytest.raises(ModelError, match="GGUF has no place for this model's tokenizer"):
        describe_tokenizer(builder("llama")().tokenizer, 99)
    with pytest.raises(ModelError, match="WordLevel, not BPE"):
        describe_tokenizer(builder("bert")().tokenizer, 99)


@pytest.mark.filterwarnings("ignore")
def test_a_decoder_with_a_head_without_bias_becomes_a_standard_classifier(builder, examples, tmp_path):
    policy, objective = builder("llama")(), plugins.build("objectives", "classify", {})
    objective.prepare(policy, examples)
    with torch.no_grad():
        policy.heads["classify"].bias.zero_()
    rows = [row.ids for unit in objective.units(examples[:4], policy, 100) for row in unit]
    ours = own_outputs(policy, rows)
    exporter = plugins.build("exporters", "merged", {})
    exporter.write(policy, plugins.build("techniques", "full", {}), card(policy, "classify"), tmp_path)
    assert not (tmp_path / "head.safetensors").exists()
    read = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert tuple(read.config.id2label.values()) == policy.classes
    for row, one in zip(rows, ours, strict=True):
        assert torch.allclose(read(row[None]).logits[0], one, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_an_encoder_keeps_its_head_beside_it_and_the_page_says_how_to_use_it(builder, examples, tmp_path):
    policy, objective = builder("bert")(), plugins.build("objectives", "classify", {})
    objective.prepare(policy, examples)
    row = objective.units(examples[:1], policy, 100)[0][0].ids
    ours = own_outputs(policy, [row])[0]
    plugins.build("exporters", "merged", {}).write(
        policy, plugins.build("techniques", "full", {}), card(policy, "classify"), tmp_path
    )
    code = (tmp_path / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict = {}
    exec(code.replace("FOLDER", str(tmp_path)).replace("some text", examples[0].text), names)  # what a reader of the page runs
    assert torch.allclose(names["logits"][0], ours, atol=1e-4)


def test_what_a_format_has_no_place_for_is_said(builder, byte_llama, examples, tmp_path):
    full = plugins.build("techniques", "full", {})
    bert, gpt2 = builder("bert")(), builder("gpt2")()
    plugins.build("objectives", "classify", {}).prepare(bert, examples)
    gguf = plugins.build("exporters", "gguf", {})
    with pytest.raises(ModelError, match="models that write text"):
        gguf.write(bert, full, card(bert, "classify"), tmp_path)
    with pytest.raises(ModelError, match="architecture is gpt2"):
        gguf.write(gpt2, full, card(gpt2), tmp_path)
    with pytest.raises(ModelError, match="Export it as: merged"):
        plugins.build("exporters", "adapter", {}).write(gpt2, full, card(gpt2), tmp_path)
    scaled = byte_llama()
    scaled.network.config.rope_parameters = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
    with pytest.raises(ModelError, match="rotary"):
        gguf.write(scaled, full, card(scaled), tmp_path)
    plugins.build("compressors", "dynamic_int8", {}).compress(gpt2, [])
    with pytest.raises(ModelError, match="Export its parent run"):
        plugins.build("exporters", "merged", {}).write(gpt2, full, card(gpt2), tmp_path)
