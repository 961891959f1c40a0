"""The rows of a work, drawn once: lengths as of instructions and answers, tokens that can be learnt, in steps. Everybody trains on the same
rows in the same order. There are two orders, which differ for those alone who pad.

`drawn`: there are no more rows than are trained on, and a step has those that transformers' `group_by_length` puts together of so few: it
sorts rows // (4 x batch) steps' rows at a time, here one to four. So it is with a small data set.

`grouped`: the same with many rows, which is best for those who pad: of POOL steps' rows, sorted by length. Of these steps the timed ones
are the middles of equal parts of the sorted ones, so that they stand for all.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
from transformers.trainer_pt_utils import LengthGroupedSampler

from bench.train.works import Work

POOL = 50
"""Steps whose rows are sorted together; HF Trainer's own number, of data sets that have as many."""
FREQUENT = 2000
"""Tokens that occur; the n-th is 1/n as likely as the first."""
FIRST = 4
"""The first token that is no special one."""
LONGEST, LONGEST_TEXT = 512, 256
END, START_OF_TEXT, END_OF_TEXT = 2, 101, 102


@dataclass(frozen=True)
class Row:
    """Tokens, and what is learnt of them: those from `supervised_from` on, or a class."""

    ids: list[int]
    supervised_from: int = 0
    label: int = 0


def steps_of(work: Work, seed: int = 0) -> list[list[Row]]:
    """Return the rows of each step, the warm ones first."""
    draw = answers if work.decodes else texts
    if work.order == "drawn":
        return _steps(_arranged(draw((work.warm + work.timed) * work.rows_per_step, seed), work.rows_per_step, seed), work)
    grouped = _steps(sorted(draw(POOL * work.rows_per_step, seed), key=lambda row: len(row.ids)), work)
    return [grouped[index] for index in chosen_steps(work.warm, work.timed)]


def padding(steps: list[list[Row]]) -> float:
    """Return the tokens of rows that are padded to the longest of their step, over those that they have."""
    padded = sum(len(step) * max(len(row.ids) for row in step) for step in steps)
    return padded / sum(len(row.ids) for step in steps for row in step)


def chosen_steps(warm: int, timed: int) -> list[int]:
    """Return which of POOL steps, from short to long, are done: for warming the next longer ones, and then the middles of `timed` equal parts.

    The first is as long as any, so that what a trainer allocates then serves all others. The timed ones come in a drawn order.
    """
    middles = [int((part + 0.5) * POOL / timed) for part in range(timed)]
    order = np.random.default_rng(0).permutation(timed)
    return [place + 1 for place in middles[::-1][:warm]] + [middles[place] for place in order]


def answers(count: int, seed: int) -> list[Row]:
    """Return prompts of about 100 tokens with answers of about 90, at most 512 together; the answer is learnt, with its end token."""
    generator = np.random.default_rng(seed)
    chances = 1.0 / np.arange(1, FREQUENT + 1)
    chances /= chances.sum()
    spread, rows = 0.7, []
    for _ in range(count):
        prompt = _length(generator, 100, spread, 8, LONGEST - 40)
        answer = _length(generator, 90, spread, 4, LONGEST - prompt - 1)
        tokens = generator.choice(FREQUENT, size=prompt + answer, p=chances)
        follows = generator.random(prompt + answer) < 0.5  # half of the tokens follow from the one before
        for place in range(1, len(tokens)):
            if follows[place]:
                tokens[place] = (tokens[place - 1] * 7 + 13) % FREQUENT
        rows.append(Row([FIRST + int(token) for token in tokens] + [END], supervised_from=prompt))
    return rows


def texts(count: int, seed: int) -> list[Row]:
    """Return texts of 8 to 256 tokens, of median 60, of two classes: a third of a text's tokens tell which."""
    generator, rows = np.random.default_rng(seed), []
    for _ in range(count):
        length = int(np.clip(generator.lognormal(math.log(60), 0.8), 8, LONGEST_TEXT))
        label = int(generator.integers(2))
        tokens = generator.integers(1000, 3000, length)
        tokens[generator.random(length) < 0.3] = 500 + label
        rows.append(Row([START_OF_TEXT, *map(int, tokens), END_OF_TEXT], label=label))
    return rows


def _arranged(rows: list[Row], rows_per_step: int, seed: int) -> list[Row]:
    """Return rows in the order in which HF Trainer's `group_by_length` takes them."""
    chance = torch.Generator().manual_seed(seed)
    return [
        rows[place] for place in LengthGroupedSampler(rows_per_step, lengths=[len(row.ids) for row in rows], generator=chance)
    ]


def _steps(rows: list[Row], work: Work) -> list[list[Row]]:
    return [rows[begin : begin + work.rows_per_step] for begin in range(0, len(rows), work.rows_per_step)]


def records(steps: list[list[Row]]) -> list[list[dict[str, object]]]:
    """Return the steps as they are written for the drivers."""
    return [[asdict(row) for row in step] for step in steps]


def _length(generator: np.random.Generator, mean: float, spread: float, low: int, high: int) -> int:
    return int(np.clip(generator.lognormal(math.log(mean) - spread**2 / 2, spread), low, high))
