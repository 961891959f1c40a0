"""`whet auto`: from files to a judged model in one command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from whet.run import Run, free_path
from whet.stages.evaluate import evaluate
from whet.stages.narrate import SILENT, Narrator
from whet.stages.new import auto_recipe, tell
from whet.stages.train import train


def auto(
    paths: Sequence[Path],
    *,
    test: Sequence[Path] = (),
    out: Path | None = None,
    model: str | None = None,
    sets: Sequence[str] = (),
    narrator: Narrator = SILENT,
) -> Run:
    """Look at the files, choose everything, train, and judge. Returns the run."""
    if out is not None:
        free_path(out, "")
    recipe, seen = auto_recipe(paths, test, model, sets)
    narrator.say(tell(seen, recipe.model))
    run = train(recipe, out=out, narrator=narrator)
    return evaluate(run.path, narrator=narrator)
