"""`whet retrain`: new labelled rows and the old ones make a challenger, which is compared with its champion and registered."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pydantic

from whet.data.added import NEW, Added, add_rows, with_replay
from whet.data.augment import without_made
from whet.data.clean import build_cleaners
from whet.data.mapping import required
from whet.data.notices import counted
from whet.data.read import read_files
from whet.data.rows import RawRow, Reject
from whet.data.table import Reading
from whet.display import quoted
from whet.errors import DataError, Interrupted, RecipeError, Refused, RunError
from whet.files import json_text, write_json, write_together
from whet.models.save import read_card
from whet.recipe import Recipe
from whet.recipe_file import build_recipe, load_recipe
from whet.registry import CHALLENGER, CHAMPION, FOLDER, Registry, fingerprint, is_reference
from whet.report.challenge import FEWEST, SETS, Rows, build_challenge
from whet.report.challenge_html import render_challenge
from whet.report.scores import Resampling
from whet.run import Run, free_path, open_run
from whet.stages import train as training
from whet.stages.augment import augmented
from whet.stages.build import build_objective, check_plugins, plugin_folder
from whet.stages.evaluate import evaluate
from whet.stages.feedback import feedback_rows
from whet.stages.finished import parent
from whet.stages.gate import CHALLENGE, objection, stored_challenge
from whet.stages.lineage import ancestors, find_parents
from whet.stages.narrate import SILENT, Narrator
from whet.stages.pairing import paired_answers
from whet.stages.prepare import stored_columns, stored_dataset
from whet.stages.registry import promote as move_alias
from whet.stages.registry import resolve
from whet.stages.tuned import load_run
from whet.types import Example

PAGE = "retrain.html"
MARK = "retrain"
"""Where a challenger's manifest says what it challenges."""
Promote = Literal["never", "if-passed", "if-better"]
Start = Literal["base", "champion"]
STARTS: tuple[Start, ...] = ("base", "champion")
PROMOTE: tuple[Promote, ...] = ("never", "if-passed", "if-better")
OURS = re.compile(r"data\.split(\.|$)|(model|technique|train|evaluate|gate|continual|name)(\.|$)")
"""What `--set` may change of the champion's recipe: not what is learnt, and from which columns."""


DATE = re.compile(r"^\d{4}-\d\d-\d\d-")
"""With which the folder of a run begins that nobody named."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a challenger was made for; kept in its manifest, so that a retraining that was stopped ends as it was begun."""

    champion: str
    """The champion's run."""
    model_sha256: str
    """Of the champion's model."""
    name: str | None
    """The registered name; None where a run was named."""
    version: int | None
    """The champion's."""
    registry: str
    promote: Promote
    tolerance: float | None
    start: Start
    first_new_id: int
    """Rows of the data set with this id and above are the new ones."""
    new_rows: dict[str, int]
    """Part and its new rows."""
    new_classes: tuple[str, ...]
    sources: tuple[str, ...]
    """Files, and the request log, that the new rows came from."""
    why: str


CHALLENGES = pydantic.TypeAdapter(Challenge)


@dataclass(frozen=True, slots=True)
class Champion:
    """The run to beat, and the name and version that it has, if any."""

    run: Run
    name: str | None = None
    version: int | None = None

    @property
    def stem(self) -> str:
        """What the challenger's folder is called after."""
        return self.name or DATE.sub("", self.run.path.resolve().name)


