"""Tiny models with random, seeded weights, made in code and written to a folder, and examples that suit any objective.

A model of two layers on the processor is what tests use instead of a mock: it trains, saves and loads like a large one.
"""

from __future__ import annotations

import copy
import itertools
import string
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm
from transformers.utils.logging import disable_progress_bar

from whet.models.load import load_policy
from whet.models.policy import Policy
from whet.models.quantised import Quantised
from whet.types import Example, Message

Architecture = Literal["llama", "gpt2", "bert", "masked-bert", "t5", "bart"]
"""masked-bert is bert with a masked-language head; t5 and bart are encoder-decoders."""

CONTEXT = 128

THINGS = ("card", "parcel", "ticket")
LABELS = ("billing", "delivery", "travel")
OPENINGS = (
    "my {} is lost",
    "where is the {}",
    "i need a new {} please",
    "the {} does not work any more and i am not happy about it",
)
ANSWERS = ("we are sorry", "it is on its way", "please call us about the {} today", "ok")


def tiny_texts(*colours: str) -> list[tuple[str, str]]:
    """Return labelled texts, (text, label): each opening with each thing in each of these colours."""
    things = list(zip(THINGS, LABELS, strict=True))
    return [(opening.format(f"{colour} {thing}"), label) for colour in colours for thing, label in things for opening in OPENINGS]


def tiny_examples(number: int = 12) -> list[Example]:
    """Return examples of different lengths that have every field: text, label, labels, token_labels, value, messages, chosen and rejected.

    Some are of equal length, so that they share one product in attention. Label and value follow from one word of the text,
    so that they can be learnt.
    """
    examples = []
    for index, (opening, kind) in enumerate(itertools.islice(itertools.cycle(itertools.product(OPENINGS, range(3))), number)):
        thing, urgent = THINGS[kind], opening is OPENINGS[3]
        text, answer = opening.format(thing), ANSWERS[index % 4].format(thing)
        messages = [Message("user", text), Message("assistant", answer)]
        if index % 5 == 4:
            messages = [
                Message("system", "be kind"),
                *messages,
                Message("user", "thanks"),
                Message("assistant", "you are welcome"),
            ]
        examples.append(
            Example(
                id=index,
                file="tiny.jsonl",
                line=index + 1,
                text=text,
                label=LABELS[kind],
                labels=(LABELS[kind], "urgent") if urgent else (LABELS[kind],),
                token_labels=tuple(f"B-{LABELS[kind].upper()}" if word == thing else "O" for word in text.split()),
                value=float(kind) + 0.5 * urgent,
                messages=tuple(messages),
                chosen=answer,
                rejected="no",
                tags={"kind": thing},
            )
        )
    return examples


def tiny_judged(number: int = 12) -> list[Example]:
    """Return examples whose one answer is good or bad, by turns; the bad ones all say no."""
    good = tiny_examples(number)
    bad = [replace(one, messages=(*(one.prompt or ()), Message("assistant", "no")), label="bad") for one in good]
    return [replace(one, label="good") if one.id % 2 == 0 else bad[one.id] for one in good]


def tiny_sums(number: int = 12) -> list[Example]:
    """Return prompts whose expected answer is a number, the sum in the question."""
    pairs = [(place, place * place % 7 + 1) for place in range(number)]
    turns = [(Message("user", f"what is {a} + {b}?"), Message("assistant", str(a + b))) for a, b in pairs]
    return [Example(id=place, file="sums.jsonl", line=place + 1, messages=said) for place, said in enumerate(turns)]


def tiny_tasks(number: int = 12) -> list[Example]:
    """Return examples of three tasks, called one, two and three, of which there are 3 to 2 to 1."""
    names = ("one", "one", "two", "one", "two", "three")
    return [replace(example, task=names[example.id % len(names)]) for example in tiny_examples(number)]


def write_tiny(folder: Path, architecture: Architecture, seed: int = 0) -> Path:
    """Write a tiny model with its tokenizer, as `save_pretrained` does. Returns the folder; `load_policy(str(folder))` reads it."""
    tokenizer = tiny_tokenizer(architecture)
    network = tiny_network(architecture, len(tokenizer), seed)
    disable_progress_bar()
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def policy_factory(folder: Path, *, masked: bool = False) -> Callable[[], Policy]:
    """Return a function that gives a fresh policy of a model folder at each call; the folder is read once."""
    loaded = load_policy(str(folder), masked=masked)
    return lambda: copy.deepcopy(loaded)


