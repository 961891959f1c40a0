"""How many bits each character of the answer costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import ratio

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class BitsPerCharacter:
    """Negative log-likelihood in bits, per character: comparable between tokenisers."""

    higher_is_better: ClassVar[bool] = False
    best: ClassVar[float] = 0.0
    needs: ClassVar[tuple[str, ...]] = ("nll", "num_characters")
    title: ClassVar[str] = "Bits per character"
    claim: ClassVar[str] = "{value} bits per character on {rows}"
    share: ClassVar[bool] = False

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        assert output.nll is not None and output.num_characters is not None, f"row {example.id}: no nll or num_characters"
        return output.nll, float(output.num_characters)

    def reduce(self, statistics: Statistics) -> float:
        return ratio(statistics) / math.log(2)
