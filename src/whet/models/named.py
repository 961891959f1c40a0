"""Models that a plugin's settings name: a finished run's, or a base model. Something learns from them, so their hashes are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from whet import plugins
from whet.errors import ModelError, RunError
from whet.models.builtin import model_hash
from whet.models.load import load_policy, source_folder
from whet.models.policy import Policy
from whet.models.save import POLICY, Card, load_tuned, read_card


def load_run_model(folder: Path) -> tuple[Policy, Card]:
    """Return the tuned policy of a run's model folder, frozen, and what the folder says of itself. Raises RunError."""
    card = read_card(folder)
    technique: Any = plugins.build("techniques", card.technique, card.technique_settings)
    return load_tuned(folder, technique), card


def load_named(name: str) -> tuple[Policy, Card | None]:
    """Return a policy by a run's folder, or by the name of a base model, frozen. Raises RunError, ModelError."""
    if is_run(name):
        return load_run_model(Path(name) / "model")
    return load_policy(name), None


def is_run(name: str) -> bool:
    """Whether a name is a run's folder: one that is not trained to its end yet too."""
    return (Path(name) / "manifest.json").is_file() or (Path(name) / "model" / POLICY).is_file()


def named_hash(name: str) -> str:
    """Return one SHA-256 over the files that decide what a named model computes. A run's base is held to its own hash when it is loaded."""
    return model_hash(Path(name) / "model" if is_run(name) else source_folder(name))


def check_unchanged(known: dict[str, str]) -> None:
    """Raise RunError where a named model is another one now than when the run was begun. `known`: name to SHA-256."""
    for name, expected in known.items():
        try:
            found = named_hash(name)
        except (OSError, ModelError):
            raise RunError(
                f"{name}: what the run learns from is not there any more. Bring it back, or begin a new run."
            ) from None
        if found != expected:
            raise RunError(
                f"{name}: what the run learns from has changed since it was begun (SHA-256 {found[:12]}, then {expected[:12]}). Bring the "
                "old one back, or begin a new run."
            )
