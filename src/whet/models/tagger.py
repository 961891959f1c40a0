"""A model that labels the words of texts: a token classification model, or a run of objective `tokens`. It gives stretches with their kinds.

Shapes: R rows, T tokens of a row, K labels.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from whet.engine.cut import cut
from whet.errors import ModelError
from whet.models.load import load_policy
from whet.models.named import is_run, load_run_model
from whet.models.policy import Policy, padded
from whet.private.kinds import Found
from whet.types import Row
from whet.wordwise import SIGNS

HEAD = "tokens"
"""What a run's head for the labels of words is called."""
_WORD = re.compile(rf"[{SIGNS}]|[^\W{SIGNS}]+(?:['’.\-][^\W{SIGNS}]+)*")
"""A word; of Chinese and Japanese a sign."""
_POSSESSIVE = re.compile(r"['’][sS]$")
_MARK = re.compile(r"^[BIOESLUM][-_](?=.)")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SENTENCE = re.compile(r"[.!?。！？]\s|\n")
GOES_ON = 0.3
"""Share of the least certainty that is enough beside a name."""
AT_ONCE = 512
"""Texts that are cut and computed together."""
SLACK = 2
"""Tokens by which a piece of a long text may come out longer than it was counted."""


class Tagger:
    """Finds what it is asked for: `kinds` says, by the model's own name for it, what a label counts as."""

    def __init__(self, name: str, policy: Policy, labels: Sequence[str], longest: int, *, is_run: bool) -> None:
        self.name, self.labels = name, tuple(labels)
        self._policy, self._is_run = policy, is_run
        if not policy.tokenizer.is_fast:
            raise ModelError(
                f"{name}: its tokenizer does not say where its pieces stand in the text. Name a model with a tokenizer.json."
            )
        self._longest = longest
        self._room = max(1, longest - policy.tokenizer.num_special_tokens_to_add() - SLACK)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What its labels name, without their marks B- and I-."""
        return tuple(dict.fromkeys(kind_of(label) for label in self.labels if label != "O"))

    def find(self, texts: Sequence[str], kinds: Mapping[str, str], certainty: float) -> list[list[Found]]:
        """Return of each text what is one of `kinds`, in order: words of which the model is at least so certain, 0..1."""
        found: list[list[Found]] = []
        for begin in range(0, len(texts), AT_ONCE):
            found += self._some([_sound(text) for text in texts[begin : begin + AT_ONCE]], kinds, certainty)
        return found

    def _some(self, texts: Sequence[str], kinds: Mapping[str, str], certainty: float) -> list[list[Found]]:
        pieces = [(place, begin, end) for place, text in enumerate(texts) for begin, end in self._pieces(text)]
        read = [texts[place][begin:end] for place, begin, end in pieces]
        encoded = self._encoded(read) if read else {"input_ids": [], "offset_mapping": []}
        scores = self._scores([torch.tensor(ids) for ids in encoded["input_ids"]])
        found: list[list[Found]] = [[] for _ in texts]
        for (place, begin, _), text, offsets, logits in zip(pieces, read, encoded["offset_mapping"], scores, strict=True):
            chances = torch.softmax(logits, -1)  # [T, K]
            words = self._words(text, offsets, chances, kinds, certainty)
            found[place] += [Found(begin + one.start, begin + one.end, one.kind) for one in words]
        return [_joined(text, words) for text, words in zip(texts, found, strict=True)]

    def _encoded(self, texts: Sequence[str]) -> dict[str, Any]:
        return dict(
            self._policy.tokenizer(
                list(texts), truncation=True, max_length=self._longest, return_offsets_mapping=True, verbose=False
            )
        )

    def _pieces(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield where a text is cut so that the model reads each piece whole: behind a sentence, else behind a word."""
        if len(text) <= self._room:  # a token has a character at least
            yield from [(0, len(text))] if text.strip() else []
            return
        encoded = self._policy.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        offsets, begin, first = encoded["offset_mapping"], 0, 0
        while len(offsets) - first > self._room:
            end = max(begin + 1, offsets[first + self._room - 1][1])
            cuts = [one.end() for one in _SENTENCE.finditer(text, begin + (end - begin) // 2, end)]
            cuts = cuts or [one.end() for one in re.finditer(r"\s", text[begin + (end - begin) // 2 : end])][-1:]
            last = cuts[-1] if cuts and cuts[-1] > begin else 0
            last = last if last > begin else end
            yield begin, last
            begin = last
            first = next((place for place in range(first, len(offsets)) if offsets[place][1] > begin), len(offsets))
        if text[begin:].strip():
            yield begin, len(text)

    @torch.no_grad()
    def _scores(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Return the logits of each row. [T, K] each, fp32"""
        found: list[Tensor] = [torch.empty(0, len(self.labels))] * len(rows)
        for batch in cut([(Row(number, ids),) for number, ids in enumerate(rows) if len(ids)], self._policy.max_tokens):
            moved = batch.to(self._policy.device)
            if self._is_run:
                head = self._policy.heads[HEAD]
                assert isinstance(head, nn.Linear)
                logits = nn.functional.linear(self._policy.hidden(moved).float(), head.weight.float(), head.bias.float())
            else:
                ids, mask = padded(moved)
                logits = self._policy.network(input_ids=ids, attention_mask=mask).logits[mask.bool()].float()
            if not torch.isfinite(logits).all():
                raise ModelError(f"{self.name}: gives no numbers for some texts, so it finds no names there. Name another model.")
            for row, some in zip(batch.row_ids, torch.split(logits.cpu(), list(batch.lengths)), strict=True):
                found[row] = some
        return found

    def _words(
        self, text: str, offsets: Sequence[Sequence[int]], chances: Tensor, kinds: Mapping[str, str], certainty: float
    ) -> Iterator[Found]:
        """Yield the words that are of a kind. Its first piece decides, as the model has learnt it.

        Beside a word of which the model is certain, a smaller certainty is enough: a name goes on more often than it begins.
        """
        own = [kinds.get(kind_of(label), "") for label in self.labels]
        columns = {kind: [place for place, one in enumerate(own) if one == kind] for kind in sorted(set(own) - {""})}
        sums = {kind: chances[:, places].sum(-1).tolist() for kind, places in columns.items()}
        token, seen = 0, list[tuple[re.Match[str], str, float]]()
        for word in _WORD.finditer(text):
            while token < len(offsets) and (offsets[token][1] <= word.start() or offsets[token][0] == offsets[token][1]):
                token += 1
            if token == len(offsets):
                break
            if offsets[token][0] >= word.end():
                continue  # the tokenizer leaves nothing of it
            kind = max(sums, key=lambda one: sums[one][token], default="")
            seen.append((word, kind, sums[kind][token] if kind else 0.0))
        taken = [chance >= certainty for _, _, chance in seen]
        for order in (range(1, len(seen)), range(len(seen) - 2, -1, -1)):
            step = -1 if order.step > 0 else 1
            for place in order:
                beside = taken[place + step] and seen[place + step][1] == seen[place][1]
                taken[place] |= beside and seen[place][2] >= GOES_ON * certainty
        for (word, kind, _), is_name in zip(seen, taken, strict=True):
            if is_name:
                yield Found(word.start(), word.end() - (2 if _POSSESSIVE.search(word[0]) else 0), kind)


def _joined(text: str, words: Iterable[Found]) -> list[Found]:
    """Return words side by side as one: of a person on one line, of a place also behind a comma or on the next line."""
    found: list[Found] = []
    for word in words:
        if found and found[-1].kind == word.kind:
            between = text[found[-1].end : word.start]
            initial = between.strip() == "." and not text[max(0, found[-1].end - 3)].isalpha()  # J. Smith, St. Gallen
            if word.kind == "place":
                together = len(between) < 4 and between.strip() in {"", ",", "#", "-", "/"}
            else:
                together = len(between) < 4 and not between.strip() and "\n" not in between
            if together or (initial and len(between) < 4):
                found[-1] = Found(found[-1].start, word.end, word.kind)
                continue
        found.append(word)
    return found


def _sound(text: str) -> str:
    """Return the text, as long as it was, without halves of characters, which no tokenizer takes, and control characters, which hide words."""
    text = _CONTROLS.sub(" ", text)
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def kind_of(label: str) -> str:
    """Return what a label names, without its mark: PER of B-PER, GIVENNAME of I-GIVEN_NAME; O stays."""
    return re.sub(r"[^A-Z0-9]", "", _MARK.sub("", label.upper())) or label


def load_tagger(name: str) -> Tagger:
    """Return a run of objective `tokens` by its folder, or a token classification model by its folder or id. Raises ModelError, RunError."""
    folder = Path(name)
    return _loaded(name, max((file.stat().st_mtime_ns for file in _files(folder)), default=0))


def _files(folder: Path) -> Iterator[Path]:
    for place in (folder, folder / "model"):
        if place.is_dir():
            yield from (Path(one.path) for one in os.scandir(place) if one.is_file())


@lru_cache(maxsize=2)
def _loaded(name: str, _changed: int) -> Tagger:
    if not is_run(name):
        policy = load_policy(name, tagging=True)
        return Tagger(name, policy, policy.classes, policy.context, is_run=False)
    policy, card = load_run_model(Path(name) / "model")
    if HEAD not in policy.heads or card.tasks:
        raise ModelError(
            f"{name}: a run of '{card.objective}', which does not label the words of a text. Name a run of objective 'tokens' alone, or a token "
            "classification model."
        )
    return Tagger(name, policy, card.classes, min(card.max_length, policy.context), is_run=True)
