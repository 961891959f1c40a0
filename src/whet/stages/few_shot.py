"""The untuned model with training rows in its prompt: what prompting reaches on the rows that tuning is judged on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from whet.engine.embed import asked_rows
from whet.engine.machine import Precision, computing
from whet.engine.shots import drawn, nearest_by_meaning, nearest_by_words, shown
from whet.errors import ModelError, RunError
from whet.models.load import load_policy
from whet.models.policy import Policy
from whet.recipe import FewShot
from whet.stages.narrate import Narrator
from whet.types import Example, Output

NAME = "few_shot"
EMBEDDER = "builtin:minilm"


@dataclass(frozen=True, slots=True)
class Shown:
    """Test rows with other rows before them."""

    examples: Sequence[Example]
    """In their order; one that no row fitted before has no shots."""
    record: dict[str, Any]
    """What the report says of them."""

    def outputs(self, plain: Sequence[Output], ask: Callable[[Sequence[Example]], Iterable[Output]]) -> list[Output]:
        """Return what the untuned model gives; `plain` is what it gave without shots, for the rows that have none."""
        asked = iter(list(ask([example for example in self.examples if example.shots])))
        return [next(asked) if example.shots else given for example, given in zip(self.examples, plain, strict=True)]

    def of(self, places: Sequence[int]) -> Shown:
        """Return the same of some of the rows."""
        return Shown([self.examples[place] for place in places], self.record)


def show_examples(
    base: Policy,
    train: Sequence[Example],
    examples: Sequence[Example],
    settings: FewShot,
    seed: int,
    max_new_tokens: int,
    precision: Precision,
    narrator: Narrator,
) -> Shown:
    """Return the examples with training rows before them, as many as are asked for and fit. Raises RunError where no row can be shown."""
    usable = [one for one in train if one.prompt and one.response]
    if not usable:
        raise RunError(
            "evaluate.few_shot: no training row has an answer to show. Set evaluate.few_shot.examples=0, or name the column of answers "
            "(data.response) and train again."
        )
    places, known, by = _places(base, usable, examples, settings, seed, precision)
    made = [
        shown(base, example, [known[place] for place in some], max_new_tokens)
        for example, some in zip(examples, places, strict=True)
    ]
    counts = [len(example.shots or ()) // 2 for example in made]
    fewer = sum(count < settings.examples for count in counts)
    mean = sum(counts) / len(counts)
    sentence = f"Up to {settings.examples} training rows stood in the prompt of the untuned model: {by}."
    if fewer:
        sentence += (
            f" Before {fewer:,} of {len(counts):,} rows there were fewer, since no more fit its context; {mean:.1f} on average."
        )
    narrator.say(sentence)
    record = {
        "examples": settings.examples,
        "choose": settings.choose,
        "mean": round(mean, 4),
        "fewer": fewer,
        "sentence": sentence,
    }
    return Shown(made, record)


def _places(
    base: Policy, train: Sequence[Example], examples: Sequence[Example], settings: FewShot, seed: int, precision: Precision
) -> tuple[list[list[int]], Sequence[Example], str]:
    """Return which rows are shown before each example, the rows that these are places of, and how they were chosen."""
    if settings.choose == "fixed":
        return drawn(examples, train, settings.examples, seed), train, f"a fixed draw (seed {seed})"
    known = asked_rows(train, len(examples))
    try:
        embedder = load_policy(EMBEDDER)
    except ModelError:  # it comes in a package of its own
        return nearest_by_words(examples, known, settings.examples), known, "those that share most words with the question"
    embedder.max_tokens = base.max_tokens
    with computing(precision, embedder.device), torch.no_grad():
        found = nearest_by_meaning(embedder, examples, known, settings.examples)
    return found, known, f"those nearest to the question by {EMBEDDER}"
