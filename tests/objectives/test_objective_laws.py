"""Every objective keeps the laws. A new file in objectives/ is tested here without being named."""

from __future__ import annotations

from typing import Any

import pytest

from whet import plugins
from whet.testing.objectives import OBJECTIVE_LAWS
from whet.testing.tiny import Architecture

VARIANTS: dict[str, list[dict[str, Any]]] = {"classify": [{"kind": "several"}, {"kind": "number"}]}
"""Settings to try besides the defaults."""


def cases() -> list[tuple[str, dict[str, Any], Architecture]]:
    found = []
    for name in plugins.names("objectives"):
        decoder_only = plugins.load("objectives", name).head == "lm"
        architectures: tuple[Architecture, ...] = ("llama",) if decoder_only else ("llama", "bert")
        for settings in [{}, *VARIANTS.get(name, [])]:
            found += [(name, settings, architecture) for architecture in architectures]
    return found


def label(case: object) -> str | None:
    return "-".join(map(str, case.values())) or "default" if isinstance(case, dict) else None


@pytest.mark.parametrize("law", OBJECTIVE_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize(("name", "settings", "architecture"), cases(), ids=label)
def test_objective_keeps_the_law(law, name, settings, architecture, builder, examples):
    law(plugins.build("objectives", name, settings), builder(architecture), examples)
