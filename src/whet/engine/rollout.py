"""Rollouts: answers that a policy writes and a reward scores, as rows to learn from, and as JSON for a checkpoint.

Answers are drawn from the policy as it is (temperature 1, no cut), so what learns is what has written. Every draw is keyed by
(seed, step, answer, position).

Shapes: T tokens of a row, N supervised tokens, V vocabulary.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator
from torch import Tensor

from whet.engine.answers import numbered, token_logprobs
from whet.engine.generate import GREEDY, Sampling, continuations
from whet.engine.machine import computing
from whet.engine.measure import segment_sum
from whet.engine.order import seed_of, shuffled
from whet.errors import RecipeError, TrainingError, WhetError, own_place
from whet.models.policy import Policy
from whet.models.template import prompt_ids, stop_ids
from whet.plugins import inner
from whet.protocols import Plan, Reward
from whet.types import Cursor, Example, Output, Row, State, StepRows, Unit

RewardSetting = Annotated[Any, BeforeValidator(functools.partial(inner, "rewards"), json_schema_input_type=str | dict[str, Any])]
"""A setting that names a reward, and holds it once it is built."""
KL_TOKENS = 256
"""Tokens whose whole distributions exist at one time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a policy wrote to one prompt."""

    ids: list[int]
    """With the token that ended it, where one did."""
    text: str
    ended: bool


def prompt_units(examples: Sequence[Example], policy: Policy, max_length: int, max_new_tokens: int) -> list[Unit]:
    """Return each example's prompt as a unit; one too long for an answer behind it loses its beginning. Raises RecipeError."""
    room = max_length - max_new_tokens
    if room < 1:
        raise RecipeError(
            f"objective.max_new_tokens is {max_new_tokens}, and a row has at most {max_length} tokens (train.max_length), prompt and answer "
            f"together. Allowed: less than {max_length}."
        )
    units: list[Unit] = []
    for example in examples:
        ids = torch.tensor(prompt_ids(policy.tokenizer, example.prompt or ())[-room:])
        units.append((Row(example.id, ids, {"supervised": torch.zeros(len(ids))}, weights={"policy": 1.0}, example=example),))
    return units


def roll_out(policy: Policy, prompts: Sequence[Sequence[int]], max_new_tokens: int, sampling: Sampling) -> list[Answer]:
    """Return the policy's answer to each prompt."""
    stops = stop_ids(policy.tokenizer)
    answers = []
    for ids in continuations(policy, prompts, max_new_tokens, stops, sampling):
        ended = bool(ids) and ids[-1] in stops
        text = str(policy.tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=True)).strip()
        answers.append(Answer(ids, text, ended))
    return answers


def rollout_steps(
    units: Sequence[Unit],
    policy: Policy,
    plan: Plan,
    cursor: Cursor,
    state: State,
    updates: int,
    answered: Callable[[Sequence[Row], Policy, Sampling], tuple[Unit, ...]],
) -> Iterator[StepRows]:
    """Yield `updates` steps from each rollout that `answered` makes of the next prompts, without end.

    Of a rollout that further steps learn from, rows and the number of steps done go into the objective's state.
    """
    held, done = state.get("rollout"), int(state.get("updates", 0))
    for taken in shuffled(units, plan, cursor):
        if held:
            rows = units_from_json(held)
        else:
            sampling = Sampling(1.0, 1.0, seed_of(plan.seed, f"rollout/{cursor.epoch}/{cursor.position}"))
            with computing(plan.precision, policy.device):
                rows = answered([unit[0] for unit in taken.units], policy, sampling)
        stored = held or (units_as_json(rows) if updates > 1 else None)
        for update in range(done + 1, updates):
            yield StepRows(rows, cursor, {"rollout": stored, "updates": update})
        held, done, cursor = None, 0, taken.after
        yield StepRows(rows, cursor, {"rollout": None, "updates": 0})


def try_out(reward: Reward, examples: Sequence[Example]) -> None:
    """Have the reward score an empty answer and a short one, so that one that fails on every answer stops nothing that has begun.

    Raises TrainingError.
    """
    asked = [example for example in examples[:2] if all(getattr(example, need) is not None for need in reward.needs)]
    score(reward, asked, ["", "yes"][: len(asked)])


def score(reward: Reward, examples: Sequence[Example], answers: Sequence[str]) -> list[float]:
    """Return what each answer is worth. Raises TrainingError where the reward fails or gives no finite number: never 0 instead."""
    if not answers:
        return []
    name = type(reward).__name__
    first = examples[0]
    try:
        found = [float(value) for value in reward.score(examples, answers)]
    except WhetError:
        raise
    except (Exception, SystemExit) as error:  # a file of the user's own may raise anything
        place = own_place(error)
        raise TrainingError(
            f"the reward {name} failed on {len(answers):,} answers, the first of them to {first.file}:{first.line}: "
            f"{place and f'{place}: '}{type(error).__name__}: {error}. Mend it: an answer that cannot be scored must get a number that you choose."
        ) from error
    if len(found) != len(answers):
        raise TrainingError(
            f"the reward {name} gave {len(found)} numbers for {len(answers)} answers. It must give one for each, in order."
        )
    for example, value in zip(examples, found, strict=True):
        if not math.isfinite(value):
            raise TrainingError(
                f"the reward {name} gave {value} for an answer to {example.file}:{example.line}. It must be a finite number."
            )
    return found


