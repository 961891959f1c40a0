"""`whet export`: a trained run in a format that other programs read, checked in such a program before it gets its name."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import whet
from whet import plugins
from whet.errors import Interrupted, Refused
from whet.files import file_hash, whole_folder, write_json
from whet.protocols import Exporter
from whet.recipe_file import parse_settings
from whet.run import MANIFEST, RECIPE, Run, free_path, open_run
from whet.stages.finished import beside_reference, build_named, parent, technique_of, test_rows
from whet.stages.gate import respect_gate
from whet.stages.handoff import Handoff, ask, compare
from whet.stages.narrate import SILENT, Narrator
from whet.stages.prepare import stored_dataset
from whet.stages.tuned import Tuned, load_run

MOST_ROWS = 64


def export(
    path: Path,
    form: str,
    *,
    sets: Sequence[str] = (),
    out: Path | None = None,
    recipe: Path | None = None,
    ignore_gate: bool = False,
    task: str | None = None,
    narrator: Narrator = SILENT,
) -> Run:
    """Write a run in a format, by a plugin of kind exporters, and hand its own test rows to it. Returns the folder as a run.

    `sets` are the plugin's settings; `task` is the one of several to write. The folder is there whole or not at all. Raises RecipeError, ModelError where the format has no
    place for the run, RunError, and Refused where its gate has refused it, or the artefact answers differently.
    """
    run = open_run(path)
    respect_gate(run, "export", ignore_gate)
    settings = parse_settings(sets)
    exporter: Exporter
    exporter, named = build_named("exporters", form, settings, None if recipe is None else recipe.parent)
    place = free_path(out, "-".join([run.name, *([task] if task else []), Path(form).stem]))
    try:
        return _export(load_run(path, recipe, task=task), exporter, named, place, narrator)
    except KeyboardInterrupt:
        raise Interrupted(f"Stopped while exporting; {path} is as it was, and nothing half-written was left.") from None


def _export(tuned: Tuned, exporter: Exporter, named: dict[str, Any], place: Path, narrator: Narrator) -> Run:
    form = named["name"]
    dataset = stored_dataset(tuned.run)
    examples = test_rows(tuned, dataset.of_task(tuned.task) if tuned.task else dataset, MOST_ROWS)
    with beside_reference(tuned):
        asked = ask(tuned, examples)
    technique = technique_of(tuned)
    with whole_folder(place, replace=False) as folder:
        narrator.say(f"Writing {form} ...")
        exporter.write(tuned.policy, technique, tuned.card, folder)
        narrator.say(f"Handing {len(asked.rows):,} test rows to it ...")
        found = compare(asked, tuned.policy, exporter.read(folder), exporter)
        faults = found.faults()
        if faults:
            raise Refused(
                f"{form}: what was written is not what was trained: {'; '.join(faults)}. Nothing was left at {place}. Choose another "
                f"format ({', '.join(plugins.names('exporters'))}), or other settings of this one."
            )
        manifest = _manifest(tuned, named, found, folder)
        shutil.copy2(tuned.run.path / RECIPE, folder / RECIPE)
        write_json(folder / MANIFEST, manifest | {"recipe_sha256": file_hash(folder / RECIPE)})
    narrator.say(found.sentence())
    for note in found.notes:
        narrator.say(f"Note: {note}.")
    return Run(place)


def _manifest(tuned: Tuned, named: dict[str, Any], found: Handoff, folder: Path) -> dict[str, Any]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {
        "kind": "export",
        "whet": whet.__version__,
        "parents": [parent(tuned.run.path)],
        "data_sha256": tuned.run.manifest["data_sha256"],
        "base": tuned.run.manifest["base"],
        "exporter": named,
        **({"task": tuned.task} if tuned.task else {}),
        "check": found.as_json(),
        "files": {str(file.relative_to(folder)): {"bytes": file.stat().st_size, "sha256": file_hash(file)} for file in files},
    }
