"""What each `auto` of a recipe becomes, and why. A pure function of the recipe and of a few facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from whet.models.policy import Kind
from whet.recipe import Recipe, Train
from whet.recipe_parts import Choice
from whet.types import Example

REFIT_BELOW = 10_000
"""Training rows below which the validation rows are worth learning from as well."""
OF_TEXT = {"lm", "masked", "seq2seq"}
"""Heads that learn from every token of a text or answer, and so from fewer rows."""
SKEWED = 0.65
"""Share of the commonest class above which accuracy flatters a model that always gives it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the choices depend on."""

    num_parameters: int
    kind: Kind
    context: int
    head: str
    num_train: int
    """Training rows."""
    num_units: int
    """What of them can be learnt from, as the objective yields it: a row, a piece of a long text, a pair of answers."""
    longest: int
    """Longest training row in tokens."""
    learning_rates: Sequence[tuple[float, float]]
    """The technique's: (below so many million parameters, rate)."""
    why_rates: str
    rate_factor: float = 1.0
    """The optimiser's, on the technique's rate."""
    why_factor: str = ""
    precision: str
    precision_reason: str
    accelerator: bool

    @property
    def grouped(self) -> bool:
        """Whether a unit is a group of rows that are compared with each other, so that every row teaches about many."""
        return self.num_train >= 2 * self.num_units > 0


@dataclass(frozen=True, slots=True)
class Decision:
    """One setting that was `auto`."""

    key: str
    value: Any
    reason: str


