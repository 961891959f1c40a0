"""Masked language modelling on plain text, which makes an encoder at home in a domain."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from whet.engine.cut import cut
from whet.engine.fields import missing
from whet.engine.measure import segment_sum
from whet.engine.order import FIXED, shuffled
from whet.errors import ModelError
from whet.models.policy import Policy
from whet.plugins import plugin
from whet.protocols import Objective, Plan
from whet.types import Batch, Cursor, Example, Output, Row, State, StepRows, Unit
from whet.words import word_places


@plugin
class Masked(Objective):
    """Predict hidden tokens from both sides: 80 % of them hidden, 10 % another token, 10 % as they are. Devlin et al. 2019, section 3.1.

    Which are hidden follows from seed, epoch, row and place alone, so it is another choice in each epoch and the same after a crash.
    One token of each row is hidden at least. Scores are on one fixed choice, made in the same way, so compare them only with scores
    of the same rows and tokenizer. A text longer than the longest row is cut into several rows.
    """

    share: float = Field(0.15, gt=0, lt=1)
    """Share of the tokens that is predicted."""
    whole_words: bool = False
    """Hide all pieces of a word or none."""

    needs: ClassVar[tuple[str, ...]] = ("text",)
    head: ClassVar[Literal["lm", "classify", "value", "tokens", "masked"]] = "masked"
    metrics: ClassVar[tuple[str, ...]] = ("pseudo_perplexity", "loss")

    def prepare(self, policy: Policy, examples: Sequence[Example]) -> None:
        """Raise ModelError where the tokenizer cannot hide tokens."""
        if policy.tokenizer.mask_token_id is None:
            raise ModelError(
                f"{policy.source.name}: its tokenizer has no mask token. Name an encoder with masked-language weights."
            )
        if self.whole_words and not policy.tokenizer.is_fast:
            raise ModelError(
                f"{policy.source.name}: its tokenizer does not say which pieces are one word. Set whole_words: false, or name a model "
                "with a tokenizer.json."
            )

    def units(self, examples: Sequence[Example], policy: Policy, max_length: int) -> list[Unit]:
        """Return the rows under the fixed masks; `steps` masks them anew."""
        rows = [row for example in examples for row in self._rows(example, policy, max_length)]
        return [(self._hide(row, policy, 0, FIXED),) for row in rows]

    def steps(self, units: Sequence[Unit], policy: Policy, plan: Plan, cursor: Cursor, state: State) -> Iterator[StepRows]:
        epoch = cursor.epoch
        for step in shuffled(units, plan, cursor):
            masked = tuple(tuple(self._hide(row, policy, plan.seed, epoch) for row in unit) for unit in step.units)
            yield replace(step, units=masked)
            epoch = step.after.epoch

    def loss(self, policy: Policy, batch: Batch, state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return {"masked": -_logprobs(policy, batch).sum()}, {}

    def outputs(self, policy: Policy, examples: Sequence[Example], max_length: int) -> Iterator[Output]:
        found = [(0.0, 0)] * len(examples)
        units = [
            (replace(self._hide(row, policy, 0, FIXED), id=number),)
            for number, example in enumerate(examples)
            for row in self._rows(example, policy, max_length)
        ]
        with torch.no_grad():
            for batch in cut(units, policy.max_tokens):
                places = batch.tokens["supervised"].nonzero().squeeze(-1)
                values = torch.zeros(len(batch.ids), dtype=torch.float64)
                values[places] = _logprobs(policy, batch.to(policy.device)).double().cpu()
                counts = segment_sum(batch.tokens["supervised"], batch).tolist()
                for row, logprob, count in zip(batch.row_ids, segment_sum(values, batch).tolist(), counts, strict=True):
                    total, tokens = found[row]
                    found[row] = (total - logprob, tokens + int(count))
        for total, tokens in found:
            yield Output(nll=total, num_tokens=tokens)

    def _rows(self, example: Example, policy: Policy, max_length: int) -> list[Row]:
        """Return the pieces of a text, unmasked, with the tokenizer's tokens around each."""
        if example.text is None:
            raise missing(example, "text")
        tokenizer = policy.tokenizer
        encoded = tokenizer(example.text, add_special_tokens=False, return_offsets_mapping=self.whole_words, verbose=False)
        ids = encoded["input_ids"]
        group = _words(example.text, encoded["offset_mapping"]) if self.whole_words else list(range(len(ids)))
        before, after = _around(policy)
        size = max(1, max_length - len(before) - len(after))
        rows = []
        for begin in range(0, len(ids), size):
            piece = ids[begin : begin + size]
            inner = torch.tensor([False] * len(before) + [True] * len(piece) + [False] * len(after))
            groups = [0] * len(before) + group[begin : begin + size] + [0] * len(after)
            tokens = {
                "target": torch.tensor([*before, *piece, *after]),
                "inner": inner,
                "group": torch.tensor(groups),
                "place": torch.arange(len(inner)) + (begin - len(before)),
            }
            rows.append(Row(example.id, tokens["target"], tokens))
        return rows

    def _hide(self, row: Row, policy: Policy, seed: int, epoch: int) -> Row:
        """Return the row with some of its tokens hidden, as (seed, epoch, row, place in the text) decide."""
        inner, target = row.tokens["inner"], row.tokens["target"]
        places = row.tokens["place"][inner]
        drawn = torch.from_numpy(_draws(seed, epoch, row.id, int(places[-1]) + 1))  # [places, 3]
        chance = drawn[row.tokens["group"][inner], 0]  # of a whole word its first piece's
        chosen = chance < self.share
        if not bool(chosen.any()):
            chosen = chance == chance.min()
        _, how, which = drawn[places].unbind(-1)
        other = (which * len(policy.tokenizer)).long()
        hidden = torch.where(how < 0.8, int(policy.tokenizer.mask_token_id), torch.where(how < 0.9, other, target[inner]))
        ids, supervised = target.clone(), torch.zeros(len(target))
        ids[inner] = torch.where(chosen, hidden, target[inner])
        supervised[inner] = chosen.float()
        return replace(row, ids=ids, tokens={**row.tokens, "supervised": supervised}, weights={"masked": float(supervised.sum())})


