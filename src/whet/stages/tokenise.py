"""Rows of a data set as units, made once: where there are many, they are kept in a file named by all that decides them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from whet.data.dataset import Dataset
from whet.data.preflight import Finding
from whet.engine.token_cache import fits, keep, kept, make_room, place_of, stored_bytes
from whet.errors import TrainingError
from whet.models.policy import Policy
from whet.plugins import names
from whet.protocols import Objective
from whet.recipe import Recipe
from whet.stages.token_key import token_key
from whet.types import Unit

MANY = 5_000
"""Rows from which on looking for what was kept is quicker than making it."""
KEPT = "Rows as tokens are kept in {folder}, where later runs on the same rows find them; it may be deleted at any time."


@dataclass(frozen=True)
class Tokenising:
    """How the rows of a data set become units for one objective and policy."""

    recipe: Recipe
    dataset: Dataset
    objective: Objective
    policy: Policy
    findings: list[Finding] = field(default_factory=list)
    """What is to be known of keeping them."""

    def units(self, part: str, max_length: int) -> list[Unit]:
        """Return the units of a part's rows, mapped into memory where they were made before."""
        examples = self.dataset.parts[part]
        if len(examples) < MANY or not self._only_tokens:
            return self.objective.units(examples, self.policy, max_length)
        decides = {"rows": self._rows, "part": part, "classes": list(self.policy.classes)}
        try:
            file = place_of(token_key(self.recipe.objective, self.policy, max_length, {}, decides))
        except (OSError, RuntimeError) as error:  # no home, or one that cannot be written to
            return self._unkept(f"{error}", self.objective.units(examples, self.policy, max_length))
        found = kept(file)
        if found is not None:
            self._note(KEPT.format(folder=file.parent.parent))
            return [(row,) for row in found.rows(found.numbers("id").tolist())]
        units = self.objective.units(examples, self.policy, max_length)
        if fits(units):
            try:
                make_room(file.parent.parent, stored_bytes(units, wide=True))
                keep(file, units, {"id": np.array([unit[0].id for unit in units], np.int64)}, {}, wide=True)
                self._note(KEPT.format(folder=file.parent.parent))
            except (OSError, TrainingError) as error:
                return self._unkept(str(error), units)
        return units

    def _unkept(self, why: str, units: list[Unit]) -> list[Unit]:
        """Note that these units are not kept, which no run needs."""
        self._note(f"Every run tokenises these rows again: {why}")
        return units

    def _note(self, sentence: str) -> None:
        if all(one.sentence != sentence for one in self.findings):
            self.findings.append(Finding("note", sentence, ""))

    @property
    def _only_tokens(self) -> bool:
        """Whether rows follow from the base model's folder, the objective's settings and the data set, and whet's own code."""
        own_file = self.recipe.objective.name not in names("objectives")
        from_weights = self.objective.reference or self.objective.online or self.policy.teacher is not None
        return not (own_file or from_weights or self.recipe.parents or self.recipe.tasks is not None)

    @cached_property
    def _rows(self) -> str:
        """Hash of the whole data set, since what a row weighs may depend on others."""
        return self.dataset.hash
