"""Everything that training needs, built from a recipe and a prepared data set: the policy, the objective, the technique, the plan."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from whet import plugins
from whet.data.dataset import Dataset
from whet.data.preflight import Finding, preflight
from whet.engine.fit import TrainPlan
from whet.engine.machine import choose_precision
from whet.errors import DataError, RecipeError, Refused, RunError
from whet.models.load import load_policy
from whet.models.policy import Policy
from whet.models.save import Card
from whet.recipe import Choice, Recipe
from whet.run import Run
from whet.stages.decide import Decision, Facts, choose_technique, decide
from whet.types import Example, Objective, Technique, Unit

MEMBERS = {
    "objectives": ("head", "needs", "metrics", "prepare", "units", "steps", "loss", "outputs"),
    "techniques": ("attach", "detach", "merge", "save", "load"),
    "optimisers": ("build",),
    "schedules": ("factor",),
    "cleaners": ("clean",),
}
"""What a plugin of each kind must have, as its protocol says; a file of the user's own may be of another kind."""


@dataclass(slots=True)
class Job:
    """A recipe without any `auto`, and what it stands for. The technique is attached to the policy."""

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

    @property
    def steps_per_epoch(self) -> int:
        return max(1, -(-len(self.train_units) // self.plan.batch_size))

    def card(self) -> Card:
        """Return what the trained model's folder says of itself."""
        technique, source = self.recipe.technique, self.policy.source
        assert isinstance(technique, Choice)
        cleaners = [] if self.recipe.data.clean == "auto" else [choice.model_dump() for choice in self.recipe.data.clean]
        return Card(
            source=source.name,
            source_sha256=source.sha256,
            technique=technique.name,
            technique_settings=technique.settings,
            objective=self.recipe.objective.name,
            objective_settings=self.recipe.objective.settings,
            classes=self.policy.classes,
            max_length=self.plan.max_length,
            cleaners=cleaners,
        )


def build_objective(recipe: Recipe, folder: Path | None) -> Objective:
    """Return the recipe's objective. Loads no model."""
    objective: Objective = plugins.build("objectives", recipe.objective.name, recipe.objective.settings, folder)
    return objective


def build_technique(choice: Choice, folder: Path | None) -> Technique:
    technique: Technique = plugins.build("techniques", choice.name, choice.settings, folder)
    return technique


def plugin_files(recipe: Recipe, folder: Path | None) -> dict[str, str]:
    """Return the user's own plugin files that the recipe names, with their SHA-256."""
    names = [choice.name for _, choice in _choices(recipe) if choice.name.endswith(".py")]
    return {name: plugins.file_hash((folder or Path()) / name) for name in names}


def _choices(recipe: Recipe) -> Iterator[tuple[tuple[str, ...], Choice]]:
    """Yield each plugin that the recipe chooses, with its place in the recipe."""
    yield ("objective",), recipe.objective
    if isinstance(recipe.technique, Choice):
        yield ("technique",), recipe.technique
    yield ("train", "schedule"), recipe.train.schedule
    yield ("train", "optimiser"), recipe.train.optimiser
    for index, choice in enumerate(() if recipe.data.clean == "auto" else recipe.data.clean):
        yield ("data", "clean", str(index)), choice


def plugin_folder(run: Run, recipe: Path | None) -> Path | None:
    """Return the folder of the run's own plugin files, which are loaded from the recipe that the user names, and only if unchanged."""
    hashes: dict[str, str] = run.manifest.get("plugins", {})
    if not hashes:
        return None
    if recipe is None:
        raise RunError(
            f"{run.path}: uses files of your own ({', '.join(hashes)}). Code is never loaded from a run; name the recipe that they lie "
            f"beside: --recipe RECIPE, or to go on: whet train RECIPE --resume {run.path}"
        )
    for name, expected in hashes.items():
        file = recipe.parent / name
        if not file.is_file() or plugins.file_hash(file) != expected:
            raise RunError(f"{file}: not the file that {run.path} was trained with. Bring that one back, or begin a new run.")
    return recipe.parent


def check_plugins(recipe: Recipe, folder: Path | None) -> None:
    """Raise RecipeError, with its place, for a plugin that is not there or whose settings are wrong. Loads no model."""
    for path, choice in _choices(recipe):
        kind = "cleaners" if path[0] == "data" else f"{path[-1]}s"
        try:
            made = plugins.build(kind, choice.name, choice.settings, folder)
        except RecipeError as error:
            wrong = next((key for key in choice.settings if f"'{key}'" in str(error)), "name")
            raise RecipeError(f"{recipe.place(*path, wrong)}: {error}") from None
        lacking = [member for member in MEMBERS[kind] if not hasattr(made, member)]
        if lacking:
            raise RecipeError(
                f"{recipe.place(*path)}: '{choice.name}' is no plugin of kind '{kind}': it has no {', '.join(lacking)}. "
                f"Add them, or name another: {', '.join(plugins.names(kind))}."
            )
    objective, asked = build_objective(recipe, folder), recipe.evaluate.metric
    known = [*objective.metrics, *objective.written_metrics]
    if asked not in {"auto", *known}:
        place = recipe.place("evaluate", "metric")
        raise RecipeError(
            f"{place}: objective '{recipe.objective.name}' does not measure '{asked}'. Allowed: auto, {', '.join(known)}."
        )


def build_job(recipe: Recipe, dataset: Dataset, folder: Path | None, num_steps: int | None = None) -> Job:
    """Load the model, decide every `auto`, tokenise, and look before training. Raises Refused where training cannot work."""
    objective = build_objective(recipe, folder)
    policy = load_policy(recipe.model)
    if objective.head == "lm" and policy.kind == "encoder":
        raise RecipeError(
            f"objective '{recipe.objective.name}' writes text, and {recipe.model} is an encoder, which cannot. "
            "Name a decoder, such as builtin:seedling, or use objective 'classify'."
        )
    objective.prepare(policy, dataset.train)
    decisions = []
    if recipe.technique == "auto":
        choice, reason = choose_technique(policy.num_parameters, len(dataset.train), policy.kind)
        recipe = recipe.model_copy(update={"technique": choice})
        decisions.append(Decision("technique", choice.name, reason))
    assert isinstance(recipe.technique, Choice)
    technique = build_technique(recipe.technique, folder)
    if recipe.train.max_length != "auto" and recipe.train.max_length > policy.context:
        raise RecipeError(
            f"train.max_length is {recipe.train.max_length}, and {recipe.model} reads at most {policy.context} tokens. "
            f"Allowed: 2 to {policy.context}, or auto."
        )
    limit = policy.context if recipe.train.max_length == "auto" else recipe.train.max_length
    whole = objective.units(dataset.train, policy, 10**9)
    units = {part: objective.units(dataset.parts[part], policy, limit) for part in ("train", "validation")}
    recipe, made = decide(recipe, _facts(policy, objective, dataset, whole))
    learnt = {
        part: [unit for unit in some if any(row.weights.get(term, 0) for row in unit for term in row.weights)]
        for part, some in units.items()
    }
    plan = _plan(recipe, folder, len(learnt["train"]), num_steps)
    lengths = {"train": full_lengths(whole, units["train"])}
    findings = preflight(dataset, units, lengths, policy.tokenizer, objective.head, plan.max_length, policy.end_id)
    decisions += made
    technique.attach(policy, plan.seed)
    return Job(recipe, dataset, policy, objective, technique, plan, learnt["train"], learnt["validation"], decisions, findings)


def full_lengths(whole: Sequence[Unit], units: Sequence[Unit]) -> list[int]:
    """Return each row's tokens before anything was cut. A text that goes on in further rows is not cut."""
    full = {row.id: len(row.ids) for unit in whole for row in unit}
    kept: Counter[int] = Counter()
    for unit in units:
        for row in unit:
            kept[row.id] += len(row.ids)
    return [len(row.ids) if kept[row.id] >= full[row.id] else full[row.id] for unit in units for row in unit]


def refuse(findings: Sequence[Finding]) -> None:
    """Raise Refused where a finding says that training cannot work."""
    fatal = [finding for finding in findings if finding.level == "refuse"]
    if fatal:
        raise Refused("\n".join(f"{finding.sentence} {finding.remedy}" for finding in fatal))


def on_all_rows(job: Job, folder: Path | None, num_steps: int) -> Job:
    """Return a fresh job that learns from training and validation rows together, for a known number of steps."""
    both: tuple[Example, ...] = (*job.dataset.train, *job.dataset.validation)
    policy = load_policy(job.recipe.model)
    job.objective.prepare(policy, both)
    technique = build_technique(_chosen(job.recipe), folder)
    technique.attach(policy, job.plan.seed)
    units = job.objective.units(both, policy, job.plan.max_length)
    plan = replace(job.plan, num_steps=num_steps, num_warmup=round(num_steps * job.recipe.train.warmup))
    return replace(job, policy=policy, technique=technique, plan=plan, train_units=units, validation_units=[])


def slug(recipe: Recipe) -> str:
    """Return the name of a run that the user did not name: from its first data file and its objective."""
    stem = Path(recipe.data.path[0]).stem
    words = re.sub(r"[^A-Za-z0-9]+", "-", f"{stem}-{Path(recipe.objective.name).stem}").strip("-").lower()
    return recipe.name or words[:48] or "run"


def _chosen(recipe: Recipe) -> Choice:
    assert isinstance(recipe.technique, Choice)
    return recipe.technique


def _facts(policy: Policy, objective: Objective, dataset: Dataset, whole: Sequence[Unit]) -> Facts:
    lengths = [len(row.ids) for unit in whole for row in unit]
    if not lengths:
        raise DataError(
            "no training row has anything to learn from. Look at the rows with: whet prepare, and name the columns in `data:`."
        )
    precision, reason = choose_precision()
    return Facts(
        kind=policy.kind,
        num_parameters=policy.num_parameters,
        context=policy.context,
        head=objective.head,
        num_train=len(dataset.train),
        longest=max(lengths),
        precision=precision,
        precision_reason=reason,
        accelerator=policy.device.type != "cpu",
    )


def _plan(recipe: Recipe, folder: Path | None, num_units: int, num_steps: int | None) -> TrainPlan:
    train = recipe.train
    batch_size = int(train.batch_size)
    if num_steps is None:
        num_steps = max(1, round(float(train.epochs) * max(1, -(-num_units // batch_size))))
        num_steps = min(num_steps, train.max_steps) if train.max_steps is not None else num_steps
    assert train.precision != "auto"
    return TrainPlan(
        num_steps=num_steps,
        num_warmup=round(num_steps * train.warmup),
        batch_size=batch_size,
        max_tokens=int(train.max_tokens),
        max_length=int(train.max_length),
        learning_rate=float(train.learning_rate),
        weight_decay=train.weight_decay,
        clip=train.clip,
        precision=train.precision,
        seed=train.seed,
        schedule=plugins.build("schedules", train.schedule.name, train.schedule.settings, folder),
        optimiser=plugins.build("optimisers", train.optimiser.name, train.optimiser.settings, folder),
    )
