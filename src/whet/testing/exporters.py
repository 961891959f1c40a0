"""The laws of an exporter, for the built-in ones and for your own.

A law is a function of (exporter, build_policy, technique, objective, examples) that raises AssertionError. `build_policy` gives the
same fresh policy at each call, whose `source.name` is a model folder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from whet.models.artefact import own_outputs, pooled_head
from whet.models.policy import Policy
from whet.models.save import Card
from whet.protocols import Artefact, Exporter, Objective, Technique
from whet.testing.steps import BuildPolicy, tiny_plan, train
from whet.types import Example

RATE = 1e-2

ExporterLaw = Callable[[Exporter, BuildPolicy, Technique, Objective, Sequence[Example]], None]


def check_exporter(
    exporter: Exporter, build_policy: BuildPolicy, technique: Technique, objective: Objective, examples: Sequence[Example]
) -> None:
    """Raise AssertionError at the first law that does not hold."""
    for law in EXPORTER_LAWS:
        law(exporter, build_policy, technique, objective, examples)


def what_is_read_answers_as_the_run(
    exporter: Exporter, build_policy: BuildPolicy, technique: Technique, objective: Objective, examples: Sequence[Example]
) -> None:
    """In the format's own program: outputs within the tolerance, the same tokens of every text, the same template; and training is in it."""
    policy = _trained(build_policy, technique, objective, examples)
    rows, sources = _rows(policy, objective, examples)
    ours = own_outputs(policy, rows, sources)
    untuned = build_policy()
    untuned.heads, untuned.classes = policy.heads, policy.classes
    moved = _difference(ours, own_outputs(untuned, rows, sources))
    with tempfile.TemporaryDirectory() as place:
        exporter.write(policy, technique, _card(policy), Path(place))
        artefact = exporter.read(Path(place))
        found = _difference(ours, artefact.outputs(rows, sources))
        assert found <= exporter.tolerance, (
            f"read back, outputs differ by {found:.3g} of their spread; its tolerance is {exporter.tolerance:g}"
        )
        assert moved > 2 * exporter.tolerance, f"training moved the outputs by {moved:.3g} only, so this law has shown nothing"
        _same_tokens(policy, artefact, examples)
        template = policy.tokenizer.chat_template
        same = policy.kind != "decoder" or artefact.chat_template == template
        assert same, f"the chat template was read back as {artefact.chat_template!r}"
        state = policy.network.state_dict()
        for name, tensor in artefact.tensors.items():
            gap = float((tensor - state[name].float()).abs().max() / state[name].abs().max())
            assert gap <= exporter.tensor_tolerance, f"{name} was read back {gap:.3g} of its largest weight off"


EXPORTER_LAWS: tuple[ExporterLaw, ...] = (what_is_read_answers_as_the_run,)


def _trained(build_policy: BuildPolicy, technique: Technique, objective: Objective, examples: Sequence[Example]) -> Policy:
    policy = build_policy()
    objective.prepare(policy, examples)
    technique.attach(policy, seed=0)
    train(objective, policy, examples, tiny_plan(policy, num_steps=8, learning_rate=RATE))
    return policy


def _rows(policy: Policy, objective: Objective, examples: Sequence[Example]) -> tuple[list[Tensor], list[Tensor]]:
    rows = [row for unit in objective.units(examples, policy, policy.context - 2) for row in unit]
    return [row.ids for row in rows], [row.source for row in rows if row.source is not None]


def _card(policy: Policy) -> Card:
    source, kind = policy.source, "classify" if pooled_head(policy) is not None else "sft"
    return Card(source.name, source.sha256, "technique", {}, kind, {}, policy.classes, policy.context, policy.max_tokens)


def _difference(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    left, right = (torch.cat([one.flatten() for one in side]) for side in (ours, theirs))
    return float((left - right).abs().max() / left.std())


def _same_tokens(policy: Policy, artefact: Artefact, examples: Sequence[Example]) -> None:
    special = pooled_head(policy) is not None
    for example in examples:
        text = example.text or ""
        wanted = policy.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
        found = artefact.encode(text, None, special)
        assert found == wanted, f"its tokenizer makes {found} of {text!r}, and the run's makes {wanted}"
