"""`whet deploy`: a trained run with everything that a place needs to serve it, in one folder that needs no network but for packages."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import whet
from whet.bundle.pins import pinned
from whet.bundle.readme import readme
from whet.bundle.subject import RUN, SMOKE_TOKENS, Endpoint, Entry, Subject
from whet.bundle.wheel import build_wheel
from whet.errors import Interrupted, RunError
from whet.files import file_hash, whole_folder, write_json, write_whole
from whet.models.builtin import BUILT_IN
from whet.models.save import Card, read_card
from whet.protocols import Target
from whet.recipe_data import Data
from whet.recipe_file import parse_settings
from whet.run import free_path, open_run
from whet.stages.finished import build_named
from whet.stages.gate import objection, respect_gate
from whet.stages.narrate import SILENT, Narrator
from whet.stages.predict import Predictor, load
from whet.stages.registry import resolve
from whet.stages.serve import served_name, served_of
from whet.stages.stripped import write_stripped
from whet.types import Message

if TYPE_CHECKING:
    from whet.server.served import Served

BUNDLES, BUNDLE, SMOKE = Path("bundles"), "bundle.json", "smoke.json"
QUESTION, SECOND = "My order has not arrived yet. What can I do?", "Where is my parcel?"
"""What the smoke test asks: nothing of the user's own rows."""


def deploy(
    reference: str | Path,
    target: str,
    *,
    sets: Sequence[str] = (),
    out: Path | None = None,
    recipe: Path | None = None,
    ignore_gate: bool = False,
    narrator: Narrator = SILENT,
) -> Path:
    """Write a run's bundle for a place, by a plugin of kind targets. Returns the folder, which is there whole or not at all.

    `reference` is a run's folder, or a registered name. `sets` are the plugin's settings. Raises RecipeError, RunError, ServerError where
    the run has nothing to answer with, and Refused where its gate has refused it.
    """
    path = resolve(str(reference))
    run = open_run(path)
    plugin: Target
    plugin, named = build_named("targets", target, parse_settings(sets), None if recipe is None else recipe.parent)
    read_card(run.model)
    place = free_path(out or BUNDLES / f"{run.path.resolve().name}-{Path(target).stem}", "")
    respect_gate(run, "deploy", ignore_gate)
    try:
        write_bundle(path, plugin, named, place, name=served_name(str(reference)), recipe=recipe, narrator=narrator)
    except KeyboardInterrupt:
        raise Interrupted(f"Stopped while bundling; {path} is as it was, and nothing half-written was left.") from None
    return place


def write_bundle(
    path: Path,
    target: Target,
    named: Mapping[str, Any],
    place: Path,
    *,
    name: str,
    recipe: Path | None = None,
    narrator: Narrator = SILENT,
) -> Entry:
    """Write the bundle of a run into a new folder, and return how it is started.

    `named` is the target as the manifest names it, and `name` what clients call the run.
    """
    narrator.say(f"Loading {path} ...")
    predictor = load(path, recipe)
    served = served_of(predictor)
    card = predictor.tuned.card
    finder = getattr(predictor.columns.redact, "model", None)
    if finder is not None:
        raise RunError(
            f"{path}: texts are freed of names by another model ({finder}, data.redact.model), which a bundle does not bring along. Serve the run "
            "where that model is, or train without it."
        )
    with whole_folder(place, replace=False) as folder:
        narrator.say("Copying the model ...")
        own = write_stripped(predictor.tuned.run, served.policy, predictor.tuned.folder, folder / RUN)
        narrator.say("Locking the packages ...")
        packages = _packages(card)
        (folder / "wheels").mkdir()
        wheel = build_wheel(folder / "wheels")
        lines = [f"./wheels/{wheel.name}", *(f"{name}=={version}" for name, version in packages.items())]
        write_whole(folder / "requirements.txt", "\n".join(lines) + "\n")
        subject = _subject(name, predictor, served, packages["torch"], own)
        narrator.say(f"Writing for {named['name']} ...")
        entry = target.write(subject, folder)
        write_json(folder / SMOKE, dict(entry.request))
        write_whole(folder / "README.md", readme(subject, entry, named, folder))
        _let_all_read(folder)
        write_json(folder / BUNDLE, _manifest(subject, entry, named, predictor, served, folder))
    return entry


