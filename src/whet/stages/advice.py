"""What a plan advises: other techniques and models with their memory, and what is worth doing, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from whet.models.memory import GIB, Load, Shape, estimate
from whet.models.rank import rank_of
from whet.models.shapes import KNOWN
from whet.recipe import Recipe
from whet.recipe_parts import Choice
from whet.stages.estimate import logits_of, with_tokens
from whet.stages.job import Job


@dataclass(frozen=True, slots=True)
class Ranks:
    """The rank that a low-rank update of a model would have."""

    named: int | None
    """By the recipe."""
    bits: float
    """What the rows say."""

    def of(self, shape: Shape) -> int:
        return self.named or rank_of(shape.low_rank(1), self.bits)[0]


def ranks(recipe: Recipe, bits: float) -> Ranks:
    """Return how ranks are chosen by a recipe as the user wrote it."""
    named = recipe.technique.settings.get("rank") if isinstance(recipe.technique, Choice) else None
    return Ranks(named if isinstance(named, int) else None, bits)


def techniques(job: Job, shape: Shape, load: Load, program: int, room: int, by: Ranks) -> list[dict[str, Any]]:
    """Return each usual way of learning on this model, with its memory; the recipe's own among them."""
    name = job.recipe.technique.name if isinstance(job.recipe.technique, Choice) else ""
    head = sum(parameter.numel() for parameter in job.policy.heads.parameters())
    keeps = job.policy.reference is not None
    ways = ("full", "lora", "qlora", *(("head",) if head else ()))
    several = {way: way_load(way, shape, load, by.of(shape), head, keeps) for way in ways}
    several |= {name: load}
    rows = []
    for way, asked in several.items():
        total = estimate(shape, asked, program).total
        rows.append({"technique": way, "learning": asked.trainable, "bytes": total, "fits": total <= room, "chosen": way == name})
    return sorted(rows, key=lambda row: -int(row["bytes"]))


def way_load(way: str, shape: Shape, load: Load, rank: int, head: int = 0, keeps_reference: bool = False) -> Load:
    """Return the load with another technique; `rank` is that of lora and qlora."""
    changes: dict[str, dict[str, Any]] = {
        "full": {
            "trainable": shape.size + head,
            "whole": True,
            "learnt": 1.0,
            "deep": 1.0,
            "reference": 4 * shape.size * keeps_reference,
        },
        "lora": {"trainable": shape.low_rank(rank) + head, "whole": False, "deep": 1.0, "reference": 0},
        "head": {"trainable": head, "whole": False, "deep": 0.0, "reference": 0},
    }
    if way == "qlora":
        return replace(load, **changes["lora"], bits="nf4")
    return replace(load, **changes[way], bits="fp32")


def models(head: str, load: Load, program: int, room: int, by: Ranks) -> list[dict[str, Any]]:
    """Return built-in and well-known models that the objective can learn on, each with the richest technique that fits."""
    kinds = {"lm": ("decoder",), "masked": ("encoder",), "seq2seq": ("encoder-decoder",)}.get(head, ("encoder", "decoder"))
    rows = []
    for shape in (one for one in KNOWN if one.kind in kinds):
        tried = {
            way: estimate(shape, way_load(way, shape, load, by.of(shape)), program).total for way in ("full", "lora", "qlora")
        }
        fitting = [way for way, total in tried.items() if total <= room]
        best = fitting[0] if fitting else "qlora"
        row = {"model": shape.name, "kind": shape.kind, "parameters": shape.size, "technique": best, "bytes": tried[best]}
        rows.append({**row, "fits": bool(fitting)})
    return rows


Advice = tuple[str, str]
"""What to do, and why."""


def advise(
    facts: Mapping[str, Any], shape: Shape, load: Load, program: int, room: int,
    ways: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], fits: bool,
) -> list[dict[str, str]]:  # fmt: skip
    """Return what is worth doing, each with its reason."""
    if not fits:
        said = list(_to_fit(shape, load, program, room, ways, others))
        nothing = (
            "a machine with more memory, or --set train.max_length shorter",
            f"even the least that was tried takes more than {gib(room)}",
        )
    else:
        said = list(_to_do_better(facts, shape, load, program, ways, others))
        nothing = ("nothing to change", f"{facts['rows']:,} rows of {facts['mean_tokens']:.0f} tokens, and it fits")
    return [{"advice": advice, "why": why} for advice, why in said or [nothing]]


