"""Words left out."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from pydantic import Field

from whet.plugins import plugin
from whet.protocols import Augmenter
from whet.types import Original
from whet.wordwise import cut, movable


@plugin
class RandomDeletion(Augmenter):
    """Each word left out with some probability, but no negation, and never all. Wei and Zou 2019 (arXiv:1901.11196), RD; any language.

    A departure from the paper: where no word happens to be drawn, one is left out, so that a new text is made.
    """

    strength: float = Field(0.1, gt=0, lt=1)
    """Probability of each word to be left out."""

    def augment(self, originals: Sequence[Original]) -> Iterator[str]:
        for one in originals:
            draw, parts = random.Random(one.draw), cut(one.text)
            places = movable(parts.words)
            leaving = [place for place in places if draw.random() < self.strength]
            if not leaving and places:
                leaving = [draw.choice(places)]
            if len(leaving) == len(parts.words):
                leaving.remove(draw.choice(leaving)) if leaving else None
            for place in reversed(leaving):
                parts.leave_out(place)
            yield parts.text
