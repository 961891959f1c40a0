"""A tuned policy as a folder, and back: what the technique learnt, the heads, the tokenizer, and what is needed to use them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from whet.errors import RunError
from whet.files import write_json
from whet.models.load import load_policy
from whet.models.policy import Policy
from whet.models.tensors import load_tensors, save_tensors
from whet.types import Technique

POLICY, HEADS = "policy.json", "heads.safetensors"


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
    cleaners: list[dict[str, Any]]
    """What is done to a text before the model sees it."""


def save_policy(policy: Policy, technique: Technique, card: Card, folder: Path) -> None:
    """Write the tuned policy into an existing folder."""
    technique.save(policy, folder)
    if len(policy.heads):
        save_tensors(policy.heads.state_dict(), folder / HEADS)
    policy.tokenizer.save_pretrained(folder)
    write_json(folder / POLICY, {field: getattr(card, field) for field in card.__dataclass_fields__})


def read_card(folder: Path) -> Card:
    """Return what a model folder says of itself. Raises RunError."""
    try:
        values = json.loads((folder / POLICY).read_text(encoding="utf-8"))
        return Card(**(values | {"classes": tuple(values["classes"])}))
    except FileNotFoundError:
        raise RunError(
            f"{folder}: no trained model here. If training was interrupted, run: whet train --resume {folder.parent}"
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(f"{folder / POLICY}: damaged ({error}). Train again, or restore the folder.") from None


def load_tuned(folder: Path, technique: Technique) -> Policy:
    """Return the tuned policy of a model folder; `technique` is the one its card names. Raises RunError where its base has changed."""
    card = read_card(folder)
    own_weights = (folder / "config.json").is_file()
    policy = load_policy(str(folder) if own_weights else card.source)
    if not own_weights and policy.source.sha256 != card.source_sha256:
        raise RunError(
            f"{folder}: was trained on other weights of {card.source} than those found now. Restore the base model, or train again."
        )
    if (folder / HEADS).is_file():
        tensors = load_tensors(folder / HEADS)
        for name in sorted({key.rpartition(".")[0] for key in tensors}):
            num_out, num_in = tensors[f"{name}.weight"].shape
            policy.heads[name] = nn.Linear(num_in, num_out)
        policy.heads.load_state_dict(tensors)
        policy.heads.to(policy.device)
    technique.load(policy, folder)
    policy.classes = card.classes
    policy.network.requires_grad_(False)
    policy.heads.requires_grad_(False)
    return policy
