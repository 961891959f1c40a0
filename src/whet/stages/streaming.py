"""Rows that are read, tokenised and put in order while they are learnt from; the same ones in the same order wherever a run goes on."""

from __future__ import annotations

import copy
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whet.data.clean import Cleaners, build_cleaners
from whet.data.notices import counted
from whet.data.pieces import Content, Piece, read_piece
from whet.data.preflight import Finding
from whet.data.rows import Reject
from whet.data.sampled import rows_of
from whet.data.stream import ROWS_OF_PIECE, Streamed, keys_of, parts_of
from whet.engine.order import permutation
from whet.engine.parallel import rank, size, wait
from whet.engine.seen import Seen
from whet.engine.token_cache import Tokenised, fits, keep, kept, make_room, place_of, stored_bytes
from whet.errors import DataError, RecipeError
from whet.files import cache_folder
from whet.models.policy import Policy
from whet.protocols import Objective, Plan
from whet.recipe import Recipe
from whet.recipe_data import Data
from whet.stages.token_key import token_key
from whet.types import Cursor, Example, StepRows, Unit

WINDOW = 16
"""Pieces whose rows are mixed with each other; the pieces themselves come in an order drawn over all of them."""

LARGE = 1 << 30
"""Bytes of tokens from which on they are worth a word."""


