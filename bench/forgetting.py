"""How much is forgotten: one domain of clinc150 after the other, by plain training, with replay, and with EWC.

    python bench/forgetting.py CLINC150_FOLDER OUT_FOLDER [FIRST SECOND]

The folder holds data_full.json and domains.json of Larson et al. 2019 (https://github.com/clinc/oos-eval, CC BY 3.0). Each setting is
trained in the second stage from the same first run. The strength of EWC is the one with the best mean accuracy over both domains'
validation rows; the test rows are opened once, for the settings that are shown. Prints one line of JSON for each.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import whet
from whet.recipe_file import build_recipe
from whet.run import Run

STRENGTHS = (1e6, 1e7)
TRAIN = {"epochs": 3, "refit": False, "precision": "fp32"}


def main(source: Path, out: Path, first: str = "banking", second: str = "travel") -> None:
    """Train both stages in every setting, and print what was forgotten."""
    out.mkdir(parents=True, exist_ok=True)
    for domain in (first, second):
        write(source, out, domain)
    before = stage(out, first, "first", (), {})
    settings: dict[str, dict[str, Any]] = {"plain": {"replay": 0.0}, "replay": {"replay": 0.2}}
    settings |= {f"ewc-{strength:g}": {"replay": 0.0, "ewc": strength} for strength in STRENGTHS}
    runs = {name: stage(out, second, name, (before,), continual) for name, continual in settings.items()}
    judged = {name: validated(out, run, (first, second)) for name, run in runs.items()}
    best = max((name for name in runs if name.startswith("ewc-")), key=lambda name: sum(judged[name].values()))
    print(json.dumps({"chosen": best, "validation": judged}), flush=True)
    for name in ("plain", "replay", best):
        report = whet.evaluate(runs[name]).report
        continual = report["continual"]
        matrix = [[round(cell["value"], 4) for cell in row] for row in continual["matrix"]]
        lost = {key: round(continual["forgetting"][key], 4) for key in ("value", "low", "high")}
        shown = {
            "setting": name,
            "matrix": matrix,
            "forgetting": lost,
            "n": continual["tests"],
            "sentence": continual["sentence"],
        }
        print(json.dumps(shown), flush=True)


def write(source: Path, out: Path, domain: str) -> None:
    """Write a domain's rows as train, validation and test files."""
    classes = set(json.loads((source / "domains.json").read_text())[domain])
    rows = json.loads((source / "data_full.json").read_text())
    for part, key in (("train", "train"), ("validation", "val"), ("test", "test")):
        lines = [json.dumps({"text": text, "label": label}) for text, label in rows[key] if label in classes]
        (out / f"{domain}-{part}.jsonl").write_text("\n".join(lines) + "\n")


def stage(out: Path, domain: str, name: str, parents: tuple[Run, ...], continual: dict[str, Any]) -> Run:
    """Return the trained run of a stage; one that is there is taken as it is."""
    place = out / name
    if (place / "model").exists():
        return Run(place)
    files = {part: str(out / f"{domain}-{part}.jsonl") for part in ("train", "validation", "test")}
    values = {
        "model": "builtin:minilm",
        "parents": [str(run.path) for run in parents],
        "data": {
            "path": files["train"],
            "validation": files["validation"],
            "test": files["test"],
            "text": "text",
            "label": "label",
        },
        "objective": "classify",
        "technique": "lora",
        "continual": continual,
        "train": TRAIN,
    }
    begun = time.monotonic()
    run = whet.train(build_recipe(values, "bench"), out=place)
    print(json.dumps({"trained": name, "seconds": round(time.monotonic() - begun)}), file=sys.stderr, flush=True)
    return run


def validated(out: Path, run: Run, domains: tuple[str, ...]) -> dict[str, float]:
    """Return the accuracy on each domain's validation rows."""
    predictor, found = whet.load(run), {}
    for domain in domains:
        rows = [json.loads(line) for line in (out / f"{domain}-validation.jsonl").read_text().splitlines()]
        answers = predictor.predict([row["text"] for row in rows])
        found[domain] = round(sum(a.prediction == row["label"] for a, row in zip(answers, rows, strict=True)) / len(rows), 4)
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:5])
