"""A tiny token classification model that knows a few names, as `save_pretrained` writes one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

PERSONS = ("anna", "berg", "peter", "ada", "lovelace", "ito")
PLACES = ("london", "bergen", "main", "street", "7")
OTHERS = "my card is lost says in lives and the i am at , . ' s that was not here yesterday please write to mr".split()
LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-MISC")
LONGEST = 32
"""Tokens of a text that it reads at a time."""


def label_of(word: str, before: str) -> int:
    if word in PERSONS:
        return 2 if before in PERSONS else 1
    if word in PLACES:
        return 4 if before in PLACES else 3
    return 0


def tokenizer() -> PreTrainedTokenizerFast:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: number for number, word in enumerate([*special, *PERSONS, *PLACES, *OTHERS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", model_max_length=LONGEST
    )  # fmt: skip


def trained(words: PreTrainedTokenizerFast) -> BertForTokenClassification:
    draw, size = random.Random(0), len(words)
    torch.manual_seed(0)
    network = BertForTokenClassification(
        BertConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=LONGEST,
            vocab_size=size, id2label=dict(enumerate(LABELS)), label2id={name: place for place, name in enumerate(LABELS)},
        )
    )  # fmt: skip
    steps = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(120):
        rows = [[draw.choice([*PERSONS, *PLACES, *OTHERS, *OTHERS[:10]]) for _ in range(20)] for _ in range(16)]
        ids = torch.tensor([[2, *(words.get_vocab()[word] for word in row), 3] for row in rows])
        targets = torch.tensor(
            [[0, *(label_of(word, before) for word, before in zip(row, ["", *row], strict=False)), 0] for row in rows]
        )
        loss = network(input_ids=ids, labels=targets).loss
        steps.zero_grad()
        loss.backward()
        steps.step()
    return network.eval()


@pytest.fixture(scope="session")
def name_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the model."""
    folder, words = tmp_path_factory.mktemp("names") / "tagger", tokenizer()
    disable_progress_bar()
    trained(words).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
