"""What each `auto` of a recipe becomes, and why. A pure function of the recipe and of a few facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from whet.recipe import Choice, Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the choices depend on."""

    kind: str
    num_parameters: int
    context: int
    head: str
    num_train: int
    longest: int
    """Longest training row in tokens."""
    precision: str
    precision_reason: str
    accelerator: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """One setting that was `auto`."""

    key: str
    value: Any
    reason: str


def choose_technique(num_parameters: int, num_rows: int, kind: str) -> tuple[Choice, str]:
    """Return the technique of `technique: auto`, and why."""
    millions = num_parameters / 1e6
    if kind == "decoder" and millions < 50:
        return Choice(name="full"), f"{millions:.1f} M parameters: small enough that all of them can learn"
    return Choice(
        name="lora"
    ), f"{millions:.1f} M parameters and {num_rows:,} rows: LoRA learns as much with less memory and forgets less"


def decide(recipe: Recipe, facts: Facts) -> tuple[Recipe, list[Decision]]:
    """Return the recipe without any `auto`, and one decision for each that was."""
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
    values: dict[str, Any] = {}
    for key, rule in rules.items():
        if getattr(train, key) == "auto":
            value, reason = rule(recipe, facts)
            values[key] = value
            made.append(Decision(f"train.{key}", value, reason))
    train = train.model_copy(update=values)
    steps_per_epoch = max(1, -(-facts.num_train // int(train.batch_size)))
    later: dict[str, Any] = {}
    if train.validate_every == "auto":
        planned = steps_per_epoch * float(train.epochs)
        every = steps_per_epoch if float(train.epochs) >= 3 else max(1, int(planned // 8))
        later["validate_every"] = every
        made.append(
            Decision(
                "train.validate_every", every, "once an epoch" if every == steps_per_epoch else "eight times in this short run"
            )
        )
    if train.checkpoint.every == "auto":
        every = min(100, later.get("validate_every", train.validate_every))
        later["checkpoint"] = train.checkpoint.model_copy(update={"every": every})
        made.append(Decision("train.checkpoint.every", every, "at each validation, and at least every 100 steps"))
    if train.refit == "auto":
        worth = facts.num_train < 3000
        later["refit"] = worth
        reason = f"{facts.num_train:,} training rows: " + (
            "few enough that the validation rows are worth learning from" if worth else "enough without the validation rows"
        )
        made.append(Decision("train.refit", worth, reason))
    return recipe.model_copy(update={"train": train.model_copy(update=later)}), made


def _epochs(recipe: Recipe, facts: Facts) -> tuple[float, str]:
    rows = facts.num_train
    if facts.head == "lm":
        epochs = 1.0 if rows > 20000 else 3.0 if rows > 2000 else 5.0
        return epochs, f"{rows:,} rows of text; early stopping may end it before"
    epochs = 15.0 if rows < 300 else 10.0 if rows < 3000 else 4.0 if rows < 20000 else 3.0
    return epochs, f"{rows:,} training rows; early stopping may end it before"


def _batch_size(recipe: Recipe, facts: Facts) -> tuple[int, str]:
    rows = facts.num_train
    size = 8 if rows < 200 else 16 if rows < 3000 or facts.head == "lm" else 32
    return size, f"{rows:,} training rows: about {max(1, rows // size):,} steps an epoch"


def _max_length(recipe: Recipe, facts: Facts) -> tuple[int, str]:
    if facts.longest <= facts.context:
        return facts.context, f"the model's context; the longest row has {facts.longest:,} tokens, so nothing is cut"
    return facts.context, f"the model's context; rows up to {facts.longest:,} tokens are cut to it"


def _max_tokens(recipe: Recipe, facts: Facts) -> tuple[int, str]:
    if facts.accelerator:
        return 16384, "fills the accelerator; changes speed and memory only"
    return 4096, "keeps the processor's caches warm; changes speed and memory only"


def _learning_rate(recipe: Recipe, facts: Facts) -> tuple[float, str]:
    millions = facts.num_parameters / 1e6
    name = recipe.technique.name if isinstance(recipe.technique, Choice) else "lora"
    if name == "head":
        return 1e-2, "only the head learns"
    if name == "full":
        rate = 5e-4 if millions < 20 else 1e-4 if millions < 60 else 5e-5 if millions < 200 else 2e-5
        return rate, f"all of {millions:.1f} M parameters learn; larger models want smaller steps"
    rate = 1e-3 if millions < 100 else 4e-4 if millions < 1000 else 2e-4
    return (
        rate,
        f"adapters on {millions:.1f} M parameters; they start from zero and want larger steps than the weights themselves",
    )


def _precision(recipe: Recipe, facts: Facts) -> tuple[str, str]:
    return facts.precision, facts.precision_reason