@dataclass(slots=True)
class TokenStream:
    """The training rows of a run that streams."""

    streamed: Streamed
    objective: Objective
    policy: Policy
    """Has a tokenizer of its own, which a thread uses."""
    columns: Data
    cleaners: Cleaners
    max_length: int
    key: str
    """Hash of all that a row's tokens depend on beside its text."""
    num_units: int
    """Units of an epoch, as the sample lets expect."""
    seed: int = 0
    pieces: list[Piece] = field(default_factory=list)
    order: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """The first epoch's, in which duplicates are found."""
    seen: Seen = field(default_factory=Seen)
    chosen: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    """Of each piece that was entered, which of its units are learnt from, a bit each."""
    counts: Counter[str] = field(default_factory=Counter)
    """What became of the rows of the pieces that were entered."""

    def steps(self, plan: Plan, cursor: Cursor) -> Iterator[StepRows]:
        """Yield steps of `plan.batch_size` units without end; each epoch has an order of its own, and its last step may be smaller."""
        if cursor.epoch:
            for number in self.order:  # what is a duplicate was decided in the first epoch's order
                self._units_of(int(number), self._tokenised(int(number)))
        for epoch in count(cursor.epoch):
            position = cursor.position if epoch == cursor.epoch else 0
            held: list[Unit] = []
            empty = position == 0
            for units in self._windows(epoch, position):
                held += units
                while len(held) >= plan.batch_size:
                    taken, held = held[: plan.batch_size], held[plan.batch_size :]
                    position, empty = position + len(taken), False
                    yield StepRows(tuple(taken), Cursor(epoch, position))
            if held:
                yield StepRows(tuple(held), Cursor(epoch + 1, 0))
            elif empty:
                raise DataError("data.streaming: no row of the files has anything to learn from. Look at some with: whet prepare")

    def room(self, sample: Sequence[Unit]) -> Finding:
        """Make room for the tokens of all rows, and say how much they take, as the sample lets expect."""
        folder, needed = cache_folder("tokens"), round(self.streamed.times * stored_bytes(sample))
        free = make_room(folder, needed)
        said = f"Tokens are kept in {folder}: about {needed / 2**30:,.1f} GiB for all rows, of {free / 2**30:,.1f} GiB that are free."
        if needed > free:
            return Finding(
                "warn", said, "Make room, or name a folder on another disk by XDG_CACHE_HOME; a full disk stops the run."
            )
        return Finding(
            "warn" if needed > LARGE else "note", said, "No run makes them again; the folder may be deleted at any time."
        )

    def sentence(self) -> str:
        """Return what became of all rows that were read so far."""
        said = ", ".join(f"{number:,} {what}" for what, number in self.counts.items() if what not in {"rows", "units"})
        return f"Read {len(self.chosen):,} of {counted(len(self.pieces), 'piece')}: {self.counts['rows']:,} rows = {said}."

    def place(self, row_id: int) -> str:
        """Return where a row stands, as `FILE@BYTE:LINE`."""
        number, inside = row_id >> ROWS_OF_PIECE, row_id & ((1 << ROWS_OF_PIECE) - 1)
        made = self._examples(number, read_piece(self.pieces[number]))[0]
        return next((f"{one.file}:{one.line}" for one in made if one.id & ((1 << ROWS_OF_PIECE) - 1) == inside), "?")

    def _windows(self, epoch: int, skipped: int) -> Iterator[list[Unit]]:
        """Yield the units of an epoch, window by window, each in a drawn order; without the first ones, which are not even read.

        While one window is learnt from, a thread makes the next one, so that learning does not wait for tokens.
        """
        order, done = [int(number) for number in permutation(self.seed, epoch, len(self.pieces))], 0
        windows = [order[begin : begin + WINDOW] for begin in range(0, len(order), WINDOW)]
        ahead = ThreadPoolExecutor(1, "tokens")
        try:
            coming = self._begun(ahead, windows[0])
            for window, numbers in enumerate(windows):
                files = self._finished(coming, numbers)
                coming = self._begun(ahead, windows[window + 1]) if window + 1 < len(windows) else {}
                places = [(number, int(unit)) for number in numbers for unit in self._units_of(number, files[number])]
                before, done = done, done + len(places)
                if done <= skipped:
                    continue
                drawn = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 1, window, epoch])).permutation(
                    len(places)
                )
                yield [self._unit(files, *places[place]) for place in drawn[max(0, skipped - before) :]]
        finally:
            ahead.shutdown(cancel_futures=True)

    def _begun(self, ahead: ThreadPoolExecutor, numbers: Sequence[int]) -> dict[int, Future[Tokenised]]:
        """Let a thread make pieces; of several processes each makes a share."""
        return {number: ahead.submit(self._tokenised, number) for number in numbers[rank() :: size()]}

    def _finished(self, coming: Mapping[int, Future[Tokenised]], numbers: Sequence[int]) -> dict[int, Tokenised]:
        """Return these pieces, once every process has made its share."""
        own = {number: future.result() for number, future in coming.items()}
        wait()
        return {number: own[number] if number in own else self._tokenised(number) for number in numbers}

    def _unit(self, files: Mapping[int, Tokenised], number: int, place: int) -> Unit:
        inside = int(files[number].numbers("example")[place])
        return (files[number].row(place, (number << ROWS_OF_PIECE) + inside),)

    def _units_of(self, number: int, found: Tokenised) -> NDArray[np.int64]:
        """Return the units of a piece that are learnt from; the first time, its texts are compared with all that were met before."""
        if number not in self.chosen:
            self._enter(number, found)
        return np.flatnonzero(np.unpackbits(self.chosen[number]))

    def _enter(self, number: int, found: Tokenised) -> None:
        shown, whole = (found.numbers(name).view(np.uint64) for name in ("shown", "whole"))
        new = self.seen.first(whole)
        parts = parts_of(shown, self.streamed.split)
        learnt = new & (parts == "train")
        inside = {int(one): place for place, one in enumerate(found.numbers("inside"))}
        units = np.array([learnt[inside[int(one)]] for one in found.numbers("example")], np.bool_)
        self.chosen[number] = np.packbits(units)
        self.counts["rows"] += len(shown) + sum(found.facts["dropped"].values())
        self.counts["to learn from"] += int(learnt.sum())
        self.counts["held out"] += int((new & (parts != "train")).sum())
        self.counts["duplicates dropped"] += int((~new).sum())
        self.counts.update(found.facts["dropped"])
        self.counts["units"] += int(units.sum())

    def _tokenised(self, number: int) -> Tokenised:
        """Return the rows of a piece: those that are kept, or else made now and kept."""
        content = read_piece(self.pieces[number])
        key = hashlib.sha256(
            f"{self.key} {content.piece.file.kind} {len(content.held)} {content.cut} {content.first == 0} ".encode()
            + content.held
        ).hexdigest()
        file = place_of(key)
        found = kept(file)
        if found is None:
            self._tokenise(number, content, file)
            found = kept(file)
            assert found is not None, "what was written a moment ago is not there"
        return found

    def _tokenise(self, number: int, content: Content, file: Path) -> None:
        examples, rejects = self._examples(number, content)
        units = [unit for unit in self.objective.units(examples, self.policy, self.max_length) if any(unit[0].weights.values())]
        if not fits(units):
            raise RecipeError(_CANNOT.format(name=type(self.objective).__name__))
        inside = (1 << ROWS_OF_PIECE) - 1
        keys = np.array([keys_of(one) for one in examples], np.uint64).reshape(-1, 2).view(np.int64)
        noted: dict[str, NDArray[Any]] = {
            "shown": keys[:, 0],
            "whole": keys[:, 1],
            "inside": np.array([one.id & inside for one in examples], np.int32),
            "example": np.array([unit[0].id & inside for unit in units], np.int32),
        }
        keep(file, units, noted, {"dropped": dict(Counter(reject.group for reject in rejects))})

    def _examples(self, number: int, content: Content) -> tuple[list[Example], list[Reject]]:
        made = list(rows_of(number, content, self.columns, self.objective.needs, self.cleaners))
        return [one for one in made if isinstance(one, Example)], [one for one in made if isinstance(one, Reject)]


