"""`whet prepare --profile`: one page of what the rows of a prepared run are, and what a person should answer before training."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedTokenizerBase

from whet.data.accounting import ACCOUNTING
from whet.data.keys import END, shown
from whet.data.rows import LEAKS
from whet.engine.embed import unit_vectors
from whet.engine.label_noise import find_label_noise
from whet.engine.layout import plane
from whet.errors import ModelError
from whet.files import json_text, write_together
from whet.models.load import load_policy, load_tokenizer, source_folder
from whet.private.kinds import plural
from whet.private.redact import Redactor
from whet.recipe import Recipe
from whet.report.cloud import LONGEST
from whet.report.html import accounted
from whet.report.profile_html import render_profile
from whet.report.profile_questions import questions
from whet.run import Run
from whet.stages.narrate import SILENT, Narrator
from whet.stages.profile_rows import LEAST, Seen, classes_of, commonest_answer, drift, languages, lengths, see
from whet.types import Example

EMBEDDER = "builtin:minilm"
MOST_EMBEDDED = 6_000
"""Rows that are embedded at most: some minutes' work on a small machine."""
MOST_MAPPED = 1_500
"""Rows on the map: the layout's time grows as their square, and a page with more is slow to open."""
MAX_LENGTH = 128
"""Tokens of a text that are embedded: its beginning says what it is about."""
CHUNK = 128
SUSPECTS = 15
UNLIMITED = 10**6
"""What a tokenizer says that knows no limit is above this."""
PAGE, NUMBERS = Path("profile.html"), Path("profile.json")


def profile_run(run: Run, recipe: Recipe, source: Path, narrator: Narrator = SILENT) -> Path:
    """Write profile.html and profile.json into a prepared run, and return the page. `source` is the recipe's file."""
    said = json.loads((run.path / ACCOUNTING).read_text(encoding="utf-8"))
    narrator.say("Looking at the rows ...")
    seen = see(run.path)
    vectors, drawn = _embedded(seen.drawn, narrator)
    found = {
        "run": str(run.path),
        "recipe": str(source),
        "objective": "several tasks" if recipe.tasks else recipe.objective.name,
        "model": recipe.model,
        **_counted(said, recipe),
        "lengths": _lengths(seen.drawn, recipe),
        "classes": [{"name": name, "n": number} for name, number in seen.classes.most_common()],
        "languages": languages(seen.drawn),
        "sources": [{"name": name, "n": number} for name, number in seen.sources.most_common()],
        "drift": drift(seen.drawn),
        "least_drift": LEAST,
        "same_answer": commonest_answer(seen),
        "noise": _noise(drawn, vectors, narrator),
        "map": _map(drawn, vectors, seen, narrator),
    }
    found["questions"] = questions(found)
    write_together({run.path / PAGE: render_profile(found), run.path / NUMBERS: json_text(found)})
    for one in found["questions"]:
        narrator.say(f"? {one['question']} {one['because']}")
    return run.path / PAGE


