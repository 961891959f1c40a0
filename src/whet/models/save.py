"""A tuned policy as a folder, and back: what the technique learnt, the heads, the tokenizer, and what is needed to use them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pydantic
import torch
from torch import nn

from whet.display import quoted
from whet.errors import RunError
from whet.files import write_json
from whet.models.load import load_policy
from whet.models.policy import OF_TASK, Policy
from whet.models.tensors import load_tensors, save_tensors
from whet.protocols import Technique

POLICY, HEADS, BASE = "policy.json", "heads.safetensors", "base"
"""BASE is the base model's folder within a model folder that brings it along, as that of a bundle does."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a model folder says of itself; `policy.json`."""

    source: str
    source_sha256: str
    technique: str
    technique_settings: dict[str, Any]
    objective: str
    objective_settings: dict[str, Any]
    classes: tuple[str, ...]
    max_length: int
    """Longest row in tokens, as in training."""
    max_tokens: int
    """Tokens of one micro-batch, as in training: scoring needs no more memory than that."""
    compressor: str = ""
    """How its weights were made smaller; empty where they were not."""
    compressor_settings: dict[str, Any] = field(default_factory=dict)
    masked: bool = False
    """Whether the network has its masked-language head."""
    tasks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Of several tasks, each one's classes; `classes` are then none."""


CARD = pydantic.TypeAdapter(Card)


def save_policy(policy: Policy, technique: Technique, card: Card, folder: Path) -> None:
    """Write the tuned policy into an existing folder."""
    technique.save(policy, folder)
    if len(policy.heads):
        save_tensors(policy.heads.state_dict(), folder / HEADS)
    policy.tokenizer.save_pretrained(folder)
    write_json(folder / POLICY, asdict(card))


def read_card(folder: Path) -> Card:
    """Return what a model folder says of itself. Raises RunError."""
    again = f"whet train --resume {quoted(folder.parent)}"
    try:
        card = CARD.validate_json((folder / POLICY).read_bytes(), strict=True)
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{folder}: no trained model here. If training was interrupted, run: {again}") from None
    except (ValueError, OSError) as error:
        raise RunError(f"{folder / POLICY}: damaged ({_fault(error)}). Restore it, or make it again with: {again}") from None
    if card.max_length < 2 or card.max_tokens < 1:
        raise RunError(f"{folder / POLICY}: damaged (max_length or max_tokens is too small). Make it again with: {again}")
    return card


def _fault(error: ValueError | OSError) -> str:
    if isinstance(error, pydantic.ValidationError):
        return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in error.errors()[:3])
    return str(error)


def load_base(card: Card, folder: Path | None = None) -> Policy:
    """Return the base model that a card names, untuned; the one in the model folder, where that has one.

    Raises RunError where its weights are others now.
    """
    own = folder is not None and (folder / BASE).is_dir()
    policy = load_policy(f"{folder}/{BASE}" if own else card.source, masked=card.masked)
    check_base(policy, card.source_sha256)
    policy.max_tokens = card.max_tokens
    return policy


def check_base(base: Policy, sha256: str) -> None:
    """Raise RunError where a base model has other weights than those that the run was begun on."""
    found = base.source
    if found.sha256 != sha256:
        raise RunError(
            f"{found.name}: has other weights now or another configuration, tokenizer or chat template (SHA-256 {found.sha256[:12]} in "
            f"{found.folder}) than those that the run was begun on ({sha256[:12] or 'unknown'}). "
            "Bring those back, for a hub model by downloading its earlier revision, or train again."
        )


def load_tuned(folder: Path, technique: Technique) -> Policy:
    """Return the tuned policy of a model folder; `technique` is the one its card names. Raises RunError where its base has changed."""
    card = read_card(folder)
    own_weights = (folder / "config.json").is_file()
    policy = load_policy(str(folder), masked=card.masked) if own_weights else load_base(card, folder)
    policy.max_tokens = card.max_tokens
    if (folder / HEADS).is_file():
        _load_heads(policy, card, folder / HEADS)
    if not card.compressor:  # else the technique was merged
        technique.load(policy, folder)
    policy.classes = card.classes
    for name, classes in card.tasks.items():
        policy.task(name).classes = classes
    learnt = [*policy.trainable(), *policy.heads.named_parameters()]
    wrong = next((name for name, tensor in learnt if not bool(torch.isfinite(tensor).all())), None)
    if wrong is not None:
        raise RunError(f"{folder}: its weights hold numbers that are not finite (first in {wrong}). {_again(folder)}")
    if card.max_length > policy.context + policy.num_virtual:
        raise RunError(
            f"{folder / POLICY}: damaged (max_length is {card.max_length:,}, and the model reads {policy.context:,} tokens). "
            f"{_again(folder)}"
        )
    policy.network.requires_grad_(False)
    policy.heads.requires_grad_(False)
    return policy


def _load_heads(policy: Policy, card: Card, file: Path) -> None:
    """Make the heads of a file. Raises RunError where they do not fit the network or the classes."""
    tensors = load_tensors(file)
    for name in sorted({key.rpartition(".")[0] for key in tensors}):
        weight, bias = tensors.get(f"{name}.weight"), tensors.get(f"{name}.bias")
        fits = weight is not None and weight.ndim == 2 and weight.shape[1] == policy.width and name.isidentifier()
        if weight is None or not fits or bias is None or bias.shape != weight.shape[:1]:
            raise RunError(f"{file}: '{name}' is no head for states of {policy.width} numbers. {_again(file.parent)}")
        task, _, head = name.rpartition(OF_TASK)
        classes = card.tasks.get(task, ()) if task else card.classes
        if classes and len(weight) != len(classes):
            raise RunError(
                f"{file}: '{name}' has {len(weight)} outputs, and {POLICY} {len(classes)} classes. {_again(file.parent)}"
            )
        if (task and task not in card.tasks) or (card.tasks and not task):
            raise RunError(f"{file}: '{name}' is the head of no task that {POLICY} names. {_again(file.parent)}")
        policy.heads[name] = nn.Linear(weight.shape[1], len(weight))
        if task:
            policy.task(task).heads[head] = policy.heads[name]
    try:
        policy.heads.load_state_dict(tensors)
    except RuntimeError:
        raise RunError(f"{file}: holds tensors that belong to no head. {_again(file.parent)}") from None
    policy.heads.to(policy.device)


def _again(folder: Path) -> str:
    return f"Delete that folder, and make it again with: whet train --resume {quoted(folder.parent)}"