def answer_rows(prompts: Sequence[Row], answers: Sequence[Answer], rewards: Sequence[float], policy: Policy) -> list[Row]:
    """Return prompt and answer as rows to learn from: tokens `supervised`, `old_logprobs` and `reference_logprobs`; scalars
    `reward`, `kl` (the sampled log-ratio to the reference, in nats), `ended` and `answer_tokens`.

    Without a reference the policy is its own.
    """
    rows = _joined(prompts, answers)
    old = token_logprobs(policy, rows)
    reference = old if policy.reference is None else token_logprobs(policy.reference, rows)
    return [
        replace(
            row,
            tokens={**row.tokens, "old_logprobs": mine, "reference_logprobs": theirs},
            scalars={
                "reward": worth,
                "kl": float((mine - theirs).sum()),
                "ended": float(answer.ended),
                "answer_tokens": float(len(answer.ids)),
            },
        )
        for row, answer, worth, mine, theirs in zip(rows, answers, rewards, old, reference, strict=True)
    ]


def greedy_outputs(
    policy: Policy, examples: Sequence[Example], reward: Reward, max_length: int, max_new_tokens: int
) -> list[Output]:
    """Return the likeliest answer to each example, what it is worth, and how far the policy has moved from its reference along it.

    An example without what the reward needs is answered and not scored; a policy without a reference has not moved.
    """
    prompts = [unit[0] for unit in prompt_units(examples, policy, max_length, min(max_new_tokens, max_length - 1))]
    answers = roll_out(policy, [prompt.ids.tolist() for prompt in prompts], min(max_new_tokens, max_length - 1), GREEDY)
    scored = [index for index, one in enumerate(examples) if all(getattr(one, need) is not None for need in reward.needs)]
    worth = dict(zip(scored, score(reward, [examples[i] for i in scored], [answers[i].text for i in scored]), strict=True))
    moved = _divergences(policy, _joined(prompts, answers))
    return [Output(text=one.text, reward=worth.get(index), kl=moved[index]) for index, one in enumerate(answers)]


def _joined(prompts: Sequence[Row], answers: Sequence[Answer]) -> list[Row]:
    """Return prompt and answer as rows with the answer supervised."""
    rows = []
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.cat([prompt.ids, torch.tensor(answer.ids, dtype=torch.long)])
        supervised = torch.zeros(len(ids))
        supervised[len(prompt.ids) :] = 1.0
        rows.append(Row(prompt.id, ids, {"supervised": supervised}))
    return rows


def _divergences(policy: Policy, rows: Sequence[Row]) -> list[float]:
    """Return, for each row, the sum over its answer's places of KL(policy || reference) between whole distributions, in nats."""
    if policy.reference is None:
        return [0.0] * len(rows)
    found = [0.0] * len(rows)
    with torch.no_grad():
        for batch in numbered(rows, KL_TOKENS):
            here = batch.to(policy.device)
            ours, theirs = policy.distributions(here), policy.reference.distributions(here)  # [N, V]
            places = here.tokens["supervised"].to(ours.dtype)
            spread = torch.zeros_like(places).masked_scatter(places > 0, (ours.exp() * (ours - theirs)).sum(-1))
            for number, total in zip(batch.row_ids, segment_sum(spread, here).tolist(), strict=True):
                found[number] = max(0.0, total)
    return found


def trial_reward(policy: Policy, units: Sequence[Unit], reward: Reward, max_new_tokens: int) -> dict[str, float]:
    """Return the mean reward of the likeliest answers to these prompts, below 0, so that lower is better."""
    rows = [unit[0] for unit in units]
    answers = roll_out(policy, [row.ids.tolist() for row in rows], max_new_tokens, GREEDY)
    worth = score(reward, [row.example for row in rows if row.example is not None], [answer.text for answer in answers])
    return {"reward": -sum(worth) / len(worth)}


def counting_flat(state: State, metrics: Mapping[str, float], patience: int) -> State:
    """Return the state with the number of steps in a row whose rewards told no answer from another. Raises TrainingError at `patience`."""
    num_flat = int(state.get("flat_steps", 0)) + 1 if metrics.get("flat") == 1 else 0
    if patience and num_flat >= patience:
        raise TrainingError(
            f"for {num_flat} steps all answers to be compared were worth the same (mean reward {metrics.get('reward', math.nan):g}), so "
            "nothing is learnt. Try the reward on a few answers of this model, start from easier prompts or from a model tuned with sft, "
            "give part of the reward for part of the answer, or wait longer with objective.patience."
        )
    return state | {"flat_steps": num_flat}


def units_as_json(units: Iterable[Unit]) -> list[Any]:
    """Return rollouts as lists and numbers, exactly, so that a checkpoint keeps them."""
    return [[_row_as_json(row) for row in unit] for unit in units]


def units_from_json(stored: Iterable[Iterable[Mapping[str, Any]]]) -> tuple[Unit, ...]:
    """Return what `units_as_json` was given."""
    return tuple(tuple(_row_from_json(row) for row in unit) for unit in stored)


def _row_as_json(row: Row) -> dict[str, Any]:
    tokens = {name: [str(values.dtype).removeprefix("torch."), values.tolist()] for name, values in row.tokens.items()}
    return {"id": row.id, "ids": row.ids.tolist(), "tokens": tokens, "scalars": dict(row.scalars), "weights": dict(row.weights)}


def _row_from_json(stored: Mapping[str, Any]) -> Row:
    tokens: dict[str, Tensor] = {
        name: torch.tensor(values, dtype=getattr(torch, kind)) for name, (kind, values) in stored["tokens"].items()
    }
    return Row(stored["id"], torch.tensor(stored["ids"]), tokens, stored["scalars"], weights=stored["weights"])
