"""Networks of random, seeded weights with a tokenizer of numbered words, and an adapter's first values, as folders that every trainer reads.

Word `w17` is token 17, so that a trainer that takes text only trains on the very same tokens.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from bench.train.rows import END, END_OF_TEXT, FIRST, FREQUENT, START_OF_TEXT
from bench.train.works import ALPHA, RANK, SHAPES, Shape

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
CONTEXT = 2048
TEMPLATE = "{% for message in messages %}{{ message['content'] + ' ' }}{% endfor %}"
"""A conversation is its turns, one behind the other: nothing is added to the drawn tokens but the end token."""


def write_model(shape: Shape, folder: Path) -> None:
    """Write the network and its tokenizer."""
    torch.manual_seed(0)
    network(shape).save_pretrained(folder)
    tokenizer(shape).save_pretrained(folder)
    said = json.loads((folder / "tokenizer_config.json").read_text())
    said["tokenizer_class"] = "PreTrainedTokenizerFast"  # a name that older releases know too
    (folder / "tokenizer_config.json").write_text(json.dumps(said, indent=2) + "\n")


def network(shape: Shape) -> PreTrainedModel:
    sizes = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.inner,
    }
    if not shape.decodes:
        # no dropout, so that the losses of two trainers can be compared; the pooler is not used: texts are the mean of their tokens
        config = BertConfig(**sizes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        return BertModel(config, add_pooling_layer=False)
    sizes |= {"num_key_value_heads": shape.key_heads, "max_position_embeddings": CONTEXT, "tie_word_embeddings": True}
    sizes |= {"rms_norm_eps": 1e-5, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": END}
    if shape.kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**sizes))
    return Qwen2ForCausalLM(Qwen2Config(**sizes))


def tokenizer(shape: Shape) -> PreTrainedTokenizerFast:
    """Return a tokenizer in which word w17 is token 17, but for the special ones."""
    special = {0: "<pad>", 1: "<s>", END: "</s>", 3: "<unk>"}
    if not shape.decodes:
        special = {0: "[PAD]", 100: "[UNK]", START_OF_TEXT: "[CLS]", END_OF_TEXT: "[SEP]"}
    words = {special.get(token, f"w{token}"): token for token in range(shape.vocabulary)}
    made = Tokenizer(models.WordLevel(words, unk_token=special[3 if shape.decodes else 100]))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if shape.decodes:
        names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
        whole = PreTrainedTokenizerFast(tokenizer_object=made, chat_template=TEMPLATE, model_max_length=CONTEXT, **names)
        if (
            shape.kind == "qwen2"
        ):  # transformers reads it as Qwen's own, which cuts words into pieces, but for those that were added
            drawn = range(FIRST, FIRST + FREQUENT)
            whole.add_tokens([AddedToken(f"w{token}", lstrip=True, normalized=False, special=False) for token in drawn])
        return whole
    ends = [("[CLS]", START_OF_TEXT), ("[SEP]", END_OF_TEXT)]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=512, **names)


def write_start(shape: Shape, folder: Path) -> None:
    """Write an adapter in PEFT's format for every linear layer but the head: A drawn, B zero."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(1)
    width, keys, inner = shape.hidden, shape.key_width, shape.inner
    sizes = {"q_proj": (width, width), "k_proj": (width, keys), "v_proj": (width, keys), "o_proj": (width, width)}
    sizes |= {"gate_proj": (width, inner), "up_proj": (width, inner), "down_proj": (inner, width)}
    tensors = {}
    for layer in range(shape.layers):
        for target in TARGETS:
            part = "self_attn" if target in {"q_proj", "k_proj", "v_proj", "o_proj"} else "mlp"
            name, (num_in, num_out) = f"base_model.model.model.layers.{layer}.{part}.{target}", sizes[target]
            tensors[f"{name}.lora_A.weight"] = 0.02 * torch.randn(RANK, num_in, generator=generator)
            tensors[f"{name}.lora_B.weight"] = torch.zeros(num_out, RANK)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA, "lora_dropout": 0.0, "bias": "none"}
    config |= {"target_modules": list(TARGETS), "base_model_name_or_path": None, "inference_mode": False}
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    asked, place = sys.argv[1], Path(sys.argv[2])
    write_model(SHAPES[asked], place / "model")
    if SHAPES[asked].decodes:
        write_start(SHAPES[asked], place / "start")