def steps_per_epoch(num_units: int, batch_size: int) -> int:
    """Return the steps of one time over the units that can be learnt from; the last may be smaller."""
    return max(1, -(-num_units // batch_size))


def planned_steps(train: Train, num_units: int) -> int:
    """Return the steps of `train.epochs`, at most `train.max_steps`."""
    planned = max(1, round(float(train.epochs) * steps_per_epoch(num_units, int(train.batch_size))))
    return planned if train.max_steps is None else min(planned, train.max_steps)


def choose_technique(num_parameters: int, num_rows: int, kind: str, head: str = "") -> tuple[Choice, str]:
    """Return the technique of `technique: auto`, and why."""
    millions = num_parameters / 1e6
    if head == "masked":
        return Choice(name="full"), "all weights learn, so that the run's model folder is a base model for a recipe of its own"
    if kind != "encoder" and millions < 50:
        return Choice(name="full"), f"{millions:.1f} M parameters: small enough that all of them can learn"
    return Choice(
        name="lora"
    ), f"{millions:.1f} M parameters and {num_rows:,} rows: LoRA learns as much with less memory and forgets less"


def choose_metric(metrics: Sequence[str], train: Sequence[Example]) -> tuple[str, str]:
    """Return the metric of `evaluate.metric: auto`, and why; chosen without a look at the test rows."""
    if metrics[0] == "accuracy":
        share = max(Counter(example.label for example in train).values()) / len(train)
        if share > SKEWED:
            return "macro_f1", f"{100 * share:.0f} % of the training rows have one label, so accuracy would flatter"
    return metrics[0], "the objective's first"


def choose_max_tokens(accelerator: bool, kind: Kind) -> tuple[int, str]:
    """Return the tokens of `train.max_tokens: auto`, and why."""
    if accelerator:
        return 16384, "fills the accelerator; changes speed and memory only"
    if kind == "encoder":
        return 1280, "enough for the processor's products; changes speed and memory only"
    return 4096, "keeps the processor's caches warm; changes speed and memory only"


def decide(recipe: Recipe, facts: Facts) -> tuple[Recipe, list[Decision]]:
    """Return the recipe with no `auto` left in `train`, and one decision for each that was."""
    made: list[Decision] = []
    train = recipe.train
    rules = {
        "epochs": _epochs,
        "batch_size": _batch_size,
        "max_length": _max_length,
        "max_tokens": _max_tokens,
        "learning_rate": _learning_rate,
        "precision": _precision,
    }
    for key, rule in rules.items():
        if getattr(train, key) == "auto":
            value, reason = rule(facts)
            train = train.model_copy(update={key: value})
            made.append(Decision(f"train.{key}", value, reason))
    if train.validate_every == "auto":
        every, reason = _validate_every(train, facts.num_units)
        train = train.model_copy(update={"validate_every": every})
        made.append(Decision("train.validate_every", every, reason))
    if train.checkpoint.every == "auto":
        every = min(100, int(train.validate_every))
        train = train.model_copy(update={"checkpoint": train.checkpoint.model_copy(update={"every": every})})
        made.append(Decision("train.checkpoint.every", every, "at each validation, and at least every 100 steps"))
    if train.refit == "auto":
        worth, reason = _refit(facts)
        train = train.model_copy(update={"refit": worth})
        made.append(Decision("train.refit", worth, reason))
    return recipe.model_copy(update={"train": train}), made


def _epochs(facts: Facts) -> tuple[float, str]:
    rows = facts.num_train
    if facts.head in OF_TEXT:
        epochs = 1.0 if rows > 20000 else 3.0 if rows > 2000 else 5.0
        return epochs, f"{rows:,} rows of text; early stopping may end it before"
    if facts.grouped:
        epochs = 10.0 if rows < 300 else 5.0 if rows < 3000 else 1.0
        return epochs, f"{rows:,} training rows, each compared with many; early stopping may end it before"
    epochs = 15.0 if rows < 300 else 10.0 if rows < 3000 else 3.0
    return epochs, f"{rows:,} training rows; early stopping may end it before"


def _batch_size(facts: Facts) -> tuple[int, str]:
    rows = facts.num_train
    if facts.grouped:
        return 1, f"{facts.num_units:,} groups of {rows:,} training rows: a group is a step"
    size = 8 if rows < 200 else 16 if rows < 3000 or facts.head in OF_TEXT else 32
    return size, f"{rows:,} training rows: {steps_per_epoch(facts.num_units, size):,} steps an epoch"


def _max_length(facts: Facts) -> tuple[int, str]:
    if facts.longest <= facts.context:
        return facts.context, f"the model's context; the longest row has {facts.longest:,} tokens, so nothing is cut"
    return facts.context, f"the model's context; rows up to {facts.longest:,} tokens are cut to it"


def _max_tokens(facts: Facts) -> tuple[int, str]:
    return choose_max_tokens(facts.accelerator, facts.kind)


def _learning_rate(facts: Facts) -> tuple[float, str]:
    millions = facts.num_parameters / 1e6
    rate = next(rate for below, rate in facts.learning_rates if millions < below)
    reasons = [f"a model of {millions:.1f} M parameters", facts.why_rates]
    if facts.grouped:
        rate /= 2
        reasons.append("half of it, since rows are compared in groups")
    if facts.rate_factor != 1.0:
        rate *= facts.rate_factor
        reasons.append(f"{facts.rate_factor:g} times that, for the optimiser: {facts.why_factor}")
    elif facts.why_factor:
        reasons.append(facts.why_factor)
    return float(f"{rate:.4g}"), "; ".join(reasons)


def _precision(facts: Facts) -> tuple[str, str]:
    return facts.precision, facts.precision_reason


def _validate_every(train: Train, num_units: int) -> tuple[int, str]:
    epoch, planned = steps_per_epoch(num_units, int(train.batch_size)), planned_steps(train, num_units)
    if planned >= 3 * epoch:
        return epoch, "once an epoch"
    return max(1, planned // 8), "at least eight times in this short run"


def _refit(facts: Facts) -> tuple[bool, str]:
    worth = facts.num_train < REFIT_BELOW
    why = "few enough that the validation rows are worth learning from" if worth else "enough without the validation rows"
    return worth, f"{facts.num_train:,} training rows: {why}"
