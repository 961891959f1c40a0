"""What transformers loads and cannot be trained here is refused when it is loaded, in words that say why; damaged folders too."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers
from architectures import SIZES, TEXT, TWO_SIDED, WIDTH, write

from whet import cli
from whet.engine.cut import pack
from whet.engine.generate import generate
from whet.errors import ModelError
from whet.models.load import load_policy
from whet.plugins import build
from whet.testing.agreement import same_slope
from whet.testing.steps import slope, tiny_plan, train, whole_step
from whet.testing.tiny import random_network, tiny_tokenizer
from whet.types import Row

V = 110
OTHER = {"vocab_size": V, "hidden_size": WIDTH, "num_hidden_layers": 2}
IMAGES = {key: value for key, value in SIZES.items() if key != "max_position_embeddings"}
GPT = {"vocab_size": V, "n_embd": WIDTH, "n_layer": 2, "n_head": 4, "n_positions": 96}
BOTH = {
    "num_encoder_layers": 2, "num_decoder_layers": 2, "num_encoder_attention_heads": 4, "num_decoder_attention_heads": 4,
    "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
}  # fmt: skip
REFUSED = {
    "XLNet": ("XLNetLMHeadModel", {"vocab_size": V, "d_model": WIDTH, "n_layer": 2, "n_head": 4, "d_inner": 48}, "llama", "sees the tokens that come after one"),
    "Rwkv": ("RwkvForCausalLM", OTHER | {"attention_hidden_size": WIDTH}, "llama", "key-value cache"),
    "OpenAIGPT": ("OpenAIGPTLMHeadModel", GPT, "llama", "token by token with a key-value cache"),
    "FNet": ("FNetForMaskedLM", OTHER | {"intermediate_size": 48}, "masked-bert", "other states where padding stands behind it"),
    "ProphetNet": ("ProphetNetForConditionalGeneration", {"vocab_size": V, "hidden_size": WIDTH, **BOTH}, "t5", "predicts more than the next one"),
    "ViT": ("ViTForImageClassification", IMAGES | {"image_size": 16, "patch_size": 8}, None, "architecture 'vit' is neither an encoder"),
    "Wav2Vec2": ("Wav2Vec2ForCTC", IMAGES | {"vocab_size": V}, None, "architecture 'wav2vec2' is neither an encoder"),
    "Whisper": ("WhisperForConditionalGeneration", {"vocab_size": V, **{key: value for key, value in TWO_SIDED.items() if "position" not in key}, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}, None, "'whisper' is an encoder-decoder that transformers has no text head for"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet():
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(before)


def written(name, folder, cls, settings, tokenizer):
    config = getattr(transformers, f"{name}Config")(**settings)
    random_network(getattr(transformers, cls), config).save_pretrained(folder)
    if tokenizer is not None:
        tiny_tokenizer(tokenizer).save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of architectures that transformers itself keeps as they were
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_is_an_error_that_says_why(name, tmp_path):
    cls, settings, tokenizer, words = REFUSED[name]
    with pytest.raises(ModelError, match=words) as caught:
        load_policy(written(name, tmp_path / name, cls, settings, tokenizer))
    assert str(tmp_path / name) in str(caught.value)


UNUSUAL = {
    "Mixtral": ("MixtralForCausalLM", TEXT | {"vocab_size": V, "num_key_value_heads": 2, "num_local_experts": 4}),
    "GptOss": ("GptOssForCausalLM", TEXT | {"vocab_size": V, "num_key_value_heads": 2, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 6, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}),
    "Mpt": ("MptForCausalLM", {"vocab_size": V, "d_model": WIDTH, "n_layers": 2, "n_heads": 4, "max_seq_len": 96}),
    "GPTNeo": ("GPTNeoForCausalLM", {"vocab_size": V, "hidden_size": WIDTH, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 96, "attention_types": [[["global", "local"], 1]]}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", UNUSUAL)
def test_experts_and_other_attention_train_and_write(name, tmp_path, examples):
    policy = load_policy(written(name, tmp_path / name, *UNUSUAL[name], "llama"))
    assert policy.context == 96
    objective = build("objectives", "sft", {})
    build("techniques", "lora", {"rank": 4}).attach(policy, 0)
    train(objective, policy, examples, tiny_plan(policy, num_steps=3, learning_rate=1e-2))
    rows = whole_step(objective, policy, examples)
    same_slope(slope(objective, policy, rows, max_tokens=1), slope(objective, policy, rows), False, "packing")
    prompts = [policy.tokenizer(example.text)["input_ids"] for example in examples[:3]]
    together = list(generate(policy, prompts, 5, frozenset()))
    assert together == [next(generate(policy, [prompt], 5, frozenset())) for prompt in prompts]


def changed(folder, **values):
    config = json.loads((folder / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture
def sharded(tmp_path):
    """A Qwen2 in several files, to spoil."""
    folder = write("Qwen2", tmp_path / "whole")
    out = tmp_path / "sharded"
    transformers.AutoModelForCausalLM.from_pretrained(folder).save_pretrained(out, max_shard_size="20KB")
    tiny_tokenizer("llama").save_pretrained(out)
    assert len(list(out.glob("model-*.safetensors"))) > 2
    return out


def first_shard(folder):
    return min(folder.glob("model-*.safetensors"))


SPOIL = {
    "a shard is missing": (lambda folder: first_shard(folder).unlink(), "1 of the 5 files .* model-00001.*missing|missing, such as model-00001"),
    "a shard is torn": (lambda folder: first_shard(folder).write_bytes(first_shard(folder).read_bytes()[:200]), "model-00001.* is torn or damaged"),
    "a shard is empty": (lambda folder: first_shard(folder).write_bytes(b""), "model-00001.* is torn or damaged"),
    "an unknown architecture": (lambda folder: changed(folder, model_type="nobody_knows"), "does not know its architecture.*nobody_knows.* install a transformers"),
    "code of its own": (lambda folder: changed(folder, model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}), "code of its own, which is never run"),
    "code of its own for a known architecture": (lambda folder: changed(folder, auto_map={"AutoModelForCausalLM": "own.Own"}), None),
    "no architecture": (lambda folder: changed(folder, model_type=""), "does not know its architecture"),
    "config.json is no JSON": (lambda folder: (folder / "config.json").write_text("{"), "cannot load"),
    "config.json is a list": (lambda folder: (folder / "config.json").write_text("[1]"), "cannot load|config.json"),
    "other sizes": (lambda folder: changed(folder, hidden_size=64), "other sizes than its weights have"),
    "quantised": (lambda folder: changed(folder, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}), "its weights are quantised"),
    "pickles only": (lambda folder: [(file.unlink(), (folder / "pytorch_model.bin").write_bytes(b"x")) for file in folder.glob("*.safetensors*")], "safetensors only"),
}  # fmt: skip


@pytest.mark.parametrize("what", SPOIL)
def test_a_damaged_folder_is_an_error_in_plain_words(what, sharded):
    spoil, words = SPOIL[what]
    spoil(sharded)
    if words is None:
        assert load_policy(str(sharded)).ability.packs  # transformers' own class is used, and the code is not run
        return
    with pytest.raises(ModelError, match=words) as caught:
        load_policy(str(sharded))
    assert "Traceback" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("what", ["a shard is missing", "an unknown architecture"])
def test_on_the_command_line_it_exits_with_1_and_leaves_nothing(what, sharded, tmp_path, monkeypatch, capsys):
    SPOIL[what][0](sharded)
    rows = "".join(json.dumps({"prompt": f"say {word}", "response": word}) + "\n" for word in map(str, range(40)))
    (tmp_path / "rows.jsonl").write_text(rows)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {sharded}\ndata: {{path: rows.jsonl, prompt: prompt, response: response}}\nobjective: sft\n")
    monkeypatch.setattr("sys.argv", ["whet", "train", str(recipe), "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 1 and str(sharded) in said and "Traceback" not in said
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_is_what_its_file_says(tmp_path):
    # for Qwen2 and others AutoTokenizer puts its own pre-tokenizer in the file's place, and adds a token of its own
    write("Qwen2", tmp_path / "qwen2")
    shutil.copytree(tmp_path / "qwen2", tmp_path / "again")
    policy, ours = load_policy(str(tmp_path / "qwen2")), tiny_tokenizer("llama")
    assert policy.tokenizer("where is my card?")["input_ids"] == ours("where is my card?")["input_ids"]
    assert len(policy.tokenizer) == len(ours)


def test_a_row_as_long_as_the_context_fits_and_positions_of_padding_are_left_out(tmp_path):
    policy = load_policy(str(write("Roberta", tmp_path / "roberta")))
    assert policy.context == 94  # of 96 positions two stand before the first token's
    long = torch.arange(94) % 60 + 5
    assert torch.isfinite(policy.hidden(pack([Row(0, long)]))).all()