def retrain(
    reference: str,
    files: Sequence[Path] = (),
    *,
    log: Path | None = None,
    promote: Promote = "never",
    tolerance: float | None = None,
    start: Start = "base",
    sets: Sequence[str] = (),
    registry: Path = FOLDER,
    why: str = "",
    out: Path | None = None,
    recipe: Path | None = None,
    narrator: Narrator = SILENT,
) -> Run:
    """Train a challenger of a champion with new rows, compare both, and register it. Returns the challenger's run.

    From "base" it is trained anew, as its champion was, on the old and the new training rows together. That is the default, because it
    is the safe way: nothing of before can be forgotten, since all of it is learnt again, no error adds up from one retraining to
    the next, and the two models differ by the new rows alone. It costs a whole training. From "champion" it goes on from the champion's
    weights with the new rows and a draw of the old ones (`continual` in `sets`): a fraction of the time, for many old rows and few
    new ones; what is forgotten, the old test rows show.

    `result_of` gives what was found. Raises DataError, RecipeError, RunError, and Refused before training
    where there are too few new rows to judge on; a challenger that does not pass is returned as any other.
    """
    if not files and log is None:
        raise DataError("there are no new rows to learn from. Name files with labelled rows, or the request log with --log FILE.")
    if promote != "never" and not is_reference(reference, registry):
        raise RunError(
            f"{reference}: is no registered name, so there is no champion to promote. Register it first: whet registry add NAME {reference}"
        )
    champion = find_champion(reference, Registry(registry))
    path = free_path(out, f"{champion.stem}-retrain")
    folder = plugin_folder(champion.run, recipe, sets)
    settings = challenger_recipe(champion.run, sets, start)
    find_parents(settings, folder)
    check_plugins(settings, folder)
    try:
        known = _fingerprints(Registry(registry), champion)
        added, sources = _added(champion.run, files, log, settings, folder, known, start, narrator)
        noted = Challenge(
            champion=parent(champion.run.path),
            model_sha256=fingerprint(champion.run.path),
            name=champion.name,
            version=champion.version,
            registry=str(registry),
            promote=promote,
            tolerance=tolerance,
            start=start,
            first_new_id=added.first_id,
            new_rows=added.used,
            new_classes=added.new_classes,
            sources=sources,
            why=why,
        )
        training.train_on(
            settings, added.dataset, path, folder, narrator, [noted.champion] if start == "base" else [], {MARK: asdict(noted)}
        )
        return _finish(Run(path), noted, recipe, narrator)
    except (KeyboardInterrupt, Interrupted):
        raise _stopped(path) from None


def find_champion(reference: str, registry: Registry) -> Champion:
    """Return the run that a registered name, or a folder, stands for now. Raises RunError where it cannot be trained again."""
    if is_reference(reference, registry.folder):
        name, version = reference.partition("@")[0], registry.find(reference).version
        found = Champion(open_run(registry.resolve(f"{name}@{version}")), name, version)
    else:
        found = Champion(open_run(resolve(reference, registry.folder)))
    run = found.run
    if run.manifest["kind"] != "train":
        parents = ", ".join(str(one) for one in run.manifest.get("parents", []))
        instead = f"its parent: {parents}" if parents else "a run of `whet train` or `whet auto`"
        raise RunError(f"{run.path}: a run of kind '{run.manifest['kind']}' is not trained again. Name {instead}.")
    if load_recipe(run.path / "recipe.yaml").tasks:
        raise RunError(
            f"{run.path}: is a run of several tasks, and new rows are of one. Train that task by itself, and retrain that run; or train "
            "all of them again with the new rows in their files."
        )
    read_card(run.model)
    return found


def resume(path: Path, *, recipe: Path | None = None, narrator: Narrator = SILENT) -> Run:
    """Go on with a retraining that was stopped or killed, wherever that was, to the same end. Returns the challenger's run."""
    run = open_run(path)
    if MARK not in run.manifest:
        raise RunError(f"{path}: was not begun by `whet retrain`. Go on with a training by: whet train --resume {quoted(path)}")
    try:
        noted: Challenge = CHALLENGES.validate_python(run.manifest[MARK])
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        damage = f"{MARK}.{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise RunError(f"{path / 'manifest.json'}: damaged ({damage}). Restore it from a backup, or retrain anew.") from None
    try:
        training.resume(path, recipe=recipe, narrator=narrator)
        return _finish(run, noted, recipe, narrator)
    except (KeyboardInterrupt, Interrupted):
        raise _stopped(path) from None


def result_of(run: Run) -> dict[str, Any]:
    """Return what was found of a challenger, as retrain.json holds it. Raises RunError where it was not compared."""
    found = stored_challenge(run)
    if found is None:
        raise RunError(f"{run.path}: has not been compared with its champion. Run: whet retrain --resume {quoted(run.path)}")
    return found


def ending(found: Mapping[str, Any]) -> list[str]:
    """Return what to say of a challenger at the end: where it is registered, and what to do next."""
    held, name = found.get("registered"), found["name"]
    if held is None:
        return ["It is not registered, since a run was named and no registered model."]
    lines = [f"Registered: {name} version {held['version']}, alias {CHALLENGER} (gate {held['gate']})."]
    if found["promoted"]:
        lines.append(f"Promoted: {name}@{CHAMPION} is version {held['version']} now. Go back with: whet registry rollback {name}")
    elif found["passed"]:
        lines.append(found.get("not_promoted") or f"Promote it with: whet registry promote {name} {held['version']}")
    return lines


