"""The hand-off check: the run's own test rows through what was exported, in its own program, beside the run itself.

Shapes: T tokens of a row, K outputs of a head, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from whet.models.artefact import own_outputs, pooled_head
from whet.models.policy import Policy
from whet.protocols import Artefact, Exporter
from whet.stages.tuned import Tuned
from whet.types import Example

MOST_NUMBERS = 40_000_000
"""Outputs that are held at one time, which limits the rows of a model with many tokens."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked, and what the run itself answers, in fp32."""

    texts: list[tuple[str, str | None]]
    """Each row's text, and its pair; of a conversation its tokens as text."""
    rows: list[Tensor]
    sources: list[Tensor]
    """Of an encoder-decoder, one for each row; else none."""
    outputs: list[Tensor]
    special_tokens: bool
    several: bool
    """Each output is a yes or no of its own."""


@dataclass(frozen=True, slots=True)
class Handoff:
    """How the artefact compares with the run."""

    runtime: str
    rows: int
    difference: float
    """Largest difference of the outputs over the spread of the run's."""
    allowed: float
    agreement: float | None
    """Share of the answers (rows of a classifier, next tokens of a language model) that are the same; None for numbers."""
    same_tokens: int
    """Rows whose text becomes the same tokens."""
    same_template: bool
    tensors: int
    """Weights that were compared one by one."""
    tensor_difference: float
    tensor_allowed: float
    worst_tensor: str
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"notes": list(self.notes), "passed": not self.faults()}

    def faults(self) -> list[str]:
        """Return what is beyond its tolerance, in words."""
        found = []
        if not self.difference <= self.allowed:
            found.append(f"its outputs differ by up to {self.difference:.2g} of their spread (allowed {self.allowed:g})")
        if self.same_tokens < self.rows:
            found.append(f"its tokenizer makes other tokens of {self.rows - self.same_tokens:,} of {self.rows:,} rows")
        if not self.same_template:
            found.append("its chat template is another one")
        if not self.tensor_difference <= self.tensor_allowed:
            found.append(
                f"{self.worst_tensor} differs by {self.tensor_difference:.2g} of its largest weight (allowed {self.tensor_allowed:.2g})"
            )
        return found

    def sentence(self) -> str:
        """Say what was compared and how it came out."""
        same = "" if self.agreement is None else f", the same answer in {self.agreement:.2%} of the places"
        weights = f" {self.tensors:,} tensors read back differ by at most {self.tensor_difference:.1e}." if self.tensors else ""
        return (
            f"Checked on {self.rows:,} test rows in {self.runtime}: outputs differ by at most {self.difference:.1e} of their spread "
            f"(allowed {self.allowed:g}){same}; the same tokens in {self.same_tokens:,} of {self.rows:,}.{weights}"
        )


def ask(tuned: Tuned, examples: Sequence[Example]) -> Asked:
    """Ask the run itself, before anything is merged. Rows beyond what fits in memory are left out."""
    policy, objective = tuned.policy, tuned.objective
    head = pooled_head(policy)
    width = 1 if head is not None else int(policy.network.config.get_text_config().vocab_size)
    of_text = head is not None and head.name == "classify"
    texts: list[tuple[str, str | None]] = []
    rows: list[Tensor] = []
    sources: list[Tensor] = []
    for example in examples:
        for row in (row for unit in objective.units([example], policy, tuned.card.max_length) for row in unit):
            if rows and (sum(map(len, rows)) + len(row.ids)) * width > MOST_NUMBERS:
                break
            rows.append(row.ids)
            sources += [] if row.source is None else [row.source]
            ids = row.ids.tolist()
            texts.append((example.text or "", example.text_pair) if of_text else (policy.tokenizer.decode(ids), None))
    kind = tuned.card.objective_settings.get("kind", "one")
    return Asked(texts, rows, sources, own_outputs(policy, rows, sources), of_text, kind == "several")


def compare(asked: Asked, policy: Policy, artefact: Artefact, exporter: Exporter) -> Handoff:
    """Ask the artefact the same, and compare outputs, answers, tokens, template, and weights one by one."""
    theirs = artefact.outputs(asked.rows, asked.sources)
    ours = torch.cat([one.flatten() for one in asked.outputs])
    gap = torch.cat([one.flatten() for one in theirs]) - ours
    spread = float(ours.std()) or 1.0
    difference = float(gap.abs().max()) / spread if bool(torch.isfinite(gap).all()) else math.inf
    template = policy.tokenizer.chat_template
    worst, largest = _tensor_difference(policy, artefact.tensors)
    return Handoff(
        runtime=artefact.runtime,
        rows=len(asked.rows),
        difference=difference,
        allowed=exporter.tolerance,
        agreement=_agreement(asked, theirs),
        same_tokens=_same_tokens(asked, policy, artefact),
        same_template=not isinstance(template, str) or policy.kind != "decoder" or artefact.chat_template == template,
        tensors=len(artefact.tensors),
        tensor_difference=largest,
        tensor_allowed=exporter.tensor_tolerance,
        worst_tensor=worst,
        notes=tuple(artefact.notes),
    )


def _agreement(asked: Asked, theirs: Sequence[Tensor]) -> float | None:
    if asked.outputs[0].shape[-1] == 1:
        return None
    if asked.several:
        same = [((one > 0) == (other > 0)).all(-1) for one, other in zip(asked.outputs, theirs, strict=True)]
    else:
        same = [one.argmax(-1) == other.argmax(-1) for one, other in zip(asked.outputs, theirs, strict=True)]
    return float(torch.cat([one.flatten() for one in same]).float().mean())


def _same_tokens(asked: Asked, policy: Policy, artefact: Artefact) -> int:
    """Count rows whose text becomes the run's own tokens; of a text that was cut, its beginning."""
    count = 0
    for (text, pair), row in zip(asked.texts, asked.rows, strict=True):
        found = artefact.encode(text, pair, asked.special_tokens)
        if asked.special_tokens:
            wanted = row.tolist()
            whole = len(found) <= len(wanted)
            count += found == wanted if whole else found[: len(wanted) - 1] == wanted[:-1]
        else:
            count += found == policy.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return count


def _tensor_difference(policy: Policy, tensors: Mapping[str, Tensor]) -> tuple[str, float]:
    """Return the tensor that differs most from the run's, and by how much of its largest weight."""
    state = policy.network.state_dict() if tensors else {}
    worst, largest = "", 0.0
    for name, tensor in tensors.items():
        ours = state[name].float().cpu()
        gap = float((tensor - ours).abs().max()) / (float(ours.abs().max()) or 1.0)
        if not gap <= largest:
            worst, largest = name, gap if math.isfinite(gap) else math.inf
    return worst, largest
