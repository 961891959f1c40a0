"""What the drivers of Hugging Face's Trainer and its children have in common."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from bench.train.meter import Meter
from bench.train.task import Task


class Marks(TrainerCallback):
    """Marks the end of each step, and takes note of its loss."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def on_train_begin(self, *given: object, **named: object) -> None:
        self.meter.mark()

    def on_step_end(self, *given: object, **named: object) -> None:
        self.meter.mark()

    def on_log(self, *given: object, logs: dict[str, float] | None = None, **named: object) -> None:
        if logs and "loss" in logs:
            self.meter.losses.append(float(logs["loss"]))


def arguments(task: Task) -> dict[str, Any]:
    """Return what every Trainer is told: constant rate, nothing decayed, clipped, saved, validated or reported elsewhere."""
    return {
        "output_dir": task.scratch,
        "max_steps": len(task.steps()),
        "per_device_train_batch_size": len(task.steps()[0]),
        "learning_rate": task.learning_rate,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 0.0,
        "bf16": True,
        "use_cpu": not task.gpu,
        "optim": "adamw_torch_fused",
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": 0,
    }


def flat(task: Task) -> list[dict[str, Any]]:
    """Return the rows of all steps, in order."""
    return [row for step in task.steps() for row in step]


def frozen_dtype(task: Task) -> torch.dtype:
    """Return how the network's weights are held: frozen ones may be bf16, learning ones are fp32."""
    return torch.bfloat16 if task.settings.get("frozen") == "bf16" else torch.float32


def with_adapter(network: nn.Module, task: Task) -> nn.Module:
    """Return the network with the task's adapter at its first values; as it is where all weights learn."""
    if task.start is None:
        return network
    from peft import PeftModel  # not there where nobody asks for it

    return PeftModel.from_pretrained(network, task.start, is_trainable=True)
