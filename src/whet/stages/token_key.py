"""What decides the tokens of a row beside its contents, as a hash: where anything of it is another, the key is another."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import whet
from whet.models.policy import Policy
from whet.recipe_parts import Choice


def token_key(
    objective: Choice, policy: Policy, max_length: int, files: Mapping[str, str], more: Mapping[str, Any] | None = None
) -> str:
    """Return the hash of what makes tokens of a row's contents.

    `files` are the user's own plugins by their SHA-256, and `more` is what else decides, as JSON: of rows that are read anew, their columns.
    The policy's source stands for its tokenizer and chat template.
    """
    decides = {
        "base": policy.source.sha256,
        "objective": objective.model_dump(mode="json"),
        "max_length": max_length,
        "virtual": policy.num_virtual,
        "context": policy.context,
        "files": dict(files),
        "code": code_hash(),
        "libraries": {name: importlib.metadata.version(name) for name in ("transformers", "tokenizers")},
        **(more or {}),
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


@cache
def code_hash() -> str:
    """Return the SHA-256 of the package's own modules, so that no version of it trusts what another one made."""
    found, package = hashlib.sha256(), Path(whet.__file__).parent
    for file in sorted(package.rglob("*.py")):
        found.update(f"{file.relative_to(package)} {file.stat().st_size} ".encode() + file.read_bytes())
    return found.hexdigest()
