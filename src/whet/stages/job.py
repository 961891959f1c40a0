"""Everything that training needs, built from a recipe and a prepared data set: the policy, the objective, the technique, the plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from whet.data.dataset import Dataset
from whet.data.preflight import Finding, preflight
from whet.engine.consolidate import Anchor, all_weights, held_weights
from whet.engine.fit import TrainPlan
from whet.engine.machine import choose_precision, computing
from whet.engine.parallel import Way
from whet.engine.state_store import StateStore
from whet.errors import DataError, RecipeError, Refused
from whet.models.heads import keep_heads
from whet.models.linear import placed
from whet.models.load import KINDS, load_policy
from whet.models.lowrank import LowRank
from whet.models.policy import Policy
from whet.models.save import Card
from whet.models.virtual_tokens import check_room
from whet.protocols import Objective, Optimiser, Technique
from whet.recipe import Recipe
from whet.recipe_parts import Choice
from whet.stages.build import build_objective, build_optimiser, build_schedule, build_technique, plugin_files
from whet.stages.decide import (
    Decision,
    Facts,
    choose_max_tokens,
    decide,
    planned_steps,
    steps_per_epoch,
)
from whet.stages.frozen_products import set_products
from whet.stages.lineage import start_policy
from whet.stages.settle import bits_to_learn, chosen, counted_as, settle, size
from whet.stages.streaming import TokenStream, as_streamed, open_stream
from whet.stages.tokenise import Tokenising
from whet.types import Cursor, Example, State, StepRows, Unit

UNCUT = 10**9
"""A row's longest length where nothing is cut."""


