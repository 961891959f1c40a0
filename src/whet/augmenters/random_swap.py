"""Words that change places."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from pydantic import Field

from whet.plugins import plugin
from whet.protocols import Augmenter
from whet.types import Original
from whet.wordwise import cut, movable, number_of


@plugin
class RandomSwap(Augmenter):
    """Two words change places, some times; negations stay. Wei and Zou 2019 (arXiv:1901.11196), RS; for any language."""

    strength: float = Field(0.1, gt=0, le=1)
    """How many times, as a share of the text's words; at least once."""

    def augment(self, originals: Sequence[Original]) -> Iterator[str]:
        for one in originals:
            draw, parts = random.Random(one.draw), cut(one.text)
            places = movable(parts.words)
            for _ in range(number_of(self.strength, parts.words) if len(places) > 1 else 0):
                parts.swap(*draw.sample(places, 2))
            yield parts.text
