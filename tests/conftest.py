"""Tiny models, written once for all tests, and one thread, so that tests share the machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from whet.testing.steps import BuildPolicy
from whet.testing.tiny import Architecture, policy_factory, tiny_examples, write_tiny
from whet.types import Example

torch.set_num_threads(1)
SHARED = Path(__file__).resolve().parents[2] / "shared"
STORIES = SHARED / "models" / "stories260K"

Builder = Callable[[Architecture], BuildPolicy]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Architecture], Path]:
    """Folder of a tiny model, by architecture."""
    root, written = tmp_path_factory.mktemp("tiny"), {}

    def folder(architecture: Architecture) -> Path:
        if architecture not in written:
            written[architecture] = write_tiny(root / architecture, architecture)
        return written[architecture]

    return folder


@pytest.fixture(scope="session")
def builder(tiny_folder: Callable[[Architecture], Path]) -> Builder:
    """A function that gives fresh policies of a tiny model, by architecture."""
    found: dict[Architecture, BuildPolicy] = {}

    def build(architecture: Architecture) -> BuildPolicy:
        if architecture not in found:
            found[architecture] = policy_factory(tiny_folder(architecture), masked=architecture == "masked-bert")
        return found[architecture]

    return build


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of another tiny Llama with the same tokenizer."""
    return write_tiny(tmp_path_factory.mktemp("teacher") / "llama", "llama", seed=1)


@pytest.fixture(scope="session")
def examples() -> list[Example]:
    return tiny_examples()


@pytest.fixture(scope="session")
def stories() -> Path:
    """A really trained Llama of 260,032 parameters, where it is there."""
    if not STORIES.is_dir():
        pytest.skip("needs the model stories260K, which does not come with this project (../shared/models/stories260K)")
    return STORIES