class Kept:
    """What jobs on the same data set may share: base models and tokenised rows. This one shares nothing."""

    def base(self, key: Hashable, make: Callable[[], Policy]) -> Policy:
        """Return the policy that `make` gives, which the job may change; the key names all that it depends on."""
        return make()

    def units(self, key: Hashable, make: Callable[[], list[Unit]]) -> list[Unit]:
        """Return what `make` gives; the key names all that it depends on."""
        return make()

    def fisher(self, key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return what `make` gives; the key names all that it depends on."""
        return make()


@dataclass(slots=True)
class Job:
    """A recipe with everything decided, and what it stands for. The technique is attached to the policy."""

    recipe: Recipe
    dataset: Dataset
    policy: Policy
    objective: Objective
    technique: Technique
    plan: TrainPlan
    train_units: list[Unit]
    validation_units: list[Unit]
    decisions: list[Decision] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    anchor: Anchor | None = None
    """What holds the policy to the parents' weights, where the recipe asks for it."""
    way: Way = "ddp"
    """How several devices share the model, where there are several."""
    recomputed: bool = False
    """Blocks are computed again in the backward pass (gradient checkpointing)."""
    store: StateStore | None = None
    """What frozen blocks made of rows, where it is kept; a second phase begins with what the first one has."""
    stream: TokenStream | None = None
    """Where the rows that are learnt from come from, where they are streamed; `train_units` are then those of a sample."""
    bits: float = 0.0
    """About how much the rows say that are learnt from."""

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(self.stream.num_units if self.stream else len(self.train_units), self.plan.batch_size)

    def steps(self, cursor: Cursor, state: State) -> Iterator[StepRows]:
        """Yield the steps to learn from, from `cursor` on, without end."""
        if self.stream is not None:
            return self.stream.steps(self.plan, cursor)
        return self.objective.steps(self.train_units, self.policy, self.plan, cursor, state)

    def card(self) -> Card:
        """Return what the trained model's folder says of itself."""
        technique, source = self.recipe.technique, self.policy.source
        assert isinstance(technique, Choice)
        return Card(
            source=source.name,
            source_sha256=source.sha256,
            technique=technique.name,
            technique_settings=technique.settings,
            objective=self.recipe.objective.name,
            objective_settings=self.recipe.objective.settings,
            classes=self.policy.classes,
            max_length=self.plan.max_length,
            max_tokens=self.plan.max_tokens,
            masked=self.objective.head == "masked",
            tasks={name: view.classes for name, view in self.policy.tasks.items()},
        )


def loading(model: str, recipe: Recipe, folder: Path | None) -> str:
    """Return what to say before `build_job`, which takes long where the model is first asked about every row, for a reference."""
    objective = build_objective(recipe.objective, folder)
    asked = ", and asking it about every row before anything is learnt" if objective.reference and not objective.online else ""
    return f"Loading {model}{asked} ..."


def build_job(recipe: Recipe, dataset: Dataset, folder: Path | None, num_steps: int | None = None, kept: Kept = Kept()) -> Job:
    """Load the model, decide every `auto`, tokenise, and look before training. Raises Refused where training cannot work.

    `num_steps` are those of a run that goes on, of which nothing is sized anew; else they follow from the recipe.
    """
    objective = build_objective(recipe.objective, folder)
    policy = _prepared(recipe, objective, dataset.train, folder, kept)
    recipe, decisions = settle(recipe, objective, policy, dataset, folder)
    technique = build_technique(chosen(recipe), folder)
    if recipe.parents and not technique.mergeable:
        raise RecipeError(
            f"technique '{chosen(recipe).name}' cannot be folded into the weights, which a run that goes on from `parents` ends in. Use "
            "lora, full, bitfit, ia3 or head."
        )
    num_virtual = getattr(technique, "num_virtual", 0)  # rows leave room for them; a plugin need not say that it has none
    check_room(policy, num_virtual, chosen(recipe).name)
    policy.num_virtual = num_virtual
    limit = _limit(recipe, policy)
    precision = choose_precision()[0] if recipe.train.precision == "auto" else recipe.train.precision
    made = Tokenising(recipe, dataset, objective, policy)
    with computing(precision, policy.device):  # rows may hold what a reference computes
        key = (recipe.model, recipe.parents, recipe.objective.model_dump_json(), policy.num_virtual, policy.max_tokens, precision)
        units, whole = _tokenised(made, limit, kept, key, online=objective.online)
    longest = _longest(whole)
    learnt = {part: learnable(some) for part, some in units.items()}
    optimiser = build_optimiser(recipe.train.optimiser, folder)
    times = dataset.stream.times if dataset.stream else 1.0
    num_units = round(times * len(learnt["train"]))
    bits = times * bits_to_learn(policy, learnt["train"])
    if num_steps is None:
        recipe, technique, sized = size(recipe, technique, policy, bits, counted_as(objective, policy), folder)
        decisions += sized
    if dataset.stream:
        recipe = as_streamed(recipe, dataset.stream)
        decisions.append(Decision("train.refit", False, "the rows are streamed"))
    recipe, decided = decide(
        recipe, _facts(policy, objective, technique, optimiser, round(times * len(dataset.train)), num_units, longest)
    )
    plan = _plan(recipe, folder, planned_steps(recipe.train, num_units) if num_steps is None else num_steps)
    findings = [*_look(dataset, units, whole, objective, policy, plan.max_length), *made.findings]
    stream = None
    if dataset.stream:
        own = plugin_files(recipe, folder)
        stream = open_stream(recipe, dataset.stream, dataset.columns, objective, policy, plan.max_length, num_units, folder, own)
        findings = [replace(one, sentence=f"In the sample: {one.sentence}") for one in findings]
        findings.append(stream.room(learnt["train"]))
    _attach(technique, policy, recipe, plan.seed)
    set_products(recipe, policy, objective, plan.precision)
    if not any(one.key == "technique.rank" for one in decisions):  # somebody named it
        findings += _needless_rank(policy)
    return Job(
        recipe, dataset, policy, objective, technique, plan, learnt["train"], learnt["validation"], decisions + decided, findings,
        stream=stream, bits=bits,
    )  # fmt: skip


def _tokenised(
    made: Tokenising, limit: int, kept: Kept, key: tuple[object, ...], *, online: bool
) -> tuple[dict[str, Sequence[Unit]], Sequence[Unit]]:
    """Return the units of training and validation, cut where rows are longer than the limit, and those of training uncut."""
    whole = kept.units((*key, "train", UNCUT), lambda: made.units("train", UNCUT))
    fits = _longest(whole) <= limit and not online  # an answer still comes behind a prompt
    train = whole if fits else kept.units((*key, "train", limit), lambda: made.units("train", limit))
    judged = kept.units((*key, "validation", limit), lambda: made.units("validation", limit))
    return {"train": train, "validation": judged}, whole


def _attach(technique: Technique, policy: Policy, recipe: Recipe, seed: int) -> None:
    """Make the policy trainable. Raises RecipeError where `continual` asks for what this technique cannot do."""
    before = all_weights(policy)
    technique.attach(policy, seed)
    if recipe.continual.ewc:
        held_weights(policy, before)  # raises where this technique learns something else
    updates = [layer.base for _, layer in placed(policy, LowRank)]
    if recipe.continual.merge != "none" and not (updates and all(isinstance(base, nn.Linear | Conv1D) for base in updates)):
        raise RecipeError(
            f"continual.merge folds adapters of several stages together, and technique '{chosen(recipe).name}' makes none that can be. "
            "Use lora, or set continual.merge to none."
        )


def _needless_rank(policy: Policy) -> list[Finding]:
    """Return what to say where a low-rank update has more ranks than a layer's smaller side, which is all that its product can have."""
    layers = [layer for _, layer in placed(policy, LowRank)]
    most = [min(len(layer.up), layer.down.shape[1]) for layer in layers]
    over = sum(len(layer.down) > size for layer, size in zip(layers, most, strict=True))
    if not over:
        return []
    return [
        Finding(
            "note",
            f"Rank {len(layers[0].down)} is more than {over} of {len(layers)} adapted layers can use: no update has more ranks than the smaller "
            "side of its matrix.",
            f"Rank {max(most)} is as much as any of them can use.",
        )
    ]


def _look(
    dataset: Dataset,
    units: Mapping[str, Sequence[Unit]],
    whole: Sequence[Unit],
    objective: Objective,
    policy: Policy,
    max_length: int,
) -> list[Finding]:
    """Return what preflight finds; of several tasks, in each by itself. `whole` are the training units before anything was cut."""
    head = "rollout" if objective.online else objective.head
    found = []
    for name in dataset.tasks or ("",):
        own = {part: [unit for unit in some if unit[0].task == name] for part, some in units.items()}
        lengths = {"train": full_lengths([unit for unit in whole if unit[0].task == name], own["train"])}
        rows = dataset.of_task(name) if name else dataset
        findings = preflight(rows, own, lengths, policy.tokenizer, head, max_length, policy.end_id, policy.context)
        found += [replace(one, sentence=f"{name}: {one.sentence}") for one in findings] if name else findings
    return found


def learnable(units: Sequence[Unit]) -> list[Unit]:
    """Return the units that add to a term of the loss."""
    return [unit for unit in units if any(weight for row in unit for weight in row.weights.values())]


def full_lengths(whole: Sequence[Unit], units: Sequence[Unit]) -> list[int]:
    """Return each row's tokens before anything was cut. A text that goes on in further rows is not cut."""
    full = {(row.id, place): row.length for unit in whole for place, row in enumerate(unit)}
    kept: Counter[tuple[int, int]] = Counter()
    for unit in units:
        for place, row in enumerate(unit):
            kept[row.id, place] += row.length
    pairs = [((row.id, place), row.length) for unit in units for place, row in enumerate(unit)]
    return [length if kept[key] >= full[key] else full[key] for key, length in pairs]


def refuse(findings: Sequence[Finding]) -> None:
    """Raise Refused where a finding says that training cannot work."""
    fatal = [finding for finding in findings if finding.level == "refuse"]
    if fatal:
        raise Refused("\n".join(f"{finding.sentence} {finding.remedy}" for finding in fatal))


def on_all_rows(job: Job, folder: Path | None, epochs: float) -> Job:
    """Return a fresh job that learns from training and validation rows together, for so many epochs."""
    both: tuple[Example, ...] = (*job.dataset.train, *job.dataset.validation)
    policy = _prepared(job.recipe, job.objective, both, folder)
    technique = build_technique(chosen(job.recipe), folder)
    technique.attach(policy, job.plan.seed)
    set_products(job.recipe, policy, job.objective, job.plan.precision)
    with computing(job.plan.precision, policy.device):
        units = learnable(job.objective.units(both, policy, job.plan.max_length))
    num_steps = planned_steps(job.recipe.train.model_copy(update={"epochs": epochs}), len(units))
    plan = replace(job.plan, num_steps=num_steps, num_warmup=round(num_steps * job.recipe.train.warmup))
    return replace(job, policy=policy, technique=technique, plan=plan, train_units=units, validation_units=[])


def _prepared(
    recipe: Recipe, objective: Objective, examples: Sequence[Example], folder: Path | None, kept: Kept = Kept()
) -> Policy:
    """Return the policy that learning begins with: the base model, or the last parent's with its head and room for new classes."""
    policy = _base(recipe, objective, folder, kept)
    heads, classes = dict(policy.heads.items()), policy.classes
    objective.prepare(policy, examples)
    keep_heads(policy, heads, classes)
    return policy


def _base(recipe: Recipe, objective: Objective, folder: Path | None, kept: Kept) -> Policy:
    """Return the model to begin with, which computes in as much memory as training may take. Raises RecipeError where it cannot be trained so."""
    masked = objective.head == "masked"
    if recipe.parents:
        policy = kept.base(("parents", recipe.parents), lambda: start_policy(recipe, folder))
    else:
        policy = kept.base((recipe.model, masked), lambda: load_policy(recipe.model, masked=masked))
    _check_kind(recipe, objective, policy)
    asked = recipe.train.max_tokens
    policy.max_tokens = choose_max_tokens(_accelerated(policy), policy.kind)[0] if asked == "auto" else asked
    return policy


def _check_kind(recipe: Recipe, objective: Objective, policy: Policy) -> None:
    """Raise RecipeError where the objective is not for this kind of model, with what is."""
    name, kind = recipe.objective.name, policy.kind
    writes = objective.head == "lm"
    if objective.head == "seq2seq" and kind != "encoder-decoder":
        other = "objective 'sft'" if kind == "decoder" else "objective 'classify'"
        raise RecipeError(
            f"objective '{name}' is for encoder-decoders, and {recipe.model} is {KINDS[kind]}. Use {other} with it, or name an "
            "encoder-decoder, such as google/flan-t5-small or a folder."
        )
    if writes and kind == "encoder-decoder":
        raise RecipeError(
            f"objective '{name}' is for decoders, and {recipe.model} is an encoder-decoder. Use objective 'seq2seq' with it, or name a "
            "decoder, such as builtin:seedling."
        )
    if writes and kind == "encoder":
        raise RecipeError(
            f"objective '{name}' writes text, and {recipe.model} is an encoder, which cannot. "
            "Name a decoder, such as builtin:seedling, or use objective 'classify'."
        )


def _accelerated(policy: Policy) -> bool:
    return policy.device.type != "cpu"


def _limit(recipe: Recipe, policy: Policy) -> int:
    """Return the tokens of the longest row. Raises RecipeError where the model cannot read so many."""
    asked = recipe.train.max_length
    if asked != "auto" and asked > policy.context:
        raise RecipeError(
            f"train.max_length is {asked}, and {recipe.model} reads at most {policy.context} tokens. "
            f"Allowed: 2 to {policy.context}, or auto."
        )
    return policy.context if asked == "auto" else asked


def _longest(whole: Sequence[Unit]) -> int:
    lengths = [row.length for unit in whole for row in unit]
    if not lengths:
        raise DataError(
            "no training row has anything to learn from. Look at the rows with: whet prepare, and name the columns in `data:`."
        )
    return max(lengths)


def _facts(
    policy: Policy,
    objective: Objective,
    technique: Technique,
    optimiser: Optimiser,
    num_train: int,
    num_units: int,
    longest: int,
) -> Facts:
    precision, reason = choose_precision()
    return Facts(
        num_parameters=policy.num_parameters,
        kind=policy.kind,
        context=policy.context,
        head=objective.head,
        num_train=num_train,
        num_units=num_units,
        longest=longest,
        learning_rates=technique.learning_rates,
        why_rates=technique.why_rates,
        rate_factor=getattr(optimiser, "learning_rate_factor", 1.0),  # a plugin need not say that it has none
        why_factor=getattr(optimiser, "why_factor", ""),
        precision=precision,
        precision_reason=reason,
        accelerator=_accelerated(policy),
    )


def _plan(recipe: Recipe, folder: Path | None, num_steps: int) -> TrainPlan:
    train = recipe.train
    assert train.precision != "auto"
    return TrainPlan(
        num_steps=num_steps,
        num_warmup=round(num_steps * train.warmup),
        batch_size=int(train.batch_size),
        max_tokens=int(train.max_tokens),
        max_length=int(train.max_length),
        learning_rate=float(train.learning_rate),
        weight_decay=train.weight_decay,
        clip=train.clip,
        precision=train.precision,
        seed=train.seed,
        schedule=build_schedule(train.schedule, folder),
        optimiser=build_optimiser(train.optimiser, folder),
    )