def refusal(found: Mapping[str, Any]) -> str:
    """Return why a challenger does not pass, and what can be done."""
    reasons = [one["sentence"] for one in found["gate"]["rulings"] if one["decision"] != "pass"]
    reasons += ["The gate of its own recipe was not passed."] if found["own_gate"] not in {None, "pass"} else []
    unsure = found["gate"]["decision"] == "undecided"
    hint = " More labelled rows tell more; --tolerance says how much worse is acceptable." if unsure else ""
    return f"the challenger is refused. {' '.join(reasons)}{hint}"


def challenger_recipe(champion: Run, sets: Sequence[str], start: Start = "base") -> Recipe:
    """Return the champion's recipe with overrides; what whet had chosen of `train` and of the technique is chosen again, for the rows of now."""
    for assignment in sets:
        if not OURS.match(assignment.partition("=")[0].strip()):
            raise RecipeError(
                f"--set {assignment}: a challenger learns the same as its champion, or the two could not be compared. "
                "Allowed: model, technique, train.*, continual.*, data.split.*, evaluate.*, gate, name."
            )
    stored = load_recipe(champion.path / "recipe.yaml").model_copy(update={"search": None, "name": None})
    values = stored.model_dump(mode="json", exclude_none=True)
    for decision in champion.manifest.get("decisions", []):
        section, _, key = decision["key"].partition(".")
        if section == "train" and key in values["train"]:
            values["train"][key] = "auto"
        elif (
            section == "technique" and key in values["technique"]
        ):  # a number that the recipe left open; a named one is no decision
            values["technique"][key] = "auto"
    if start == "champion":
        values |= {"parents": [str(champion.path)]}
    return build_recipe(values, f"the recipe of {champion.path}", sets)


def _stopped(path: Path) -> Interrupted:
    if not path.exists():
        return Interrupted("Stopped before training had begun; nothing was left behind, and nothing registered.")
    return Interrupted(
        f"Stopped. Everything so far is kept, and nothing registered by halves. Go on with: whet retrain --resume {quoted(path)}"
    )


def _fingerprints(held: Registry, champion: Champion) -> set[str]:
    """Return the hashes of the models whose feedback counts: of all versions of the name, or of the run."""
    if champion.name is None:
        return {fingerprint(champion.run.path)}
    return {one.model_sha256 for one in held.model(champion.name).versions}


def _added(
    champion: Run,
    files: Sequence[Path],
    log: Path | None,
    settings: Recipe,
    folder: Path | None,
    fingerprints: set[str],
    start: Start,
    narrator: Narrator,
) -> tuple[Added, tuple[str, ...]]:
    """Return the champion's data with the new rows in it, and where they came from. Raises DataError, and Refused for too few."""
    old, columns = without_made(stored_dataset(champion)), stored_columns(champion)
    needs = build_objective(settings.objective, folder).needs
    if not old.test:
        raise RunError(
            f"{champion.path}: has no test rows, so no challenger can be compared with it. Train with a share for them."
        )
    notices: list[str] = []
    rows: list[RawRow | Reject] = []
    if files:
        narrator.say(f"Reading {', '.join(path.name for path in files)} ...")
        rows += read_files(files, notices, Reading(tuple(required(columns).values())))
    if log is not None:
        narrator.say(f"Reading feedback in {log.name} ...")
        rows += feedback_rows(log, fingerprints, columns, needs, notices)
    sources = tuple(map(str, [*files, *([log] if log is not None else [])]))
    before = [stored_dataset(run) for run in ancestors([champion])[:-1]]
    added = add_rows(old, rows, needs, settings.data.split, build_cleaners(columns, folder), sources, before)
    for notice in (*notices, *added.notices):
        narrator.say(f"Note: {notice}")
    counts = list(added.dataset.accounting.sources.items())
    last = next(count for source, count in reversed(counts) if source.startswith(NEW))
    dropped = "; ".join(f"{number} {reason}" for reason, number in last.dropped.items()) or "none"
    narrator.say(
        f"{counted(last.rows, 'new row')} = {', '.join(f'{number} {part}' for part, number in added.used.items())} + dropped: {dropped}. "
        f"Beside them {len(old.train):,} train, {len(old.validation):,} validation, {len(old.test):,} test of before, which stay so."
    )
    if added.used["test"] < FEWEST:
        share = settings.data.split.test
        raise Refused(
            f"{', '.join(sources)}: {counted(sum(added.used.values()), 'new row')} leave {added.used['test']} to judge on, and nothing is "
            f"decided on fewer than {FEWEST}, so the challenger would be trained in vain. Bring about {round(FEWEST / share):,} labelled rows."
        )
    if start == "champion":
        added = with_replay(added, old, before, settings.continual.replay, settings.continual.seed)
        again = len(added.dataset.train) - added.used["train"]
        narrator.say(f"Going on from {champion.path} with the new rows and {again:,} old ones learnt again (continual.replay).")
    if settings.data.augment is not None:
        held = [one for past in before for one in (*past.validation, *past.test)]
        added = replace(added, dataset=augmented(added.dataset, {"": settings.data}, folder, narrator, held))
    return added, sources


