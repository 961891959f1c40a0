"""The laws of a reward, for the built-in ones and for your own: `check_reward(MyReward(), examples)`.

A law is a function of (reward, examples) that raises AssertionError; `examples` have what the reward needs (see `tiny_sums`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from whet.protocols import Reward
from whet.types import Example

WORDS = ("", "no", "1", "it is 7, I think", "12 or 13\n\n#### 4", "ünï ☂ " * 3)
"""Answers of any sort; a model writes them all."""


def check_reward(reward: Reward, examples: Sequence[Example]) -> None:
    """Raise AssertionError at the first law that does not hold."""
    for law in REWARD_LAWS:
        law(reward, examples)


def every_answer_gets_a_finite_number(reward: Reward, examples: Sequence[Example]) -> None:
    """One number for each answer, whatever it is, the empty one too."""
    for word in WORDS:
        found = list(reward.score(examples, [word] * len(examples)))
        assert len(found) == len(examples), f"{len(examples)} answers were given {len(found)} numbers"
        assert all(isinstance(value, float | int) and math.isfinite(value) for value in found), (
            f"the answer {word!r} is worth {found}"
        )


def company_does_not_matter(reward: Reward, examples: Sequence[Example]) -> None:
    """An answer is worth the same alone, in another order, and asked again."""
    answers = [WORDS[place % len(WORDS)] for place in range(len(examples))]
    given = list(reward.score(examples, answers))
    again = list(reward.score(examples, answers))
    assert given == again, f"asked again, the same answers are worth {again}, not {given}"
    backwards = list(reward.score(examples[::-1], answers[::-1]))[::-1]
    alone = [reward.score([example], [answer])[0] for example, answer in zip(examples, answers, strict=True)]
    for number, values in enumerate(zip(given, backwards, alone, strict=True)):
        assert all(math.isclose(value, values[0], rel_tol=1e-4, abs_tol=1e-5) for value in values), (
            f"answer {number} is worth {values[0]} in order, {values[1]} backwards, and {values[2]} alone"
        )


def the_expected_answer_is_worth_most(reward: Reward, examples: Sequence[Example]) -> None:
    """Where an answer is compared with the expected one, none is worth more than that one itself."""
    if "response" not in reward.needs:
        return
    best = list(reward.score(examples, [example.response or "" for example in examples]))
    for word in WORDS:
        for example, most, value in zip(examples, best, reward.score(examples, [word] * len(examples)), strict=True):
            assert value <= most, f"{word!r} is worth {value}, and the expected answer {example.response!r} only {most}"
    assert any(value < most for most, value in zip(best, reward.score(examples, ["qqq zzz"] * len(examples)), strict=True)), (
        "a senseless answer is worth as much as the expected one"
    )


def needs_are_fields(reward: Reward, examples: Sequence[Example]) -> None:
    """What it needs are fields of an example, which `check` accepts."""
    for need in reward.needs:
        assert all(getattr(example, need) is not None for example in examples), f"'{need}' is not set in the examples"
    reward.check(examples)


REWARD_LAWS: tuple[Callable[[Reward, Sequence[Example]], None], ...] = (
    every_answer_gets_a_finite_number,
    company_does_not_matter,
    the_expected_answer_is_worth_most,
    needs_are_fields,
)