_CANNOT = "objective '{name}' keeps more of a row than its tokens, so data.streaming cannot be used with it. Use pretrain, sft or seq2seq."


def check_streaming(recipe: Recipe, objective: Objective) -> None:
    """Raise RecipeError where a recipe streams and asks for what needs all rows at once."""
    if recipe.tasks is not None:
        if any(task.data.streaming for task in recipe.tasks.values()):
            raise RecipeError("data.streaming is for one task; take it out of the tasks, or train one by itself.")
        return
    if not recipe.data.streaming:
        return
    whole = {"label", "labels", "token_labels", "value", "chosen"} & set(objective.needs)
    only_orders = getattr(objective, "mixes", False) or recipe.objective.name == "seq2seq"  # a plugin need not name the protocol
    if objective.reference or objective.online or not only_orders or whole:
        raise RecipeError(_CANNOT.format(name=recipe.objective.name))
    if recipe.parents:
        raise RecipeError("data.streaming is for a run that begins with a base model: take out `parents`, or data.streaming.")
    if recipe.train.refit is True:
        raise RecipeError(
            "train.refit learns from all rows again, and data.streaming never has them at once. Leave one of them out."
        )


def as_streamed(recipe: Recipe, streamed: Streamed) -> Recipe:
    """Return the recipe with what streaming has decided: the shares of the parts, and that nothing is learnt again from all rows."""
    changed = {
        "data": recipe.data.model_copy(update={"split": streamed.split}),
        "train": recipe.train.model_copy(update={"refit": False}),
    }
    return recipe.model_copy(update=changed)


def open_stream(
    recipe: Recipe, streamed: Streamed, columns: Data, objective: Objective, policy: Policy, max_length: int, num_units: int,
    folder: Path | None, files: Mapping[str, str],
) -> TokenStream:  # fmt: skip
    """Return the training rows of a run. `columns` is the final mapping, `files` the user's own plugins by their hash. Raises RunError where a file has changed."""
    streamed.check()
    pieces = streamed.pieces
    read = columns.model_dump(mode="json", exclude={"path", "split", "max_reject_fraction", "max_leak_fraction"})
    key = token_key(recipe.objective, policy, max_length, files, {"columns": read})
    seed = int(recipe.train.seed)
    policy = copy.copy(policy)
    policy.tokenizer = copy.deepcopy(policy.tokenizer)
    return TokenStream(
        streamed=streamed, objective=objective, policy=policy, columns=columns, cleaners=build_cleaners(columns, folder),
        max_length=max_length, key=key, num_units=num_units, seed=seed, pieces=pieces, order=permutation(seed, 0, len(pieces)),
    )  # fmt: skip