def _finish(run: Run, noted: Challenge, recipe: Path | None, narrator: Narrator) -> Run:
    """Judge the challenger, compare it with its champion, register it, and promote it where that is asked for; what is done stays."""
    if not (run.path / "report.json").is_file():
        evaluate(run.path, recipe=recipe, narrator=narrator)
    found = stored_challenge(run)
    if found is None:
        found = _compare(run, noted, recipe, narrator)
        write_json(run.path / CHALLENGE, found)
    if noted.name is not None and noted.version is not None and "registered" not in found:
        found = found | _register(run, noted, noted.name, noted.version, found, narrator)
    write_together({run.path / CHALLENGE: json_text(found), run.path / PAGE: render_challenge(found, str(run.path))})
    return run


def _compare(run: Run, noted: Challenge, recipe: Path | None, narrator: Narrator) -> dict[str, Any]:
    """Return what is found of champion and challenger on the old and on the new test rows. Raises RunError."""
    if fingerprint(Path(noted.champion)) != noted.model_sha256:
        raise RunError(
            f"{noted.champion}: its model is not the one that the challenger was begun against. Restore it, or retrain anew."
        )
    champion, challenger = load_run(Path(noted.champion), recipe), load_run(run.path, recipe)
    dataset, settings = stored_dataset(run), challenger.recipe.evaluate
    sets: dict[Rows, list[Example]] = {
        "old": [one for one in dataset.test if one.id < noted.first_new_id],
        "new": [one for one in dataset.test if one.id >= noted.first_new_id],
    }
    number = None
    if noted.name is not None and noted.version is not None:
        number = Registry(Path(noted.registry)).note_challenger(noted.name, noted.version, fingerprint(run.path))
    groups = {which: paired_answers(champion, challenger, sets[which], which, narrator) for which in SETS}
    found = build_challenge(
        groups=groups,
        metric=settings.metric,
        resampling=Resampling(settings.resamples, settings.seed),
        asked=noted.tolerance,
        number=number,
        own_gate=run.report.get("gate"),
        folder=challenger.folder,
    )
    head = {"champion": noted.champion, "version": noted.version, "name": noted.name, "sources": list(noted.sources)}
    return {**head, "new_rows": noted.new_rows, "new_classes": list(noted.new_classes), **found}


def _register(
    run: Run, noted: Challenge, name: str, champion: int, found: Mapping[str, Any], narrator: Narrator
) -> dict[str, Any]:
    """Register the challenger, refused or not, once; promote it where that is asked for, and still right. Returns what became of it."""
    held = Registry(Path(noted.registry))
    against = objection(run)
    why = " ".join(filter(None, (noted.why, str(found["sentence"]))))
    made = held.version_of(name, run.path) or held.add(
        name, run.path, objection=against, keep_refused=True, has_gate=True, alias=CHALLENGER, why=why
    )
    said: dict[str, Any] = {"registered": {"name": name, "version": made.version, "gate": made.gate}, "promoted": False}
    wanted = noted.promote == "if-passed" or (noted.promote == "if-better" and bool(found["better"]))
    aliases = held.model(name).aliases
    if aliases[CHAMPION].version == made.version:  # by this process, before it was stopped
        return said | {"promoted": True}
    if not (found["passed"] and against is None) or noted.promote == "never":
        return said
    if not wanted:
        unsure = f"Not promoted, since it is not certainly better on the new rows (--promote {noted.promote})."
        return said | {"not_promoted": f"{unsure} Promote it all the same with: whet registry promote {name} {made.version}"}
    try:
        move_alias(name, str(made.version), registry=Path(noted.registry), why=why, instead_of=champion)
    except RunError as error:
        narrator.say(f"Note: not promoted: {error}")
        return said | {"not_promoted": str(error)}
    return said | {"promoted": True}