def _subject(name: str, predictor: Predictor, served: Served, torch_version: str, own: tuple[str, ...]) -> Subject:
    return Subject(
        name=written(name),
        run=written(served.run),
        model_sha256=served.fingerprint,
        endpoint=endpoint_of(served),
        item=_item(predictor.columns, served),
        num_parameters=served.policy.num_parameters,
        python=platform.python_version(),
        torch=torch_version,
        own_files=own,
    )


def written(name: str) -> str:
    """Return a name of the user's with nothing in it that a Dockerfile, YAML or a unit would act on; it names the same to clients."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:128] or "run"


def endpoint_of(served: Served) -> Endpoint:
    """Return what a served run is asked at first."""
    if served.labels:
        return "classify"
    if served.chats:
        return "chat"
    return "completions" if served.writes else "embeddings"


def _item(columns: Data, served: Served) -> str | dict[str, str]:
    """Return a text that the run can be asked, or a row where it reads several columns."""
    if not served.labels or columns.text_pair is None:
        return QUESTION
    return {columns.text or "text": QUESTION, columns.text_pair: SECOND}


def _packages(card: Card) -> dict[str, str]:
    """Return the packages that serving this model needs, name to version. Raises RunError where one is not installed."""
    found = dict(pinned("serve", *(["qlora"] if card.technique == "qlora" else [])))
    built_in = BUILT_IN.get(card.source.removeprefix("builtin:")) if card.source.startswith("builtin:") else None
    if built_in is not None and "==" in built_in.install:
        name, _, version = built_in.install.split()[-1].partition("==")
        found[name] = version
    return dict(sorted(found.items()))


def _let_all_read(folder: Path) -> None:
    """Give files and folders the same permissions everywhere: who serves is not who made them."""
    for inner in (folder, *folder.rglob("*")):
        inner.chmod(0o755 if inner.is_dir() or inner.suffix == ".sh" else 0o644)


def _manifest(
    subject: Subject, entry: Entry, named: Mapping[str, Any], predictor: Predictor, served: Served, folder: Path
) -> dict[str, Any]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    run = predictor.tuned.run
    why = objection(run)
    return {
        "kind": "bundle",
        "whet": whet.__version__,
        "target": dict(named),
        "run": subject.run,
        "model_sha256": subject.model_sha256,
        "base": {key: run.manifest["base"][key] for key in ("sha256", "parameters", "kind")},
        "endpoint": subject.endpoint,
        "gate_ignored": None if why is None else why.replace(str(run.path), subject.run),
        "memory_mib": subject.memory_mib,
        "entry": asdict(entry),
        "expected": _expected(subject, predictor, served),
        "files": {
            file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": file_hash(file)} for file in files
        },
    }


def _expected(subject: Subject, predictor: Predictor, served: Served) -> dict[str, Any]:
    """Return what the run itself answers here to the smoke test; of embeddings their width only."""
    from whet.server.prompts import conversation, plain

    if subject.endpoint == "classify":
        output = served.classify(predictor.examples([subject.item]))[0]
        label = output.label if output.labels is None else list(output.labels)
        return {"label": label, "value": output.value, "confidence": output.confidence}
    if subject.endpoint == "embeddings":
        return {"dimensions": served.policy.width}
    assert isinstance(subject.item, str)
    if subject.endpoint == "completions":
        return {"text": served.write(plain(served, subject.item).ids, SMOKE_TOKENS)}
    asked = conversation(served, [Message("user", predictor.clean(subject.item))])
    return {"text": served.write(asked.ids, SMOKE_TOKENS).strip()}
