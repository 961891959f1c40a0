"""Texts that nobody meant."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

from pydantic import Field

from whet.plugins import plugin
from whet.protocols import Unwanted

_RARITY = (
    "95457757596353959343667867", "35883999389389399357499969", "39693993494599299464499969", "47852867289577489448477969", "47535668698453768234767679",
    "39993399299399399465499969", "38982954399475499347498959", "27992899399667399565497949", "46454659998452469534759896", "29992999499999299999299999",
    "37882796297475579637696959", "37762789297378379955579949", "24892899399857339959499969", "48443628486885489833678978", "66557758696442559344455778",
    "39992994399489349355599969", "69999999799999999998099999", "36652768396655369544578959", "48493894396557448932496969", "38692894299688499445597958",
    "55555659598343759334989898", "39991999299999499889799989", "26873794397574389547899979", "48493795299889439993578659", "45453767498444449434696899",
    "28891997398588499988698954",
)  # fmt: skip
"""How rare a letter is behind another, a row for each first one from a to z: minus log2 of its probability, at most 9, in the words of an
English frequency list, each counted by the logarithm of its frequency."""
_A, _Z = "a", "z"


@plugin
class Gibberish:
    """Drops rows with a text of letters that no language puts side by side (`sdkfjh wqpzx`), or of hardly anything but signs.

    Letters are judged by their pairs, those of the Latin script only. Of sentences in fifteen European and Asian languages fewer than one
    in a hundred lies above the limit; of letters drawn at random, four in five.
    """

    rarity: float = Field(5.8, ge=4, le=9)
    """Mean rarity of the pairs of letters, in bits, above which a text goes. English has about 3.5, Polish 4.5, drawn letters 6.5."""
    min_pairs: int = Field(8, ge=1)
    """Pairs of letters from which on a text is judged."""
    signs: float = Field(0.9, gt=0, le=1)
    """Share of the characters but spaces that are neither letters nor digits nor emoji, above which a text of ten or more goes."""

    def clean(self, text: str) -> str:
        """Return the text as it is. Raises Unwanted."""
        dense = "".join(text.split())
        if len(dense) >= 10:
            signs = sum(unicodedata.category(one)[0] in "PZC" or one in "$+<=>^`|~" for one in dense) / len(dense)
            if signs > self.signs:
                raise Unwanted(f"a text of signs: {signs:.0%} of its characters; allowed: {self.signs:.0%}")
        letters = text.lower()
        if not letters.isascii():
            letters = "".join(one for one in unicodedata.normalize("NFD", letters) if not unicodedata.combining(one))
        rarities = [
            int(_RARITY[ord(one) - ord(_A)][ord(other) - ord(_A)])
            for one, other in pairwise(letters)
            if _A <= one <= _Z and _A <= other <= _Z
        ]
        if len(rarities) >= self.min_pairs and sum(rarities) / len(rarities) > self.rarity:
            mean = sum(rarities) / len(rarities)
            raise Unwanted(f"a text of letters that no language puts side by side (rarity {mean:.1f}); allowed: {self.rarity:g}")
        return text
