"""LitGPT, by the functions that its command calls: bf16-mixed, LoRA on every linear layer, rows padded to the longest of a step."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from litgpt import Config
from litgpt.args import EvalArgs, TrainArgs
from litgpt.data import DataModule
from litgpt.finetune import full, lora
from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama, copy_weights_qwen_2_5
from litgpt.utils import save_config
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader

from bench.train.meter import Meter
from bench.train.task import Measured, Task, drive

IGNORED = -100


class Done(Exception):  # no error: it ends a training whose steps are all done
    """All steps are done; what would follow is saving, merging and writing an example."""


def train(task: Task) -> Measured:
    meter, module = Meter(), lora if task.mode == "lora" else full
    module.get_lr_scheduler = constant  # its own warms up and falls
    module.chunked_cross_entropy = noting(module.chunked_cross_entropy, meter)
    steps = task.steps()
    checkpoint = converted(task)
    chosen: dict[str, Any] = {}
    if task.mode == "lora":
        layers = ("query", "key", "value", "projection", "mlp")
        chosen = {"lora_r": task.rank, "lora_alpha": task.alpha, "lora_dropout": 0.0}
        chosen |= {f"lora_{layer}": True for layer in layers}
    try:
        module.setup(
            checkpoint_dir=checkpoint,
            out_dir=Path(task.scratch) / "out",
            precision="bf16-mixed",
            devices=1,
            data=Rows(steps, meter),
            train=TrainArgs(
                save_interval=None,
                log_interval=1,
                global_batch_size=len(steps[0]),
                micro_batch_size=len(steps[0]),
                lr_warmup_steps=1,
                epochs=10,
                max_steps=len(steps) + 1,
            ),
            eval=EvalArgs(interval=10**9, initial_validation=False, final_validation=False, max_iters=1, max_new_tokens=1),
            optimizer=optimiser(task),
            seed=0,
            **chosen,
        )
    except Done:
        return meter.measured(("torch", "litgpt", "lightning"))
    raise RuntimeError("LitGPT ended before it had asked for all steps")


class Rows(DataModule):
    """The task's rows, step by step. A step ends when the next one is asked for."""

    def __init__(self, steps: list[list[dict[str, Any]]], meter: Meter) -> None:
        super().__init__()
        self.steps, self.meter = steps, meter

    def connect(self, *given: object, **named: object) -> None:
        pass

    def train_dataloader(self) -> DataLoader:
        return DataLoader([item(row) for step in self.steps for row in step], len(self.steps[0]), collate_fn=self._next)

    def val_dataloader(self) -> DataLoader:
        return DataLoader([item(self.steps[-1][0])], 1, collate_fn=collate)

    def _next(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        self.meter.mark()
        if len(self.meter.marks) > len(self.steps):
            raise Done
        return collate(rows)


def item(row: dict[str, Any]) -> dict[str, Any]:
    ids, begin = row["ids"], row["supervised_from"]
    return {"input_ids": torch.tensor(ids), "labels": torch.tensor([IGNORED] * begin + ids[begin:])}


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    batch = {
        name: torch.nn.utils.rnn.pad_sequence([row[name] for row in rows], batch_first=True, padding_value=padding)
        for name, padding in (("input_ids", 0), ("labels", IGNORED))
    }
    lengths = torch.tensor([[len(row["input_ids"])] for row in rows])
    return batch | {"token_counts": {"raw": lengths, "raw_plus_prompt_template": lengths}}


def constant(optimizer: torch.optim.Optimizer, warmup_steps: int, max_steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)


def noting(loss: Any, meter: Meter) -> Any:
    """Return the loss function as one that takes note of what it gives while learning."""

    def noted(*given: Any, **named: Any) -> Tensor:
        found = loss(*given, **named)
        if found.requires_grad:
            meter.losses.append(float(found.detach()))
        return found

    return noted


def optimiser(task: Task) -> dict[str, Any]:
    return {"class_path": "torch.optim.AdamW", "init_args": {"lr": task.learning_rate, "weight_decay": 0.0, "fused": True}}


def converted(task: Task) -> Path:
    """Write the network, with the adapter's first values, as LitGPT's own checkpoint. Returns its folder."""
    folder, source = Path(task.scratch) / "checkpoint", Path(task.model)
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((source / name).read_bytes())
    said = json.loads((source / "config.json").read_text())
    config, weights, state = described(said), load_file(source / "model.safetensors"), {}
    copy = copy_weights_qwen_2_5 if said["model_type"] == "qwen2" else copy_weights_hf_llama
    copy(config, defaultdict(dict), state, weights)
    if task.start is not None:
        state |= adapter(load_file(Path(task.start) / "adapter_model.safetensors"), config.n_layer)
    torch.save(state, folder / "lit_model.pth")
    save_config(config, folder)
    return folder


def described(said: dict[str, Any]) -> Config:
    """Return LitGPT's description of a network that transformers describes so."""
    return Config(
        name=said["model_type"],
        block_size=said["max_position_embeddings"],
        vocab_size=said["vocab_size"],
        padded_vocab_size=said["vocab_size"],
        n_layer=said["num_hidden_layers"],
        n_head=said["num_attention_heads"],
        n_embd=said["hidden_size"],
        n_query_groups=said["num_key_value_heads"],
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        attn_bias=said["model_type"] == "qwen2",
        norm_class_name="RMSNorm",
        norm_eps=said["rms_norm_eps"],
        mlp_class_name="LLaMAMLP",
        intermediate_size=said["intermediate_size"],
        rope_base=int(said["rope_parameters"]["rope_theta"]),
    )


def adapter(tensors: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Return an adapter in PEFT's format by LitGPT's names; A and B of queries, keys and values lie one behind the other."""
    names = {"attn.proj": "self_attn.o_proj", "mlp.fc_1": "mlp.gate_proj", "mlp.fc_2": "mlp.up_proj", "mlp.proj": "mlp.down_proj"}
    state = {}
    for layer in range(layers):
        here, there = f"transformer.h.{layer}", f"base_model.model.model.layers.{layer}"
        for part in ("lora_A", "lora_B"):
            read = [tensors[f"{there}.self_attn.{kind}_proj.{part}.weight"] for kind in "qkv"]
            state[f"{here}.attn.qkv.{part}"] = torch.cat(read)
            state |= {f"{here}.{name}.{part}": tensors[f"{there}.{other}.{part}.weight"] for name, other in names.items()}
    return state


if __name__ == "__main__":
    drive(train)