def tiny_network(architecture: Architecture, vocabulary: int, seed: int = 0) -> PreTrainedModel:
    """Return a network of two layers and width 32, its weights drawn from `seed`."""
    spread: dict[str, Any] = {"initializer_range": 0.1, "vocab_size": vocabulary}
    if architecture == "llama":
        return random_network(
            LlamaForCausalLM,
            LlamaConfig(
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=CONTEXT,
                bos_token_id=1,
                eos_token_id=2,
                **spread,
            ),
            seed,
        )
    if architecture == "gpt2":
        config = GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT, bos_token_id=0, eos_token_id=0, **spread)
        return random_network(GPT2LMHeadModel, config, seed)
    if architecture in {"t5", "bart"}:
        return _two_sided(architecture, vocabulary, seed)
    encoder = BertConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        **spread,
    )
    return random_network(BertForMaskedLM if architecture == "masked-bert" else BertModel, encoder, seed)


def _two_sided(architecture: Architecture, vocabulary: int, seed: int) -> PreTrainedModel:
    if architecture == "t5":  # its own draws are for a factor of 1; relative positions, so it has no longest row
        config = T5Config(
            vocab_size=vocabulary,
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            relative_attention_num_buckets=8,
            relative_attention_max_distance=32,
            pad_token_id=0,
            eos_token_id=2,
            decoder_start_token_id=0,
        )
        return random_network(T5ForConditionalGeneration, config, seed)
    config = BartConfig(
        vocab_size=vocabulary,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=CONTEXT,
        init_std=0.1,
        dropout=0.0,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_eos_token_id=2,
    )
    network = random_network(BartForConditionalGeneration, config, seed)
    generator = torch.Generator().manual_seed(seed)
    network.get_buffer("final_logits_bias").copy_(torch.randn(1, vocabulary, generator=generator) * 0.1)  # as Marian's is
    return network


def random_network(cls: Any, config: PreTrainedConfig, seed: int = 0) -> PreTrainedModel:
    """Return a network of this class whose parameters are all drawn: biases and norms too, which models begin at 0 and 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: PreTrainedModel = cls(config)
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim < 2:
                    parameter += 0.1 * torch.randn_like(parameter)
    return network.eval()


def tiny_tokenizer(architecture: Architecture) -> PreTrainedTokenizerFast:
    """Return a tokenizer of characters, of words for the encoder. Llama's puts its start token before a text, T5's an end behind it."""
    if architecture in {"bert", "masked-bert"}:
        return _word_tokenizer()
    two_sided = architecture in {"t5", "bart"}
    special = ["<|endoftext|>"] if architecture == "gpt2" else ["<pad>" if two_sided else "<unk>", "<s>", "</s>"]
    characters = sorted({*string.ascii_letters, *string.digits, *string.punctuation, " ", "\n"})
    vocabulary = {token: number for number, token in enumerate([*special, *characters])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=special[0]))
    made.decoder = decoders.Fuse()
    names = {"bos_token": special[0], "eos_token": special[0]}
    if architecture == "llama":
        names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
        )
    if two_sided:
        names = {"pad_token": "<pad>", "eos_token": "</s>"} | ({"bos_token": "<s>"} if architecture == "bart" else {})
        before = "<s> " if architecture == "bart" else ""
        made.post_processor = processors.TemplateProcessing(
            single=f"{before}$A </s>", pair=f"{before}$A </s> $B:1 </s>:1", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=CONTEXT, **names)


def _word_tokenizer() -> PreTrainedTokenizerFast:
    texts = [*OPENINGS, *ANSWERS, "be kind thanks you are welcome no", *THINGS]
    words = sorted(
        {word for text in texts for word in text.replace("{}", "").split()} | set(string.ascii_lowercase + string.punctuation)
    )
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate([*special, *words])}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=CONTEXT, **names)


def as_float64(policy: Policy) -> Policy:
    """Turn the policy into double precision, in place, norms too, which transformers computes in fp32 at most in Llama and T5."""
    beside = [other.network for other in (policy.reference, policy.teacher) if other is not None]
    for network in (policy.network, *beside):
        for name, module in list(network.named_modules()):
            if isinstance(module, LlamaRMSNorm | T5LayerNorm):
                norm = nn.RMSNorm(module.weight.shape[0], eps=float(module.variance_epsilon))
                norm.weight = module.weight
                network.set_submodule(name, norm)
            elif isinstance(module, Quantised):
                module.dtype = torch.float64
        network.double()
    policy.heads.double()
    return policy