def _to_fit(
    shape: Shape, load: Load, program: int, room: int, ways: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]
) -> Iterator[Advice]:
    """Yield what makes training fit into the memory."""
    smaller = _fewer_tokens(shape, load, program, room)
    if smaller is not None:
        yield f"--set train.max_tokens={smaller}", "smaller micro-batches take less memory and give the same result, only slower"
    for row in sorted((row for row in ways if row["fits"] and not row["chosen"]), key=lambda row: -int(row["learning"]))[:1]:
        yield (
            f"--set technique={row['technique']}" + (" --set train.frozen_precision=same" if load.int8 else ""),
            f"it takes {gib(row['bytes'])}, with {row['learning']:,} parameters that learn",
        )
    fitting = [row for row in others if row["fits"] and row["kind"] == shape.kind]
    if fitting and not (smaller or any(row["fits"] for row in ways)):
        row = max(fitting, key=lambda one: int(one["parameters"]))
        yield f"--set model={row['model']}", f"the largest here that fits: {gib(row['bytes'])} with {row['technique']}"


def _to_do_better(
    facts: Mapping[str, Any],
    shape: Shape,
    load: Load,
    program: int,
    ways: Sequence[Mapping[str, Any]],
    others: Sequence[Mapping[str, Any]],
) -> Iterator[Advice]:
    """Yield what is worth changing where it fits."""
    now = estimate(shape, load, program)
    if load.whole and now.parts.get("optimiser", 0) + now.parts.get("gradients", 0) > 0.5 * now.total and shape.size > 100e6:
        lora = next(row for row in ways if row["technique"] == "lora")
        yield (
            "--set technique=lora",
            f"{gib(lora['bytes'])} instead of {gib(now.total)}: most of it is gradients and the optimiser's state",
        )
    if facts["rows"] < 200:
        yield (
            "more rows first",
            f"{facts['rows']:,} rows to learn from: a further hundred changes more than any setting or larger model",
        )
    if shape.kind == "decoder" and logits_of("lm") != load.logits and shape.size > 300e6:
        yield (
            "--set model=builtin:minilm",
            "an encoder labels texts with a fraction of the time and memory of a decoder of this size",
        )
    if shape.kind == "decoder" and load.logits == "chunked" and shape.size < 10e6 and facts["objective"] in {"sft", "dpo", "kto"}:
        larger = [row for row in others if row["fits"] and row["parameters"] >= 100e6]
        if larger:
            row = next((one for one in larger if one["parameters"] >= 500e6), larger[0])
            why = (
                f"{shape.size / 1e6:.1f} M parameters are for trying; this one fits with {row['technique']}, {gib(row['bytes'])}"
            )
            yield f"--set model={row['model']}", why
    if facts["mean_tokens"] * 4 < facts["longest_tokens"] and facts["longest_tokens"] > 256:
        least = max(32, int(2 ** (int(facts["mean_tokens"] * 3).bit_length())))
        if least < facts["longest_tokens"]:
            why = f"rows have {facts['mean_tokens']:.0f} tokens on average, and the longest {facts['longest_tokens']:,}; what is longer is cut"
            yield f"--set train.max_length={least}, if the ends do not matter", why


def _fewer_tokens(shape: Shape, load: Load, program: int, room: int) -> int | None:
    """Return the largest power of two of tokens with which it fits; none where rows cannot be cut so small."""
    size = 1 << max(0, (load.tokens - 1).bit_length() - 1)
    while size >= load.row:
        if estimate(shape, with_tokens(load, size), program).total <= room:
            return size
        size //= 2
    return None


def gib(size: float) -> str:
    return f"{size / GIB:,.2f} GiB" if size < 0.1 * GIB else f"{size / GIB:,.1f} GiB"
