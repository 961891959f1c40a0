"""Labels of the words of a text, such as names of people and places."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from whet.engine.cut import cut
from whet.engine.fields import missing, require
from whet.engine.order import shuffled
from whet.errors import DataError, ModelError
from whet.models.policy import Policy
from whet.plugins import plugin
from whet.protocols import Objective, Plan
from whet.stats import place_of
from whet.types import Batch, Cursor, Example, Output, Row, State, StepRows, Unit
from whet.words import repaired, spans, word_places

HEAD = "tokens"
OUTSIDE = "O"


@plugin
class Tokens(Objective):
    """A label for each word (B-KIND, I-KIND, O): softmax cross-entropy on a word's first piece. Devlin et al. 2019, section 5.3.

    Nothing forbids I-KIND after O while learning; only what is given at the end is repaired: such a label becomes B-KIND. Words
    behind the longest row, and those that the tokenizer leaves nothing of, get O. A decoder sees only what stands before a word's
    first piece, so prefer an encoder.
    """

    needs: ClassVar[tuple[str, ...]] = ("text", "token_labels")
    head: ClassVar[Literal["lm", "classify", "value", "tokens", "masked"]] = "tokens"
    mixes: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("span_f1",)

    def prepare(self, policy: Policy, examples: Sequence[Example]) -> None:
        """Give the policy its labels and a linear head. Raises DataError where an example has not one label for each word."""
        require(examples, self.needs)
        for example in examples:
            _check(example)
        policy.classes = tuple(sorted({label for example in examples for label in example.token_labels or ()}))
        if len(policy.classes) < 2:
            raise DataError(
                f"all words have the label '{''.join(policy.classes)}', so there is nothing to tell apart. Add rows with entities "
                "(B-KIND, I-KIND), or name another column as data.token_labels."
            )
        head = nn.Linear(policy.width, len(policy.classes))
        with torch.no_grad():
            head.weight.zero_()  # nothing is drawn: the gradient of a linear head does not depend on where it starts
            head.bias.zero_()
        policy.heads[HEAD] = head.to(policy.device)

    def units(self, examples: Sequence[Example], policy: Policy, max_length: int) -> list[Unit]:
        return [(self._row(example, policy, max_length),) for example in examples]

    def steps(self, units: Sequence[Unit], policy: Policy, plan: Plan, cursor: Cursor, state: State) -> Iterator[StepRows]:
        return shuffled(units, plan, cursor)

    def loss(self, policy: Policy, batch: Batch, state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        places = (batch.tokens["supervised"] > 0).nonzero().squeeze(-1)  # [N]
        scores, targets = self._scores(policy, batch, places), batch.tokens["target"][places]
        hits = (scores.argmax(-1) == targets).to(scores.dtype).sum()
        return {"label": nn.functional.cross_entropy(scores, targets, reduction="sum")}, {"accuracy": hits}

    def outputs(self, policy: Policy, examples: Sequence[Example], max_length: int) -> Iterator[Output]:
        rows = [replace(self._row(example, policy, max_length), id=number) for number, example in enumerate(examples)]
        found: dict[int, list[str]] = {}
        with torch.no_grad():
            for batch in cut([(row,) for row in rows], policy.max_tokens):
                places = (batch.tokens["word"] >= 0).nonzero().squeeze(-1)
                best = self._scores(policy, batch.to(policy.device), places.to(policy.device)).argmax(-1).tolist()
                named = dict(zip(places.tolist(), (policy.classes[index] for index in best), strict=True))
                begin = 0
                for row, length in zip(batch.row_ids, batch.lengths, strict=True):
                    labels = [OUTSIDE] * len((examples[row].text or "").split())
                    for place in range(begin, begin + length):
                        if place in named:
                            labels[int(batch.tokens["word"][place])] = named[place]
                    found[row] = labels
                    begin += length
        for number in range(len(examples)):
            yield Output(token_labels=repaired(found[number]))

    def baselines(
        self, base: Policy, train: Sequence[Example], examples: Sequence[Example], max_length: int
    ) -> dict[str, list[Output]]:
        """The commonest label everywhere; and the label that each word has most often in training, the commonest where it is new."""
        counts: dict[str, Counter[str]] = {}
        for example in train:
            for word, label in zip((example.text or "").split(), example.token_labels or (), strict=True):
                counts.setdefault(word, Counter())[label] += 1
        total: Counter[str] = Counter()
        for one in counts.values():
            total.update(one)
        commonest = _first(total)
        known = {word: _first(one) for word, one in counts.items()}
        texts = [(example.text or "").split() for example in examples]
        return {
            "majority_tag": [Output(token_labels=repaired([commonest] * len(words))) for words in texts],
            "tag_of_word": [Output(token_labels=repaired([known.get(word, commonest) for word in words])) for words in texts],
        }

    def _row(self, example: Example, policy: Policy, max_length: int) -> Row:
        """Return the tokens of a text: which word each begins, -1 where none; its label; and whether the label is learnt."""
        if example.text is None:
            raise missing(example, "text")
        if not policy.tokenizer.is_fast:
            raise ModelError(
                f"{policy.source.name}: its tokenizer does not say where its pieces stand in the text. Name a model with a tokenizer.json."
            )
        encoded = policy.tokenizer(
            example.text, truncation=True, max_length=max_length, return_offsets_mapping=True, verbose=False
        )
        ids = torch.tensor(encoded["input_ids"])
        if not len(ids):
            raise missing(example, "text")
        words = torch.tensor(_firsts(example.text, encoded["offset_mapping"]))
        index = {label: number for number, label in enumerate(policy.classes)}
        target = torch.full((len(ids),), -1)
        if example.token_labels is not None:
            _check(example)
            for place, word in enumerate(words.tolist()):
                if word >= 0:
                    target[place] = index.get(example.token_labels[word], -1)
        supervised = (target >= 0).float()
        tokens = {"supervised": supervised, "target": target.clamp(min=0), "word": words}
        return Row(example.id, ids, tokens, weights={"label": float(supervised.sum())})

    def _scores(self, policy: Policy, batch: Batch, places: Tensor) -> Tensor:
        """Return the logits of the labels at some tokens of a batch. [N, K], at least fp32"""
        states = policy.hidden(batch)[places]
        states = states.to(torch.float64 if states.dtype == torch.float64 else torch.float32)
        head = policy.heads[HEAD]
        assert isinstance(head, nn.Linear)
        with torch.autocast(states.device.type, enabled=False):  # so few numbers deserve full precision
            return nn.functional.linear(states, head.weight, head.bias)


def _check(example: Example) -> None:
    """Raise DataError where an example has not one label for each word, or a label that is none."""
    assert example.text is not None and example.token_labels is not None, "checked before"
    num_words = len(example.text.split())
    if num_words != len(example.token_labels):
        raise DataError(
            f"{place_of(example)}: {num_words:,} words, and {len(example.token_labels):,} token_labels. Each word needs one; mend the row."
        )
    spans(example.token_labels, place_of(example))


def _firsts(text: str, offsets: Sequence[tuple[int, int]]) -> list[int]:
    """Return for each token the number of the word whose first piece it is; -1 where it is none. [T]"""
    places = word_places(text)
    found, word, last = [], 0, -1
    for begin, end in offsets:
        while word < len(places) and end > begin and places[word][1] <= begin:
            word += 1
        inside = word < len(places) and end > begin and end > places[word][0]
        found.append(word if inside and word != last else -1)
        last = word if inside else last
    return found


def _first(counts: Counter[str]) -> str:
    return min(counts, key=lambda label: (-counts[label], label))
