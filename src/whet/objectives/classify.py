"""Classification and regression of texts."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from whet.engine.calibrate import class_nll, fit_temperature
from whet.engine.cut import cut
from whet.engine.embed import ONE_LABEL, asked_rows, by_centroid, centroids, few_of_each, plain_rows, shares, unit_vectors, voters
from whet.engine.fields import require
from whet.engine.order import shuffled
from whet.models.policy import Policy
from whet.plugins import plugin
from whet.protocols import Objective, Plan
from whet.types import Batch, Cursor, Example, Output, State, StepRows, Unit

HEAD = "classify"
TARGET = {"one": "label", "several": "labels", "number": "value"}
CENTROID_ROWS = 32
"""Rows of each class behind the head's first values."""
CENTROID_SCALE = 20.0
"""Logits per unit of cosine at the start: sure enough to learn from, unsure enough to change its mind."""
COMMONEST = {"one": "majority_class", "several": "majority_labels", "number": "mean_value"}
METRICS = {
    "one": ONE_LABEL,
    "several": ("micro_f1", "macro_f1", "exact_set", "auroc"),
    "number": ("mean_absolute_error", "root_mean_squared_error", "r2", "spearman"),
}


@plugin
class Classify(Objective):
    """One label (softmax cross-entropy), several labels (a sigmoid each), or a number (squared error), from the pooled text.

    Pooling is the mean of an encoder's tokens, or a decoder's last token; the head is one linear layer.
    """

    kind: Literal["one", "several", "number"] = Field("one")
    """What is predicted: one label, several labels, or a number."""
    threshold: float = Field(0.5, gt=0, lt=1)
    """Probability from which one of several labels is given."""
    centroid_examples: int = Field(8, ge=1)
    """Training rows of each class behind the baseline that needs no tuning: the class whose mean embedding is nearest."""
    neighbours: int = Field(5, ge=1)
    """Training rows that vote in the other baseline that needs no tuning: those whose embeddings are nearest."""

    head: ClassVar[Literal["lm", "classify", "value"]] = "classify"
    mixes: ClassVar[bool] = True

    @property
    def needs(self) -> tuple[str, ...]:
        return ("text", TARGET[self.kind])

    @property
    def metrics(self) -> tuple[str, ...]:
        return METRICS[self.kind]

    def prepare(self, policy: Policy, examples: Sequence[Example]) -> None:
        """Give the policy its classes and a linear head. Raises DataError where an example has no text or no target."""
        require(examples, self.needs)
        if self.kind == "number":
            policy.classes = ("value",)
        else:
            policy.classes = tuple(sorted({label for example in examples for label in self._labels(example)}))
        head = nn.Linear(policy.width, len(policy.classes))
        with torch.no_grad():
            head.weight.zero_()  # nothing is drawn: the gradient of a linear head does not depend on where it starts
            head.bias.zero_()
            if self.kind == "one":
                self._start_at_centroids(policy, examples, head)
        policy.heads[HEAD] = head.to(policy.device)

    def _start_at_centroids(self, policy: Policy, examples: Sequence[Example], head: nn.Linear) -> None:
        few = few_of_each(examples, CENTROID_ROWS)
        vectors, lengths = unit_vectors(policy, few, policy.context)
        centre = vectors.mean(0)
        found = centroids(few, vectors - centre)
        weight = torch.stack([found[name] for name in policy.classes])  # [K, D]
        weight = CENTROID_SCALE * weight / lengths.mean()
        head.weight.copy_(weight)
        head.bias.copy_(-weight @ (centre * lengths.mean()))

    def units(self, examples: Sequence[Example], policy: Policy, max_length: int) -> list[Unit]:
        index = {label: number for number, label in enumerate(policy.classes)}
        units: list[Unit] = []
        for example, row in zip(examples, plain_rows(examples, policy, max_length), strict=True):
            target = self._target(example, index)
            units.append((replace(row, vectors={"target": target}, weights={"label": self._weight(target)}),))
        return units

    def steps(self, units: Sequence[Unit], policy: Policy, plan: Plan, cursor: Cursor, state: State) -> Iterator[StepRows]:
        return shuffled(units, plan, cursor)

    def loss(self, policy: Policy, batch: Batch, state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        scores = self._scores(policy, batch)  # [R, K]
        target = batch.vectors["target"].to(scores.dtype)  # [R, K]; a row of zeros where the label is unknown
        if self.kind == "number":
            return {"label": (scores - target).square().sum()}, {}
        total = class_nll(scores, target, several=self.kind == "several")
        if self.kind == "several":
            return {"label": total}, {}
        hits = (scores.argmax(-1) == target.argmax(-1)).to(scores.dtype).sum()
        return {"label": total}, {"accuracy": hits}

    def trial(self, policy: Policy, units: Sequence[Unit], plan: Plan) -> dict[str, float]:
        """Fit the temperature on these rows; the loss with it, since it is the loss that predictions have.

        Without it, weights that answer better lose to weights that are only less sure.
        """
        if self.kind == "number":
            return {}
        batches = [batch.to(policy.device) for batch in cut(units, policy.max_tokens)]
        scores = torch.cat([self._scores(policy, batch) for batch in batches])
        targets = torch.cat([batch.vectors["target"] for batch in batches])
        policy.temperature, loss = fit_temperature(scores, targets, several=self.kind == "several")
        return {"label": loss}

    def outputs(self, policy: Policy, examples: Sequence[Example], max_length: int) -> Iterator[Output]:
        found: dict[int, Output] = {}
        units = [(replace(unit[0], id=number),) for number, unit in enumerate(self.units(examples, policy, max_length))]
        with torch.no_grad():
            for batch in cut(units, policy.max_tokens):
                scores = self._scores(policy, batch.to(policy.device)).cpu()
                scores = scores if self.kind == "number" else scores / policy.temperature
                found |= {row: self._output(policy.classes, score) for row, score in zip(batch.row_ids, scores, strict=True)}
        for number in range(len(examples)):
            yield found[number]

    def baselines(
        self, base: Policy, train: Sequence[Example], examples: Sequence[Example], max_length: int
    ) -> dict[str, list[Output]]:
        """The commonest answer; the answers of the training rows nearest in the untuned model; and for one label its nearest centroid."""
        found = {COMMONEST[self.kind]: [self._commonest(train)] * len(examples)}
        vectors = unit_vectors(base, examples, max_length)[0]
        names = sorted({label for example in train for label in self._labels(example)})
        asked = asked_rows(train, len(examples))
        near = voters(vectors, unit_vectors(base, asked, max_length)[0], examples, asked, self.neighbours)
        found["nearest_neighbours"] = [self._voted(names, cast) for cast in near]
        if self.kind == "one":
            labels = by_centroid(base, vectors, train, self.centroid_examples, max_length)
            found["nearest_centroid"] = [Output(label=label) for label in labels]
        return found

    def _voted(self, names: Sequence[str], cast: Sequence[tuple[Example, float]]) -> Output:
        """Return what training rows, each with its weight, come to: their labels' shares, or the mean of their numbers."""
        if self.kind == "number":
            return Output(value=sum(weight * (voter.value or 0.0) for voter, weight in cast))
        return self._chosen(shares(names, [(self._labels(voter), weight) for voter, weight in cast]))

    def _commonest(self, train: Sequence[Example]) -> Output:
        if self.kind == "number":
            values = [example.value for example in train if example.value is not None]
            return Output(value=sum(values) / len(values))
        counts = Counter(label for example in train for label in self._labels(example))
        if self.kind == "several":
            return Output(labels=tuple(label for label, count in counts.items() if count * 2 > len(train)))
        return Output(label=min(counts, key=lambda label: (-counts[label], label)))

    def _scores(self, policy: Policy, batch: Batch) -> Tensor:
        pooled = policy.pooled(batch)
        head = policy.heads[HEAD]
        assert isinstance(head, nn.Linear)
        with torch.autocast(pooled.device.type, enabled=False):  # so few numbers deserve full precision
            return nn.functional.linear(pooled, head.weight, head.bias)

    def _output(self, classes: Sequence[str], score: Tensor) -> Output:
        if self.kind == "number":
            return Output(value=float(score[0]))
        chances = torch.sigmoid(score) if self.kind == "several" else torch.softmax(score, dim=-1)
        return self._chosen(dict(zip(classes, chances.tolist(), strict=True)))

    def _chosen(self, probabilities: dict[str, float]) -> Output:
        if self.kind == "several":
            likely = tuple(name for name, chance in probabilities.items() if chance >= self.threshold)
            return Output(labels=likely, probabilities=probabilities)
        return Output(label=max(probabilities, key=probabilities.__getitem__), probabilities=probabilities)

    def _target(self, example: Example, index: dict[str, int]) -> Tensor:
        target = torch.zeros(max(1, len(index)))
        if self.kind == "number":
            target[0] = example.value if example.value is not None else 0.0
        for label in self._labels(example):
            if label in index:
                target[index[label]] = 1.0
        return target

    def _labels(self, example: Example) -> tuple[str, ...]:
        """Return the labels that are learnt; a row may have both one label and several."""
        if self.kind == "several":
            return example.labels or ()
        return (example.label,) if self.kind == "one" and example.label is not None else ()

    def _weight(self, target: Tensor) -> float:
        """Return how many terms the row adds; a row whose one label no class has is not scored by the loss."""
        if self.kind == "several":
            return float(len(target))
        return 1.0 if self.kind == "number" else float(target.sum())
