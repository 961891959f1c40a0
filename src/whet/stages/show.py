"""`whet show`: a run, all runs, the plugins, this machine."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import asdict
from pathlib import Path
from typing import Any

from whet import plugins
from whet.errors import RunError
from whet.models.builtin import BUILT_IN, is_ready
from whet.run import MANIFEST, RECIPE, RUNS, Run, open_run


def show_run(path: Path) -> dict[str, Any]:
    """Return what a run is, what every `auto` became and why, and how it was judged."""
    run = open_run(path)
    manifest = run.manifest
    report = run.report if (run.path / "report.json").is_file() else None
    return {
        "run": str(path),
        "recipe": (run.path / RECIPE).read_text(encoding="utf-8", errors="replace"),
        "manifest": manifest,
        "report": report,
        "evaluations": [_evaluation(one) for one in run.evaluations()],
    }


def _evaluation(run: Run) -> dict[str, Any]:
    """Return what came of judging a run on a further file."""
    try:
        report = run.report
    except RunError as error:
        return {
            "name": run.evaluation,
            "test": None,
            "n": None,
            "verdict": str(error),
            "report": str(run.results / "report.html"),
        }
    verdict = report["verdict"]["sentence"]
    return {
        "name": run.evaluation,
        "test": report.get("test"),
        "n": report["n"],
        "verdict": verdict,
        "report": str(run.results / "report.html"),
    }


def show_runs(folder: Path = RUNS) -> list[dict[str, Any]]:
    """Return one line per run under `folder`, the latest first."""
    found = []
    for place in sorted(folder.glob("*/"), key=lambda inner: inner.lstat().st_mtime, reverse=True):
        if (place / MANIFEST).is_file():
            found.append({"run": str(place), **_line(place)})
    return found


def _line(place: Path) -> dict[str, Any]:
    try:
        run = open_run(place)
        report = run.report if (run.path / "report.json").is_file() else {}
    except RunError as error:
        return {"kind": None, "model": None, "verdict": str(error)}
    trained = (run.model / "policy.json").is_file()
    prepared = run.manifest["kind"] == "prepare"
    told = "trained, not evaluated" if trained else "rows prepared, nothing trained" if prepared else "not finished"
    verdict = report.get("verdict", {}).get("sentence", told)
    if run.manifest["kind"] == "export":
        verdict = f"exported as {run.manifest['exporter']['name']}, and checked on the run's own test rows"
    return {"kind": run.manifest["kind"], "model": run.manifest.get("base", {}).get("name"), "verdict": verdict}


def show_plugins() -> list[dict[str, Any]]:
    """Return every built-in plugin with kind, settings and source."""
    return [asdict(listing) for listing in plugins.listing()]


def show_machine() -> dict[str, Any]:
    """Return what this machine computes with, and which optional parts are installed."""
    from whet.engine import int8_products, pool
    from whet.engine.machine import choose_precision, describe, device
    from whet.stages.attending import attention_here

    none = int8_products.why_not() if device().type == "cpu" else "jobs here compute on an accelerator"
    precision, reason = choose_precision()
    packages = ("torch", "transformers", "tokenizers", "peft", "liger-kernel")
    versions: dict[str, str | None] = {}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    models = {f"builtin:{name}": is_ready(model) for name, model in BUILT_IN.items()}
    return {
        "machine": describe() | {"attention": attention_here(), "tensors": pool.named()},
        "precision": f"{precision}: {reason}",
        "frozen_precision": f"same only: {none}"
        if none
        else "int8 too: this processor multiplies in it (train.frozen_precision)",
        "versions": versions,
        "models": models,
    }
