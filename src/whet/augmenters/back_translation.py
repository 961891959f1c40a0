"""Texts translated there and back."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

from pydantic import Field

from whet.collect.translate import Translator, translated
from whet.plugins import plugin
from whet.protocols import Augmenter
from whet.types import Original

AT_ONCE = 64
_SENTENCE = re.compile(r"(?<=[.!?。！？])(\s+)")


@plugin
class BackTranslation(Augmenter):
    """Texts translated into another language and back. Sennrich et al. 2016; Xie et al. 2020 (UDA, arXiv:1904.12848), section 3."""

    there: Translator
    """Translates into the other language: a seq2seq model's id or folder, such as Helsinki-NLP/opus-mt-en-de; {command: [PROGRAM, ...]}, which
    reads a text a line and writes its translation a line; or {endpoint: {url, model, ...}, to: German}. {model: ..., prefix: "translate English to
    German: "} for T5."""
    back: Translator
    """The same for the way back."""
    strength: float = Field(1.0, gt=0, le=1)
    """Share of a text's sentences that are translated, at least one; a text of one sentence is translated whole."""

    costly: ClassVar[bool] = True

    def augment(self, originals: Sequence[Original]) -> Iterator[str]:
        for begin in range(0, len(originals), AT_ONCE):
            yield from self._some(originals[begin : begin + AT_ONCE])

    def _some(self, originals: Sequence[Original]) -> list[str]:
        texts, pieces = [], []
        for one in originals:
            cut = _SENTENCE.split(one.text)
            whole = [place for place in range(0, len(cut), 2) if cut[place].strip()]
            number = max(1, round(self.strength * len(whole)))
            texts.append(cut if number < len(whole) else [one.text])
            chosen = random.Random(one.draw).sample(whole, number) if number < len(whole) else [0][: len(whole)]
            pieces += [(len(texts) - 1, place) for place in sorted(chosen)]
        away = translated(self.there, [texts[text][place] for text, place in pieces])
        for (text, place), again in zip(pieces, translated(self.back, away), strict=True):
            texts[text][place] = again
        return ["".join(cut) for cut in texts]