def _draws(seed: int, epoch: int, row: int, number: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return three numbers in 0..1 for each place; more places never change the first ones."""
    generator = np.random.Generator(np.random.Philox(key=[seed, 1], counter=[0, 0, row, epoch]))
    return generator.random((number, 3))


def _around(policy: Policy) -> tuple[list[int], list[int]]:
    """Return the tokens that the tokenizer puts before and behind a text."""
    marker = policy.tokenizer.mask_token_id
    built = [int(token) for token in policy.tokenizer(policy.tokenizer.mask_token)["input_ids"]]
    middle = built.index(marker)
    return built[:middle], built[middle + 1 :]


def _words(text: str, offsets: Sequence[tuple[int, int]]) -> list[int]:
    """Return for each token the first token of its word; its own number where it is of no word. [T]"""
    places, first, word, found = word_places(text), dict[int, int](), 0, list[int]()
    for number, (begin, end) in enumerate(offsets):
        while word < len(places) and places[word][1] <= begin:
            word += 1
        inside = word < len(places) and end > max(begin, places[word][0])
        found.append(first.setdefault(word, number) if inside else number)
    return found


def _logprobs(policy: Policy, batch: Batch) -> Tensor:
    """Return the log-probabilities of the hidden tokens, in order. [N], at least fp32"""
    places = batch.tokens["supervised"].nonzero().squeeze(-1)
    logits = policy.masked_logits(batch, places)
    logits = logits.to(torch.float64 if logits.dtype == torch.float64 else torch.float32)
    return torch.log_softmax(logits, dim=-1).gather(-1, batch.tokens["target"][places, None]).squeeze(-1)