def _counted(said: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Return what the accounting of a run knows already."""
    rows = dict(accounted(said))
    dropped = rows["dropped"]
    sections = [single.data for single in recipe.singles.values()]
    return {
        **rows,
        "duplicates": {
            "exact": dropped.get("duplicate", 0),
            "near": dropped.get("near duplicate", 0),
            "leaks": sum(dropped.get(kind, 0) for kind in LEAKS),
            "conflicts": len(said["conflicts"]),
        },
        "private": [{"words": plural(one["kind"], 2), "rows": one["rows"], "found": one["found"]} for one in said["private"]],
        "searched": any(data.redact is not False for data in sections),
        "redacted": any(data.redact is True or getattr(data.redact, "mode", "count") != "count" for data in sections),
        "hidden": list(said["hidden"]),
    }


def _lengths(rows: Sequence[Example], recipe: Recipe) -> dict[str, Any]:
    """Return the lengths by the recipe's own tokenizer, or where that is not to be had here by the built-in one's, and say so."""
    name, why = recipe.model, ""
    try:
        tokenizer = load_tokenizer(name)
    except ModelError:
        why = f"The tokenizer of {name} is not to be had here, so the built-in one counts; its numbers are near, not the same."
        name, tokenizer = EMBEDDER, load_tokenizer(EMBEDDER)
    limit = 0 if why else _limit(name, tokenizer)
    if isinstance(recipe.train.max_length, int):
        limit = recipe.train.max_length
    return {"tokenizer": name, "why": why, "limit": limit, "fields": lengths(rows, tokenizer, limit)}


def _limit(name: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many tokens the model reads; 0 where its files do not say."""
    config = AutoConfig.from_pretrained(source_folder(name), trust_remote_code=False)
    said = [tokenizer.model_max_length, getattr(config, "max_position_embeddings", None)]
    return min((int(one) for one in said if one and one < UNLIMITED), default=0)


def _embedded(rows: Sequence[Example], narrator: Narrator) -> tuple[Tensor, list[Example]]:
    """Return the vectors of a part of the draw, and the rows that they are of. [N, D]"""
    asked = [row for row in rows if shown(row).strip()]
    step = max(1, -(-len(asked) // MOST_EMBEDDED))
    asked = asked[::step]
    policy, found = load_policy(EMBEDDER), []
    with narrator.bar("Reading for the map", len(asked)) as bar:
        for begin in range(0, len(asked), CHUNK):
            some = asked[begin : begin + CHUNK]
            texts = [Example(id=place, text=shown(row).replace(END, "\n")) for place, row in enumerate(some)]
            found.append(unit_vectors(policy, texts, MAX_LENGTH)[0])
            bar.advance(begin + len(some))
    return torch.cat(found) if found else torch.empty(0, policy.width), asked


def _noise(rows: Sequence[Example], vectors: Tensor, narrator: Narrator) -> list[dict[str, Any]]:
    """Return which labels look wrong, task by task."""
    found = []
    for task in sorted({row.task or "" for row in rows if row.label is not None}):
        places = [place for place, row in enumerate(rows) if row.label is not None and (row.task or "") == task]
        labels = [rows[place].label or "" for place in places]
        with narrator.bar("Judging the labels", 5) as bar:
            noise = find_label_noise(vectors[places], labels, told=lambda done, folds: bar.advance(done))
        suspects = [
            {**_spot(rows[places[row]]), "label": labels[row], "suggested": noise.suggested[row]}
            for row in noise.suspects[:SUSPECTS]
        ]
        some = {"task": task, "n": len(places), "num_wrong": noise.num_wrong, "fraction": noise.fraction, "suspects": suspects}
        found.append(some)
    return found


def _map(rows: Sequence[Example], vectors: Tensor, seen: Seen, narrator: Narrator) -> dict[str, Any]:
    """Return rows as points, coloured by class, or where there are none by their source."""
    step = max(1, -(-len(rows) // MOST_MAPPED))
    rows, vectors = rows[::step], vectors[::step]
    if not rows:
        return {"points": [], "classes": []}
    with narrator.bar("Laying out the map", 400) as bar:
        places = plane(vectors, lambda done, steps: bar.advance(done)).tolist()
    by_source = not seen.classes and len(seen.sources) > 1
    named = [Path(row.file).name if by_source else next(iter(classes_of(row)), "") for row in rows]
    points = [
        {"x": round(x, 4), "y": round(y, 4), "class": name, **_spot(row)}
        for (x, y), name, row in zip(places, named, rows, strict=True)
    ]
    counts = Counter(name for name in named if name)
    return {"points": points, "classes": [{"name": name, "n": number} for name, number in counts.most_common()]}


_MASK = Redactor()


def _spot(row: Example) -> dict[str, str]:
    """Return what is shown of a row: the beginning of its text without private data, and its place."""
    text = _MASK(" ".join(shown(row).replace(END, " | ").split())[: 2 * LONGEST])
    return {"text": text if len(text) <= LONGEST else f"{text[:LONGEST]}…", "place": f"{Path(row.file).name}:{row.line}"}
