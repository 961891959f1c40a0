"""HF Trainer, with PEFT for LoRA: rows padded to the longest of a step (they come grouped by length), bf16, no gradient checkpointing."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, Trainer, TrainingArguments
from transformers.modeling_outputs import SequenceClassifierOutput

from bench.train.drivers.trainer import Marks, arguments, flat, frozen_dtype, with_adapter
from bench.train.meter import Meter
from bench.train.task import Measured, Task, drive

IGNORED = -100


def train(task: Task) -> Measured:
    transformers.logging.set_verbosity_error()
    meter = Meter()
    if task.work.startswith("encoder"):
        network: nn.Module = MeanClassifier(task.model)
        collate = classes
    else:
        network = AutoModelForCausalLM.from_pretrained(task.model, dtype=frozen_dtype(task), attn_implementation="sdpa")
        network, collate = with_adapter(network, task), answers
    settings = TrainingArguments(**arguments(task), remove_unused_columns=False, train_sampling_strategy="sequential")
    trainer = Trainer(network, settings, train_dataset=flat(task), data_collator=collate, callbacks=[Marks(meter)])
    trainer.train()
    return meter.measured(("torch", "transformers", "accelerate") + (("peft",) if task.mode == "lora" else ()))


class MeanClassifier(nn.Module):
    """An encoder with a linear layer on the mean of its tokens: the same network that whet classifies with."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self.encoder = AutoModel.from_pretrained(model, add_pooling_layer=False, attn_implementation="sdpa")
        self.head = nn.Linear(self.encoder.config.hidden_size, 2)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> SequenceClassifierOutput:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
        mask = attention_mask[..., None]
        logits = self.head((states * mask).sum(1) / mask.sum(1)).float()
        return SequenceClassifierOutput(loss=nn.functional.cross_entropy(logits, labels), logits=logits)


def answers(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Return rows side by side, padded on the right, learnt from where their answers begin."""
    batch = side_by_side([row["ids"] for row in rows])
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED)
    for place, row in enumerate(rows):
        labels[place, : row["supervised_from"]] = IGNORED
    return batch | {"labels": labels}


def classes(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    return side_by_side([row["ids"] for row in rows]) | {"labels": torch.tensor([row["label"] for row in rows])}


def side_by_side(rows: list[list[int]]) -> dict[str, Tensor]:
    ids = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long()}


if __name__ == "__main__":
    drive(train)
