"""Every objective keeps the laws. A new file in objectives/ is tested here without being named."""

from __future__ import annotations

from typing import Any

import pytest

from whet import plugins
from whet.testing.objectives import OBJECTIVE_LAWS, killed_and_resumed_gives_the_same_bytes, training_reduces_the_loss
from whet.testing.tiny import Architecture, tiny_judged, tiny_tasks

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "classify": [{"kind": "several"}, {"kind": "number"}],
    "contrastive": [{"group": 6, "temperature": 0.5}, {"group": 4, "loss_type": "cosine"}],
    "masked": [{"whole_words": True, "share": 0.4}],
}
"""Settings to try besides the defaults."""
REWARDED = {"reward": {"name": "regex", "pattern": "[a-f]"}, "max_new_tokens": 6}
MIXED = {"objectives": {"one": "classify", "two": {"name": "classify", "kind": "number"}, "three": "tokens"}}
TEACHER = "TEACHER"
"""Stands for the folder of a tiny model that is not the one which learns."""
REQUIRED: dict[str, dict[str, Any]] = {
    "tasks": MIXED,
    "distill": {"teacher": TEACHER},
    "ppo": REWARDED,
    "grpo": REWARDED | {"group": 4, "max_new_tokens": 3},
}
"""Settings without a default."""
SLOW: dict[str, list[dict[str, Any]]] = {
    "distill": [{"alpha": 1.0, "temperature": 0.7}, {"of": "text"}],
    "tasks": [{"by": "temperature", "temperature": 5.0, "weights": {"two": 0.3}}],
    "dpo": [{"loss_type": "ipo"}],
    "reward": [{"centre": 0.1}],
    "kto": [{"good_weight": 1.5, "bad_weight": 0.5}],
    "ppo": [{"updates": 3, "gamma": 0.9, "kl": 0.02}],  # at a kl of 0.2 the pull of the reference outweighs so small a reward
    "grpo": [{"per": "answer", "scale": False, "updates": 2}, {"kl": 0.0}],
}
"""Settings that are tried in the slow part."""
ONLY: dict[str, tuple[Architecture, ...]] = {"lm": ("llama",), "masked": ("masked-bert",), "seq2seq": ("t5", "bart")}
"""Where a head is of some architectures only."""
LONG = {("seq2seq", "bart"), ("grpo", "llama"), ("distill", "llama")}
"""What is tried in the slow part, since another architecture, or an objective of the same kind (ppo, sft), is in the quick one."""
TRAINED = {training_reduces_the_loss, killed_and_resumed_gives_the_same_bytes}
"""Laws that train for a while: in the quick part those of the objectives below only."""
TRAINED_SOON = {"classify", "sft"}
EXAMPLES = {"kto": tiny_judged, "tasks": tiny_tasks}
"""Where the usual examples do not have what is learnt from."""


def cases() -> list[Any]:
    found: list[Any] = []
    for name in plugins.names("objectives"):
        head = plugins.load("objectives", name).head
        architectures: tuple[Architecture, ...] = ONLY.get(head, ("llama", "bert"))
        required = REQUIRED.get(name, {})
        for settings in [{}, *VARIANTS.get(name, [])]:
            found += [
                pytest.param(
                    name, required | settings, architecture, marks=[pytest.mark.slow] if (name, architecture) in LONG else []
                )
                for architecture in architectures
            ]
        for settings in SLOW.get(name, []):
            found += [pytest.param(name, required | settings, "llama", marks=pytest.mark.slow)]
    return found


def tried() -> list[Any]:
    """Each law on each case. With the quick tests one case of each objective runs, and of the heads that objectives share both kinds of model.

    Laws that train for a while are among the quick ones for one objective of each shape: a class, an answer.
    """
    begun: set[str] = set()
    found: list[Any] = []
    for case in cases():
        name, settings, _ = case.values
        later = name in begun and not (name == "classify" and not settings)
        for law in OBJECTIVE_LAWS:
            long = later or (law in TRAINED and name not in TRAINED_SOON)
            found.append(pytest.param(*case.values, law, marks=pytest.mark.slow if long else case.marks))
        begun |= set() if case.marks else {name}
    return found


def label(case: object) -> str | None:
    if callable(case):
        return case.__name__
    told = [str(value) for value in case.values() if not isinstance(value, dict)] if isinstance(case, dict) else []
    return ("-".join(told) or "default") if isinstance(case, dict) else None


@pytest.mark.parametrize(("name", "settings", "architecture", "law"), tried(), ids=label)
def test_objective_keeps_the_law(law, name, settings, architecture, builder, examples, teacher):
    settings = {key: str(teacher) if value == TEACHER else value for key, value in settings.items()}
    made = EXAMPLES[name]() if name in EXAMPLES else examples
    law(plugins.build("objectives", name, settings), builder(architecture), made)


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("sft", "llama"),
        ("pretrain", "llama"),
        ("dpo", "llama"),
        ("classify", "bert"),
        ("masked", "masked-bert"),
        ("seq2seq", "t5"),
    ],
)
def test_no_row_is_longer_than_it_may_be(name, architecture, builder, examples):
    objective, policy = plugins.build("objectives", name, {}), builder(architecture)()
    objective.prepare(policy, examples)
    lengths = {limit: [row.length for unit in objective.units(examples, policy, limit) for row in unit] for limit in (9, 10**9)}
    assert max(lengths[10**9]) > 9, "nothing needs to be cut, so this has shown nothing"
    assert max(lengths[9]) <= 9
