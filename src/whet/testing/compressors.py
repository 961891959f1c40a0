"""The laws of a compressor, for the built-in ones and for your own.

A law is a function of (compressor, build_policy, objective, examples) that raises AssertionError. `build_policy` gives the same fresh
policy at each call.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from whet.engine.cut import cut
from whet.models.compressed import COMPRESSED, save_compressed
from whet.models.load import load_policy
from whet.models.policy import Policy
from whet.models.rounded import make_dense
from whet.models.tensors import save_tensors
from whet.protocols import Compressor, Objective
from whet.testing.steps import ALL_TOKENS, BuildPolicy, same_bytes
from whet.testing.techniques import outputs
from whet.types import Batch, Example, Unit

ALONE = 1e-5
"""Largest difference of a row alone from the same row among others, over the spread of the output."""

CompressorLaw = Callable[[Compressor, BuildPolicy, Objective, Sequence[Example]], None]


def check_compressor(
    compressor: Compressor, build_policy: BuildPolicy, objective: Objective, examples: Sequence[Example]
) -> None:
    """Raise AssertionError at the first law that does not hold."""
    for law in COMPRESSOR_LAWS:
        law(compressor, build_policy, objective, examples)


def compressing_twice_gives_the_same_bytes(
    compressor: Compressor, build_policy: BuildPolicy, objective: Objective, examples: Sequence[Example]
) -> None:
    """The result depends on the network and the calibration rows alone."""
    first, again = (_state(_compressed(compressor, build_policy, objective, examples)) for _ in range(2))
    different = same_bytes(first, again)
    assert not different, f"compressed twice, {different[:3]} differ"


def heads_and_vectors_stay(
    compressor: Compressor, build_policy: BuildPolicy, objective: Objective, examples: Sequence[Example]
) -> None:
    """Heads, biases and norms keep their bits, and every matrix its size; something did change."""
    before, policy = _prepared(build_policy, objective, examples), _compressed(compressor, build_policy, objective, examples)
    different = same_bytes(dict(before.heads.state_dict()), dict(policy.heads.state_dict()))
    assert not different, f"compressing changes the heads: {different}"
    make_dense(policy.network)
    ours, theirs = before.network.state_dict(), policy.network.state_dict()
    assert ours.keys() == theirs.keys(), f"a layer is gone, or new: {sorted(ours.keys() ^ theirs.keys())[:3]}"
    vectors = {name for name, tensor in ours.items() if tensor.ndim < 2}
    changed = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not vectors.intersection(changed), f"vectors are changed: {sorted(vectors.intersection(changed))[:3]}"
    assert changed, "no weight was changed, so nothing was compressed"
    assert all(ours[name].shape == theirs[name].shape for name in ours), "a weight has another shape"


def saved_is_smaller_and_loads_as_it_was(
    compressor: Compressor, build_policy: BuildPolicy, objective: Objective, examples: Sequence[Example]
) -> None:
    """Written and read again the network computes the same bits, and the file is smaller than that of the plain weights."""
    policy = _compressed(compressor, build_policy, objective, examples)
    before = outputs(policy, objective, examples)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save_compressed(policy.network, folder)
        policy.tokenizer.save_pretrained(folder)
        loaded = load_policy(place)
        loaded.heads, loaded.classes = policy.heads, policy.classes
        size = (folder / COMPRESSED).stat().st_size
        save_tensors(dict(build_policy().network.named_parameters()), folder / "plain.safetensors")
        plain = (folder / "plain.safetensors").stat().st_size
    change = float((outputs(loaded, objective, examples) - before).abs().max())
    assert change == 0.0, f"saved and loaded, the last hidden states differ by {change:.3g}"
    assert size < plain, f"the file has {size:,} bytes, and the plain weights have {plain:,}"


def a_row_does_not_depend_on_the_others(
    compressor: Compressor, build_policy: BuildPolicy, objective: Objective, examples: Sequence[Example]
) -> None:
    """A row alone gives what it gives among others."""
    policy = _compressed(compressor, build_policy, objective, examples)
    units = _units(policy, objective, examples)
    together = _hidden(policy, list(cut(units, ALL_TOKENS)))
    alone = _hidden(policy, [batch for unit in units for batch in cut([unit], ALL_TOKENS)])
    spread = float(torch.cat(list(together.values())).std())
    change = max(float((together[row] - alone[row]).abs().max()) for row in together) / spread
    assert change <= ALONE, f"a row among others differs from the same row alone by {change:.3g} of the spread"


COMPRESSOR_LAWS: tuple[CompressorLaw, ...] = (
    compressing_twice_gives_the_same_bytes,
    heads_and_vectors_stay,
    saved_is_smaller_and_loads_as_it_was,
    a_row_does_not_depend_on_the_others,
)


def _prepared(build_policy: BuildPolicy, objective: Objective, examples: Sequence[Example]) -> Policy:
    policy = build_policy()
    objective.prepare(policy, examples)
    return policy


def _compressed(compressor: Compressor, build_policy: BuildPolicy, objective: Objective, examples: Sequence[Example]) -> Policy:
    policy = _prepared(build_policy, objective, examples)
    rows = compressor.calibration_rows
    calibration = list(cut(_units(policy, objective, examples[:rows]), ALL_TOKENS)) if rows else []
    return compressor.compress(policy, calibration)


def _units(policy: Policy, objective: Objective, examples: Sequence[Example]) -> list[Unit]:
    return objective.units(examples, policy, policy.context - 2)


def _hidden(policy: Policy, batches: Sequence[Batch]) -> dict[int, Tensor]:
    found: dict[int, Tensor] = {}
    with torch.no_grad():
        for batch in batches:
            parts = torch.split(policy.hidden(batch), list(batch.lengths))
            found |= dict(zip(batch.row_ids, parts, strict=True))
    return found


def _state(policy: Policy) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in policy.network.state_dict().items()}
