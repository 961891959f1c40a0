"""Words that a masked language model puts in place of others.

Shapes: R texts, V vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from pydantic import Field

from whet.engine.cut import cut as cut_rows
from whet.errors import ModelError
from whet.models.load import load_policy
from whet.models.policy import Policy
from whet.plugins import Place, plugin
from whet.protocols import Augmenter
from whet.types import Original, Row
from whet.wordwise import Worded, cased, cut, movable, number_of

AT_ONCE = 64


@plugin
class MaskedModel(Augmenter):
    """Words exchanged, one after the other, for what a masked language model expects there. Kobayashi 2018 (arXiv:1805.06201), without labels."""

    model: Place
    """An encoder with masked-language weights: a Hugging Face id, or a folder."""
    strength: float = Field(0.15, gt=0, le=1)
    """Share of a text's words that are exchanged; at least one."""
    top: int = Field(10, ge=1)
    """Of how many of the likeliest words one is drawn, by their probability."""

    costly: ClassVar[bool] = True

    def augment(self, originals: Sequence[Original]) -> Iterator[str]:
        policy = load_policy(self.model, masked=True)
        if policy.tokenizer.mask_token_id is None:
            raise ModelError(f"{self.model}: its tokenizer has no mask token. Name an encoder with masked-language weights.")
        for begin in range(0, len(originals), AT_ONCE):
            yield from self._exchanged(originals[begin : begin + AT_ONCE], policy)

    def _exchanged(self, originals: Sequence[Original], policy: Policy) -> list[str]:
        texts = [cut(one.text) for one in originals]
        draws = [random.Random(one.draw) for one in originals]
        places = []
        for text, draw in zip(texts, draws, strict=True):
            some = movable(text.words)
            places.append(draw.sample(some, min(number_of(self.strength, text.words), len(some))))
        for turn in range(max(map(len, places), default=0)):
            asked = [number for number, chosen in enumerate(places) if turn < len(chosen)]
            expected = self._expected([(texts[number], places[number][turn]) for number in asked], policy)
            for number, words in zip(asked, expected, strict=True):
                place, text = places[number][turn], texts[number]
                others = [(word, weight) for word, weight in words if word.casefold() != text.words[place].casefold()]
                if others:
                    chosen = draws[number].choices([word for word, _ in others], [weight for _, weight in others])[0]
                    text.words[place] = cased(chosen, text.words[place])
        return [text.text for text in texts]

    @torch.no_grad()
    def _expected(self, asked: Sequence[tuple[Worded, int]], policy: Policy) -> list[list[tuple[str, float]]]:
        """Return the likeliest whole words at a place of each text, with their probabilities; nothing where the place is cut off."""
        rows, mask = [], policy.tokenizer.mask_token_id
        for number, (text, place) in enumerate(asked):
            hidden = Worded([*text.words[:place], policy.tokenizer.mask_token, *text.words[place + 1 :]], text.between)
            ids = policy.tokenizer(hidden.text, truncation=True, max_length=policy.context, verbose=False)["input_ids"]
            if ids.count(mask) == 1:
                rows.append(Row(number, torch.tensor(ids)))
        found: list[list[tuple[str, float]]] = [[] for _ in asked]
        for batch in cut_rows(((row,) for row in rows), policy.max_tokens):
            moved = batch.to(policy.device)
            places = (moved.ids == mask).nonzero().squeeze(-1)
            chances = torch.softmax(policy.masked_logits(moved, places).float(), dim=-1)  # [R, V]
            top, which = chances.topk(min(self.top * 4, chances.shape[-1]), dim=-1)
            for row, some, tokens in zip(batch.row_ids, top.tolist(), which.tolist(), strict=True):
                words = [(_word(policy, token), chance) for token, chance in zip(tokens, some, strict=True)]
                found[row] = [(word, chance) for word, chance in words if word][: self.top]
        return found


def _word(policy: Policy, token: int) -> str:
    """Return the word that a token is by itself; nothing for pieces, signs and digits."""
    piece = str(policy.tokenizer.convert_ids_to_tokens(token))
    word = str(policy.tokenizer.decode([token])).strip()
    begins = piece[:1] in {"Ġ", "▁"} or not any(mark in piece for mark in ("##", "Ġ", "▁"))
    return word if begins and word.isalpha() and (len(word) > 1 or word in {"a", "I"}) else ""
