"""TRL's SFTTrainer: padding-free, bf16, no gradient checkpointing, loss on the answer."""

from __future__ import annotations

import transformers
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from bench.train.drivers.trainer import Marks, arguments, flat, frozen_dtype, with_adapter
from bench.train.meter import Meter
from bench.train.task import Measured, Task, drive


def train(task: Task) -> Measured:
    transformers.logging.set_verbosity_error()
    meter = Meter()
    network = AutoModelForCausalLM.from_pretrained(
        task.model, dtype=frozen_dtype(task), attn_implementation=task.settings.get("attention", "sdpa")
    )
    rows = [{"input_ids": row["ids"], "completion_mask": mask(row["ids"], row["supervised_from"])} for row in flat(task)]
    settings = SFTConfig(
        **arguments(task),
        use_liger_kernel=bool(task.settings.get("liger")),
        padding_free=True,
        max_length=None,  # with a length its padding-free rows are wrong on a processor
        completion_only_loss=True,
        train_sampling_strategy="sequential",
        shuffle_dataset=False,
    )
    trainer = SFTTrainer(
        model=with_adapter(network, task),
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(task.model),
        callbacks=[Marks(meter)],
    )
    trainer.train()
    more = (("peft",) if task.mode == "lora" else ()) + (("liger-kernel", "flash-attn") if task.gpu else ())
    return meter.measured(("torch", "transformers", "trl", "accelerate", *more))


def mask(ids: list[int], supervised_from: int) -> list[int]:
    return [int(place >= supervised_from) for place in range(len(ids))]


if __name__ == "__main__":
    drive(train)
