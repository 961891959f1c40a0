"""LLaMA-Factory, by the function that its command calls: bf16, no gradient checkpointing, the template that adds nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bench.train.meter import Meter
from bench.train.task import Measured, Task, drive, text_of


def train(task: Task) -> Measured:
    os.environ["DISABLE_VERSION_CHECK"] = "1"  # it wants other releases than torch's own present one allows
    from llamafactory.train import tuner

    from bench.train.drivers.trainer import Marks

    meter = Meter()
    tuner.run_exp(settings(task), callbacks=[Marks(meter)])
    return meter.measured(("torch", "transformers", "llamafactory", "accelerate", "peft"))


def settings(task: Task) -> dict[str, Any]:
    """Write the rows as texts, and return what its recipe would say."""
    folder, steps = Path(task.scratch), task.steps()
    rows = [spoken(row) for step in steps for row in step]
    (folder / "rows.json").write_text(json.dumps(rows))
    (folder / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.json"}}))
    chosen: dict[str, Any] = {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": task.model,
        "finetuning_type": task.mode,
        "template": "empty",
        "dataset": "rows",
        "dataset_dir": str(folder),
        "cutoff_len": 1024,
        "output_dir": str(folder / "out"),
        "per_device_train_batch_size": len(steps[0]),
        "max_steps": len(steps),
        "learning_rate": task.learning_rate,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "bf16": True,
        "use_cpu": True,
        "optim": "adamw_torch_fused",
        "disable_gradient_checkpointing": True,
        "disable_shuffling": True,
        "disable_tqdm": True,
        "flash_attn": "sdpa",
        "seed": 0,
    }
    if task.start is not None:
        chosen |= {"adapter_name_or_path": task.start, "lora_rank": task.rank, "lora_alpha": task.alpha, "lora_target": "all"}
    return chosen


def spoken(row: dict[str, Any]) -> dict[str, str]:
    """Return a row in words, without the end token, which is added."""
    begin = row["supervised_from"]
    return {"instruction": text_of(row["ids"][:begin]), "input": "", "output": text_of(row["ids"][begin:-1])}


if __name__ == "__main__":
    drive(train)
