"""Classification from few rows: embeddings that tell the classes apart, and a head fitted on them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from whet.engine.calibrate import fit_temperature
from whet.engine.embed import ONE_LABEL, asked_rows, by_centroid, plain_rows, pooled_vectors, shares, voters
from whet.engine.fields import require
from whet.engine.logistic import fit_logistic
from whet.engine.order import FIXED, permutation, seed_of
from whet.errors import DataError
from whet.models.policy import Policy
from whet.plugins import plugin
from whet.protocols import Objective, Plan
from whet.types import Batch, Cursor, Example, Output, Row, State, StepRows, Unit

HEAD = "classify"
UNKNOWN = -1
"""Number of a label that no training row has."""


@plugin
class Contrastive(Objective):
    """Texts of a class drawn together, others apart; then a head fitted on the embeddings. Tunstall et al. 2022 (SetFit, arXiv:2209.11055).

    Each row is compared with the others of its group, by the loss of Khosla et al. 2020 (arXiv:2004.11362), eq. 2. An epoch has every
    row once, in groups drawn anew, with another row of its class beside it where there is one; `train.batch_size` counts groups, and a
    group is never cut. The head is logistic regression on the embeddings of the training rows, fitted before each validation and at the
    end, so that what is watched is the loss of the finished classifier. A decoder's embedding is its last token.
    """

    loss_type: Literal["supervised", "cosine"] = Field("supervised")
    """supervised: the softmax of Khosla et al.; cosine: each pair's cosine against 1 or 0, squared, as Tunstall et al. train."""
    group: int = Field(64, ge=2)
    """Rows that are compared with each other. More tell more apart, and are the least that memory must hold at once."""
    temperature: float = Field(0.1, gt=0)
    """What similarities are divided by in the supervised loss. The smaller, the more the nearest rows count."""
    penalty: float = Field(0.1, gt=0)
    """Weight of half the head's squared weights beside the loss summed over rows, for embeddings of mean length 1."""
    centroid_examples: int = Field(8, ge=1)
    """Training rows of each class behind the baseline of class centroids."""
    neighbours: int = Field(5, ge=1)
    """Training rows that vote in the baseline of nearest neighbours."""

    needs: ClassVar[tuple[str, ...]] = ("text", "label")
    head: ClassVar[Literal["lm", "classify", "value", "tokens", "masked"]] = "classify"
    metrics: ClassVar[tuple[str, ...]] = ONE_LABEL

    def prepare(self, policy: Policy, examples: Sequence[Example]) -> None:
        """Give the policy its classes. Raises DataError where no two rows have one class."""
        require(examples, self.needs)
        counts = Counter(example.label for example in examples if example.label is not None)
        if max(counts.values(), default=0) < 2:
            raise DataError(
                f"each of the {len(counts):,} classes has one training row, so there are no two texts of a class to draw together. "
                "Add rows, take a larger data.split.train, or use objective 'classify'."
            )
        policy.classes = tuple(sorted(counts))

    def units(self, examples: Sequence[Example], policy: Policy, max_length: int) -> list[Unit]:
        """Groups that stay the same; `steps` groups their rows anew."""
        index = {label: number for number, label in enumerate(policy.classes)}
        rows = [
            replace(row, scalars={"class": float(index.get(example.label or "", UNKNOWN))}, weights={"contrast": 1.0})
            for row, example in zip(plain_rows(examples, policy, max_length), examples, strict=True)
        ]
        return self._groups(rows, 0, FIXED)

    def steps(self, units: Sequence[Unit], policy: Policy, plan: Plan, cursor: Cursor, state: State) -> Iterator[StepRows]:
        rows, epoch, position = _rows(units), cursor.epoch, cursor.position
        while True:
            groups = self._groups(rows, plan.seed, epoch)
            while position < len(groups):
                chosen = tuple(groups[position : position + plan.batch_size])
                position += len(chosen)
                yield StepRows(chosen, Cursor(epoch, position) if position < len(groups) else Cursor(epoch + 1, 0))
            epoch, position = epoch + 1, 0

    def loss(self, policy: Policy, batch: Batch, state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The contrast summed over rows; a row without another of its class in the group adds nothing."""
        vectors = nn.functional.normalize(policy.pooled(batch), dim=-1)  # [R, D]
        group, label = batch.scalars["group"], batch.scalars["class"]
        with torch.autocast(vectors.device.type, enabled=False):
            similar = vectors @ vectors.T  # [R, R]
        others = (group[:, None] == group[None]) & ~torch.eye(len(group), dtype=torch.bool, device=group.device)
        same = others & (label[:, None] == label[None]) & (label != UNKNOWN)
        if self.loss_type == "cosine":
            apart = _mean_of(similar.square(), others & ~same) * same.any(-1)
            return {"contrast": (_mean_of((1 - similar).square(), same) + apart).sum()}, {}
        logits = (similar / self.temperature).masked_fill(~others, -torch.inf)
        logits = logits.masked_fill(~others.any(-1, keepdim=True), 0.0)  # of a row that is alone: there is nothing to sum over
        return {"contrast": -_mean_of(torch.log_softmax(logits, dim=-1), same).sum()}, {}

    def settle(self, policy: Policy, units: Sequence[Unit], plan: Plan) -> None:
        """Fit the head on the training rows' embeddings. It learns nothing in steps, and starts from nothing each time."""
        rows = _rows(units)
        weight, bias = fit_logistic(pooled_vectors(policy, rows), _classes(rows), len(policy.classes), self.penalty)
        head = nn.Linear(policy.width, len(policy.classes)).requires_grad_(False)
        head.weight.copy_(weight)
        head.bias.copy_(bias)
        policy.heads[HEAD] = head.to(policy.device)

    def trial(self, policy: Policy, units: Sequence[Unit], plan: Plan) -> dict[str, float]:
        """Fit the temperature on these rows; the loss of the classifier with it.

        Not the contrast: a class with one validation row has none, and it may still fall when the classifier no longer gains.
        """
        rows = [row for row in _rows(units) if row.scalars["class"] != UNKNOWN]
        scores = _scores(policy, pooled_vectors(policy, rows))
        targets = nn.functional.one_hot(_classes(rows), len(policy.classes)).to(scores.dtype)
        policy.temperature, loss = fit_temperature(scores, targets, several=False)
        return {"label": loss}

    def outputs(self, policy: Policy, examples: Sequence[Example], max_length: int) -> Iterator[Output]:
        scores = _scores(policy, pooled_vectors(policy, plain_rows(examples, policy, max_length)))
        for chances in torch.softmax(scores / policy.temperature, dim=-1).tolist():
            yield _likeliest(dict(zip(policy.classes, chances, strict=True)))

    def baselines(
        self, base: Policy, train: Sequence[Example], examples: Sequence[Example], max_length: int
    ) -> dict[str, list[Output]]:
        """The commonest class; and by the untuned model nearest neighbours, nearest centroids, and the same head fitted on its embeddings."""
        counts = Counter(example.label or "" for example in train)
        names = sorted(counts)
        asked = asked_rows(train, len(examples))
        vectors, known = (pooled_vectors(base, plain_rows(some, base, max_length)) for some in (examples, asked))
        unit, keys = (nn.functional.normalize(some, dim=-1) for some in (vectors, known))
        near = voters(unit, keys, examples, asked, self.neighbours)
        classes = torch.tensor([names.index(example.label or "") for example in asked])
        weight, bias = fit_logistic(known, classes, len(names), self.penalty)
        given = (vectors.double() @ weight.T + bias).argmax(-1).tolist()
        commonest = min(counts, key=lambda label: (-counts[label], label))
        return {
            "majority_class": [Output(label=commonest)] * len(examples),
            "nearest_neighbours": [
                _likeliest(shares(names, [((voter.label or "",), vote) for voter, vote in cast])) for cast in near
            ],
            "nearest_centroid": [
                Output(label=label) for label in by_centroid(base, unit, train, self.centroid_examples, max_length)
            ],
            "linear_probe": [Output(label=names[place]) for place in given],
        }

    def _groups(self, rows: Sequence[Row], seed: int, epoch: int) -> list[Unit]:
        """Return the rows in groups of about equal size: pairs of a class are drawn and dealt like cards, rows without a partner last."""
        members: dict[float, list[Row]] = {}
        for place in permutation(seed_of(seed, "pairs"), epoch, len(rows)).tolist():
            members.setdefault(rows[place].scalars["class"], []).append(rows[place])
        pairs = [some[at : at + 2] for some in members.values() for at in range(0, len(some) - 1, 2)]
        lone = [some[-1:] for some in members.values() if len(some) % 2]
        order = permutation(seed_of(seed, "groups"), epoch, len(pairs)).tolist()
        number = max(1, min(-(-len(rows) // self.group), len(pairs)))
        groups: list[list[Row]] = [[] for _ in range(number)]
        for place, dealt in enumerate([*(pairs[one] for one in order), *lone]):
            groups[place % number] += dealt
        return [
            tuple(replace(row, scalars={**row.scalars, "group": float(place)}) for row in some)
            for place, some in enumerate(groups)
            if some
        ]


def _rows(units: Sequence[Unit]) -> list[Row]:
    return sorted((row for unit in units for row in unit), key=lambda row: row.id)


def _classes(rows: Sequence[Row]) -> Tensor:
    return torch.tensor([int(row.scalars["class"]) for row in rows], dtype=torch.int64)


def _scores(policy: Policy, vectors: Tensor) -> Tensor:
    """Return the logits of pooled vectors, on the processor. [N, D] -> [N, K]"""
    head = policy.heads[HEAD]
    assert isinstance(head, nn.Linear)
    with torch.autocast("cpu", enabled=False):
        return nn.functional.linear(
            vectors, head.weight.detach().cpu().to(vectors.dtype), head.bias.detach().cpu().to(vectors.dtype)
        )


def _likeliest(chances: dict[str, float]) -> Output:
    return Output(label=max(chances, key=chances.__getitem__), probabilities=chances)


def _mean_of(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of the chosen values of each row; 0 where none is. [R, R] twice -> [R]"""
    return torch.where(chosen, values, 0.0).sum(-1) / chosen.sum(-1).clamp(min=1)
