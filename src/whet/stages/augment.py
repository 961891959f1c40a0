"""New training rows: made by the recipe's augmenters, sieved, asked about by a model where that is wanted, and put into the data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from whet import plugins
from whet.data.accounting import MADE
from whet.data.augment import (
    Balance,
    Sieve,
    Wanted,
    by_shares,
    check_fit,
    near_held,
    originals_of,
    repeated,
    with_made,
    with_text,
)
from whet.data.dataset import Dataset
from whet.data.keys import text_key
from whet.data.notices import counted
from whet.errors import DataError
from whet.protocols import Augmenter
from whet.recipe_data import Augment, Data
from whet.stages.made import Made
from whet.stages.narrate import SILENT, Narrator
from whet.stages.survived import checker
from whet.types import Example

ROUNDS = 6
"""Times that classes are filled up again where new rows were left out."""
Checked = Callable[[Sequence[tuple[Wanted, Example]]], list[bool]]


def augmented(
    dataset: Dataset,
    sections: Mapping[str, Data],
    folder: Path | None,
    narrator: Narrator = SILENT,
    held: Sequence[Example] = (),
    *,
    spend: bool = True,
) -> Dataset:
    """Return the data set with the new training rows that its recipe's sections ask for, of several tasks each task's own.

    `held` are further rows that nothing new may come near to. Without `spend` nothing costly is made: of that, only what lies beside the
    recipe already is taken, and its cost is said. Raises RecipeError, DataError.
    """
    judged = [*held, *dataset.validation, *dataset.test]
    for name, section in sections.items():
        if section.augment is None:
            continue
        rows = [one for one in dataset.originals if (one.task or "") == name]
        work = _Work(section, rows, judged, folder, narrator, f"{name}: " if name else "", spend)
        made = work.run()
        source = f"{name}.{MADE}" if name else MADE
        dataset = with_made(dataset, made, work.num_asked, work.sieve.dropped, source, work.told(made))
        narrator.say(f"{work.prefix}{counted(len(made), 'new training row')} made of {counted(len(rows), 'row')} (data.augment).")
    return dataset


class _Work:
    """The new rows of one task."""

    def __init__(
        self,
        section: Data,
        rows: Sequence[Example],
        held: Sequence[Example],
        folder: Path | None,
        narrator: Narrator,
        prefix: str,
        spend: bool,
    ) -> None:
        assert section.augment is not None
        self.settings: Augment = section.augment
        check_fit(rows, self.settings)
        self.rows, self.folder, self.narrator, self.prefix, self.spend = rows, folder, narrator, prefix, spend
        self.sieve = Sieve({text_key(one) for one in rows}, held, section.duplicates)
        self.num_asked = 0
        self._augmenters: list[Augmenter] = [
            plugins.build("augmenters", choice.name, choice.settings, folder) for choice in self.settings.by
        ]
        self._survived: Checked | None = None

    def run(self) -> list[Example]:
        """Return the new rows that are kept."""
        if self.settings.balance == "repeat":
            made = repeated(self.rows, self.settings)
            barred = near_held(self.rows, self.sieve.held, self.sieve.duplicates)
            closed = {text_key(self.rows[place]) for place in barred}
            self.num_asked = len(made)
            kept = [one for one in made if text_key(one) not in closed]
            self.sieve.dropped["near leak"] += len(made) - len(kept)
            return kept
        if self.settings.balance == "augment":
            return self._balanced()
        return [example for _, example in self._kept(by_shares(self.rows, self.settings))]

    def told(self, made: Sequence[Example]) -> str:
        """Return what was done, in a sentence."""
        by = Counter(one.made_by or "" for one in made)
        names = ", ".join(f"{number:,} by {name}" for name, number in by.items()) or "none"
        dropped = ", ".join(f"{number:,} {reason}" for reason, number in (+self.sieve.dropped).most_common()) or "none"
        return (
            f"{self.prefix}data.augment: {counted(self.num_asked, 'new training row')} asked for, {len(made):,} made ({names}); left out: "
            f"{dropped}. They are marked `made_by`; no validation or test row was changed."
        )

    def _balanced(self) -> list[Example]:
        balance, kept = Balance(self.rows, self.settings), list[tuple[Wanted, Example]]()
        for _ in range(ROUNDS):
            wanted = balance.lacking(Counter(example.label or "" for _, example in kept))
            if not wanted:
                break
            kept += self._kept(wanted)
        return [example for _, example in kept]

    def _kept(self, wanted: Sequence[Wanted]) -> list[tuple[Wanted, Example]]:
        """Return what comes of what is asked for, in order: made, new, near to nothing that is held out, and still of its label."""
        self.num_asked += len(wanted)
        texts: dict[int, str | None] = {}
        for number, augmenter in enumerate(self._augmenters):
            places = [place for place, one in enumerate(wanted) if one.augmenter == number]
            if places:
                texts.update(zip(places, self._texts(number, augmenter, [wanted[place] for place in places]), strict=True))
        made = []
        for place, one in enumerate(wanted):
            text = texts[place]
            if text is None:
                self.sieve.dropped["not made yet"] += 1
            else:
                made.append((one, with_text(one.row, text, self.settings.by[one.augmenter].name)))
        passed = self.sieve.passed(made)
        if not self.settings.check or not passed:
            return passed
        if self._survived is None:
            self.narrator.say(f"{self.prefix}Asking {self.settings.check} whether new rows are still of their label ...")
            self._survived = checker(str(self.settings.check), self.rows)
        fine = self._survived(passed)
        self.sieve.dropped["label lost"] += fine.count(False)
        return [one for one, survived in zip(passed, fine, strict=True) if survived]

    def _texts(self, number: int, augmenter: Augmenter, wanted: Sequence[Wanted]) -> Sequence[str | None]:
        """Return what an augmenter makes; nothing for what is costly and must not be made now."""
        choice = self.settings.by[number]
        originals = originals_of(wanted, self.rows, self.settings.seed, augmenter.company)
        if not augmenter.costly:
            texts = list(augmenter.augment(originals))
            _check_number(choice.name, len(texts), len(originals))
            return texts
        with Made(choice, self.folder).opened() as made:
            lacking = [one for one in originals if made.text(one) is None]
            if lacking and (cost := augmenter.foretell(lacking)):
                self.narrator.say(f"{self.prefix}{choice.name}: {cost}")
            if lacking and len(lacking) < len(originals):
                self.narrator.say(
                    f"{self.prefix}{choice.name}: {len(originals) - len(lacking):,} texts were made before ({made.file})."
                )
            if lacking and self.spend:
                with self.narrator.bar(f"{self.prefix}{choice.name}", len(lacking)) as bar:
                    number_made = 0
                    for one, text in zip(lacking, augmenter.augment(lacking), strict=False):
                        made.add(one, text)
                        number_made += 1
                        bar.advance(1)
                _check_number(choice.name, number_made, len(lacking))
            return [made.text(one) for one in originals]


def _check_number(name: str, made: int, asked: int) -> None:
    if made != asked:
        raise DataError(
            f"data.augment: '{name}' made {made} texts of {asked} rows; an augmenter yields one for each, in order. Mend it."
        )
