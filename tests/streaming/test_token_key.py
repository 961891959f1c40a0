"""Kept tokens are found again only where all that decides them is the same."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from whet.recipe_parts import Choice
from whet.stages import token_key as keys
from whet.stages.token_key import token_key


def inputs():
    """All that decides, as the key is given it."""
    return {
        "objective": "sft",
        "settings": {"a": 1},
        "sha256": "5e" * 32,
        "num_virtual": 0,
        "context": 512,
        "max_length": 128,
        "files": {"mine.py": "00"},
        "more": {"columns": {"text": "message", "clean": ["unicode"]}, "rows": "ab"},
        "code": "c0",
        "library": "5.0",
    }


CHANGES = {
    "objective": "pretrain",
    "settings": {"a": 2},
    "sha256": "5f" * 32,
    "num_virtual": 20,
    "context": 256,
    "max_length": 127,
    "files": {"mine.py": "01"},
    "more": {"columns": {"text": "message", "clean": ["html"]}, "rows": "ab"},
    "code": "c1",
    "library": "5.1",
}


def key(found, monkeypatch):
    monkeypatch.setattr(keys, "code_hash", lambda: found["code"])
    monkeypatch.setattr(keys.importlib.metadata, "version", lambda name: found["library"])
    policy = SimpleNamespace(
        source=SimpleNamespace(sha256=found["sha256"]), num_virtual=found["num_virtual"], context=found["context"]
    )
    choice = Choice(name=found["objective"], settings=found["settings"])
    return token_key(choice, policy, found["max_length"], found["files"], found["more"])


def test_whatever_decides_tokens_makes_another_key(monkeypatch):
    assert inputs().keys() == CHANGES.keys()
    begun = key(inputs(), monkeypatch)
    assert key(inputs(), monkeypatch) == begun
    changed = {name: key(inputs() | {name: value}, monkeypatch) for name, value in CHANGES.items()}
    assert begun not in changed.values() and len(set(changed.values())) == len(CHANGES)


@pytest.mark.parametrize("seed", range(30))
def test_two_keys_are_one_where_all_that_decides_is_the_same_and_nowhere_else(seed, monkeypatch):
    draw = random.Random(seed)
    first, second = ({name: draw.choice([value, CHANGES[name]]) for name, value in inputs().items()} for _ in range(2))
    second = second if draw.random() < 0.5 else dict(reversed(first.items()))
    assert (key(first, monkeypatch) == key(second, monkeypatch)) == (first == second)


def test_the_package_is_hashed_as_it_stands(tmp_path, monkeypatch):
    (tmp_path / "whet").mkdir()
    (tmp_path / "whet" / "__init__.py").write_text("")
    monkeypatch.setattr(keys.whet, "__file__", str(tmp_path / "whet" / "__init__.py"))
    found = set()
    for content in ("a = 1", "a = 2", "a = 1\n"):
        (tmp_path / "whet" / "rows.py").write_text(content)
        keys.code_hash.cache_clear()
        found.add(keys.code_hash())
    keys.code_hash.cache_clear()
    assert len(found) == 3
