"""What is served under a name: a loaded run, and the shelf where a name's run is exchanged without a pause."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import PreTrainedTokenizerBase

from whet.engine.cut import pack
from whet.engine.generate import generate
from whet.engine.machine import Precision, computing
from whet.engine.targets import written_targets
from whet.models.policy import Policy
from whet.models.template import stop_ids
from whet.protocols import Objective
from whet.server.refusals import Refusal
from whet.types import Example, Output, Row


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Served:
    """A trained run, loaded. Its policy is touched by the server's one working thread only."""

    run: str
    """Name of the run's folder."""
    fingerprint: str
    """Hash of the model's files."""
    created: int
    """When the run was made, in seconds since 1970."""
    objective_name: str
    policy: Policy
    objective: Objective
    precision: Precision
    max_length: int
    """Longest text of a label, in tokens."""
    examples: Callable[[Sequence[str | Mapping[str, Any]]], list[Example]]
    """Turns texts, or rows with the columns of training, into examples. Raises DataError."""
    clean: Callable[[str], str]
    slices: tuple[str, ...]
    """Columns whose values are kept in the request log."""
    asks: tuple[str, ...]
    """Columns that are asked about: the text's, and that of its pair where it has one."""
    reader: PreTrainedTokenizerBase
    """The policy's tokenizer once more, for the thread that reads requests."""
    num_given: int = 0
    """Tokens that every target of an encoder-decoder begins with, which are not written."""

    @property
    def writes(self) -> bool:
        """Whether it goes on with texts, or answers them with another."""
        return self.reads_sources or (self.policy.kind == "decoder" and self.objective.head == "lm")

    @property
    def reads_sources(self) -> bool:
        """Whether it is an encoder-decoder that writes: its prompt and its text have a context each."""
        return self.policy.kind == "encoder-decoder" and self.objective.head == "seq2seq"

    @property
    def longest_text(self) -> int:
        """Tokens that it writes at most; of a decoder, behind an empty prompt."""
        return self.policy.context - self.num_given

    @property
    def stops(self) -> frozenset[int]:
        """Tokens that end a text."""
        if not self.reads_sources:
            return stop_ids(self.reader)
        return frozenset() if self.policy.end_id is None else frozenset({self.policy.end_id})

    @property
    def chats(self) -> bool:
        """Whether it learnt to answer; a model that was only pre-trained goes on with texts."""
        return self.writes and self.objective_name != "pretrain"

    @property
    def labels(self) -> bool:
        """Whether it gives a label, labels or a number to a text."""
        return self.objective.head == "classify"

    @property
    def embeds(self) -> bool:
        return self.policy.kind == "encoder"

    def classify(self, examples: Sequence[Example]) -> list[Output]:
        """Return the run's answers, as `whet predict` gives them."""
        with computing(self.precision, self.policy.device), torch.no_grad():
            return list(self.objective.outputs(self.policy, examples, self.max_length))

    def write(self, prompt: Sequence[int], max_new_tokens: int) -> str:
        """Return the likeliest text for a prompt, as the run writes it by itself."""
        with computing(self.precision, self.policy.device):
            if self.reads_sources:
                ids = next(written_targets(self.policy, [prompt], max_new_tokens))
            else:
                ids = next(generate(self.policy, [prompt], max_new_tokens, self.stops))
        return str(self.policy.tokenizer.decode(ids, skip_special_tokens=True))

    def embed(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return the mean of an encoder's last states over the tokens of each row, as unit vectors."""
        with computing(self.precision, self.policy.device), torch.no_grad():
            batch = pack([Row(number, torch.tensor(ids)) for number, ids in enumerate(rows)])
            vectors: Tensor = normalize(self.policy.pooled(batch.to(self.policy.device)).float(), dim=-1)
        found: list[list[float]] = vectors.cpu().tolist()
        return found


@dataclass(slots=True)
class Shelf:
    """The runs that are served, by name. A request holds on to the run it began with, so an exchange disturbs none."""

    _runs: dict[str, Mapping[str, Served]] = field(default_factory=dict)
    """Under the name that a run was given, its tasks; one without a name where it has a single one."""

    def put(self, name: str, tasks: Mapping[str, Served]) -> None:
        """Serve a run from the next request on: its tasks under NAME/TASK, the one without a name under NAME."""
        self._runs = {**self._runs, name: tasks}

    def of_run(self, name: str) -> Mapping[str, Served]:
        """Return what is served of a run, by task, under the name that the run was given."""
        return self._runs[name]

    def names_of(self, name: str) -> tuple[str, ...]:
        """Return what clients may name of a run, by the name that the run was given."""
        return tuple(f"{name}/{task}" if task else name for task in self._runs[name])

    def names(self) -> list[str]:
        return [one for name in self._runs for one in self.names_of(name)]

    def get(self, name: str) -> Served:
        """Return what is served under a name. Raises Refusal."""
        runs = self._runs
        run, _, task = (name, "", "") if name in runs else name.rpartition("/")
        found = runs.get(run, {}).get(task)
        if found is None:
            known = ", ".join(self.names())
            raise Refusal(404, f"there is no model '{name[:80]}'. Served are: {known}.", code="model_not_found", param="model")
        return found
