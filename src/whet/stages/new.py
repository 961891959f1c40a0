"""`whet new`: look at a file, and write the recipe that fits it, with the reason for every guess."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from whet.data.language import NAMES
from whet.data.notices import counted
from whet.data.profile import Profile, profile
from whet.data.read import read_files
from whet.display import brief, listed, name_fault, places, plain, quoted
from whet.errors import DataError, RecipeError
from whet.files import expanded, is_pattern, write_whole
from whet.recipe import Recipe
from whet.recipe_file import build_recipe, parse_recipe, parse_settings
from whet.stages.narrate import SILENT, Narrator
from whet.stages.new_source import export_in, export_of, first_rows, is_address, is_database, source_of

MODELS = {
    "classify": "builtin:minilm",
    "sft": "builtin:seedling",
    "pretrain": "builtin:seedling",
    "dpo": "builtin:seedling",
    "reward": "builtin:minilm",
    "tokens": "builtin:minilm",
}
SHORT = 4
"""Characters in the middle below which a column is hardly text: codes, letters, figures."""
PEEKED = 20
"""Rows that tell which tool has written a file."""
WHY_MODEL = {
    "builtin:minilm": "an English encoder that needs no network; good at telling classes apart",
    "builtin:seedling": "a very small decoder that needs no network; name a larger one from the hub for real answers",
}


def new(paths: Sequence[Path | str], *, out: Path, model: str | None = None, narrator: Narrator = SILENT) -> tuple[Path, Profile]:
    """Write a commented recipe for these files, an address or a database. Returns its path and what was seen.

    An existing recipe is never overwritten.

    `model` is the one to be trained; none: a built-in one is chosen.
    """
    if out.exists():
        raise RecipeError(f"{out}: this file exists and is not overwritten. Name another one with --out.")
    fault = name_fault(out)
    if fault:
        raise RecipeError(f"{str(out)!r}: {fault} Name another one with --out.")
    if not out.parent.is_dir():
        raise RecipeError(f"{out}: its folder {out.parent} does not exist. Make it first, or name another place with --out.")
    values, seen = _guessed(paths, (), model)
    build_recipe(values, str(out))
    text = _commented(values, seen, out)
    parse_recipe(text, str(out))
    write_whole(out, text)
    for notice in seen.notices:
        narrator.say(f"Note: {notice}")
    narrator.say(tell(seen, model))
    return out, seen


def _guessed(
    paths: Sequence[Path | str], test: Sequence[Path], model: str | None, given: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], Profile]:
    """Return the values of a recipe for files, another tool's exports, an address or a database, and what was seen in them."""
    said: list[str] = []
    source = _source(paths, said)
    files = [Path(path) for path in paths]
    seen = fitting(profile(first_rows(source), given=given, named=paths) if source else look(files, given), model)
    values = guess_recipe(seen, files, test, model=model)
    if source:
        why = f"Read by source '{source['name']}' (data.sources), a copy of its rows is kept beside the recipe."
        seen = replace(seen, reasons=(why, *said, *seen.reasons))
        values["data"] = {"sources": source, **{key: value for key, value in values["data"].items() if key != "path"}}
    judged_on = _source(test, []) if test else None
    if judged_on:
        values["data"]["test_sources"] = judged_on
        del values["data"]["test"]
    return values, seen


def _source(paths: Sequence[Path | str], said: list[str]) -> dict[str, Any] | None:
    """Return the source that reads an export, an address or a database; none for files. Raises DataError where they differ in kind.

    What was chosen in it is added to `said`.
    """
    named = [str(path) for path in paths if is_address(path) or is_database(path)]
    if named and len(paths) > 1:
        raise DataError(
            f"{brief(named[0])}: one address or database makes one recipe. Name it alone, and add the others to data.sources of the recipe."
        )
    if named:
        return source_of(named[0], said)
    tools = {str(path): _tool(Path(path)) for path in paths}
    if len(set(tools.values())) > 1:
        path = next(path for path, name in tools.items() if name)
        raise DataError(
            f"{brief(path)}: an export that source '{tools[path]}' reads, and the others are not. Name it alone, and add the others to data.path or "
            "data.sources of the recipe."
        )
    name = next(iter(tools.values()))
    return None if name is None else {"name": name, "path": next(iter(tools)) if len(tools) == 1 else list(tools)}


def _tool(path: Path) -> str | None:
    """Return the source that reads a file as another tool's export; none where no other tool has written it."""
    if path.is_fifo():
        return None
    if packed := export_in(path):
        return packed
    try:
        return export_of(list(islice(read_files([path]), PEEKED)))
    except DataError:
        return None  # looking at all of it says what is wrong


def look(paths: Sequence[Path], given: Mapping[str, str] | None = None) -> Profile:
    """Return what the files hold, with the columns that the user named. Raises DataError where one is a recipe."""
    for path in paths:
        if path.is_fifo():
            raise DataError(f"{path}: a pipe, which can be read only once. Write it to a file, and name that one.")
        if path.suffix.lower() in {".yaml", ".yml"} and path.is_file():
            raise DataError(
                f"{path}: looks like a recipe, and a data file is wanted here. Train by a recipe with: whet train {quoted(path)}"
            )
    notices: list[str] = []
    return profile(read_files(paths, notices), notices, given, paths)


def guess_recipe(seen: Profile, paths: Sequence[Path], test: Sequence[Path] = (), model: str | None = None) -> dict[str, Any]:
    """Return the values of the recipe that fits, with `model` or a built-in one. Raises DataError where nothing fits."""
    if seen.objective is None and not seen.found_columns:
        raise DataError(
            f"{places(seen.files)}: no row has a column. Each row needs fields by name, such as a text and its label."
        )
    if seen.objective is None:
        raise DataError(
            f"{places(seen.files)}: nothing here says what is to be learnt; found the columns {listed(seen.found_columns)}. "
            "Write a recipe that names them, for example data: {text: ..., label: ...} with objective: classify."
        )
    data: dict[str, Any] = {"path": [str(path) for path in paths], **seen.columns}
    if len(paths) == 1:
        data["path"] = str(paths[0])
    if test:
        data["test"] = [str(path) for path in test]
    if seen.slices:
        data["slices"] = list(seen.slices)
    objective: Any = seen.objective
    if seen.objective == "classify" and "labels" in seen.columns:
        objective = {"name": "classify", "kind": "several"}
    elif seen.shape == "text and number":
        objective = {"name": "classify", "kind": "number"}
    return {"model": model or MODELS[seen.objective], "data": data, "objective": objective}


def fitting(seen: Profile, model: str | None) -> Profile:
    """Return what was seen with the objective that this model learns it by: seq2seq where it is an encoder-decoder's folder."""
    if seen.objective != "sft" or model is None or not _is_encoder_decoder(model):
        return seen
    reason = f"The objective is seq2seq instead: {model} is an encoder-decoder."
    return replace(seen, objective="seq2seq", reasons=(*seen.reasons, reason))


def _is_encoder_decoder(model: str) -> bool:
    """Whether a model folder says that it is one. Of a model on the hub nothing is known before it is loaded."""
    try:
        config = json.loads((expanded(model) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False  # loading it says what is wrong
    return isinstance(config, dict) and config.get("is_encoder_decoder") is True


def auto_recipe(paths: Sequence[Path], test: Sequence[Path], model: str | None, sets: Sequence[str]) -> tuple[Recipe, Profile]:
    """Return the recipe that `whet auto` trains by, with overrides, and what was seen in the files."""
    for path in (*paths, *test):
        if not path.exists() and not is_pattern(path):
            raise DataError(f"{path}: there is no such file. Check the spelling; you are in {Path.cwd()}.")
    values, seen = _guessed(paths, test, model, _named(sets))
    values["train"] = {"refit": "auto"}
    return build_recipe(values, "the recipe made for you", sets), seen


def _named(sets: Sequence[str]) -> dict[str, str]:
    """Return the columns of a text and its label that `--set` names."""
    said = parse_settings(sets).get("data")
    wanted = ("text", "text_pair", "label", "labels")
    return {key: said[key] for key in wanted if isinstance(said.get(key), str)} if isinstance(said, dict) else {}


def tell(seen: Profile, model: str | None = None) -> str:
    """Return what was seen, as lines for a person. `model` is the one to be trained; none: the one that the recipe proposes."""
    lines = [
        f"{places(seen.files)}: {counted(seen.num_rows, 'row')}, {seen.shape}"
        + (f", {NAMES.get(seen.language, seen.language)}" if seen.language else "")
        + "."
    ]
    if numbers := _numbers(seen):
        lines.append(f"Numbers from {min(numbers):g} to {max(numbers):g}.")
    elif seen.classes:
        shown = ", ".join(f"{brief(name)} ({count:,})" for name, count in list(seen.classes.items())[:6])
        among = f" among the {seen.num_looked_at:,} rows looked at" if seen.num_looked_at < seen.num_rows else ""
        more = f" and {len(seen.classes) - 6} more" if len(seen.classes) > 6 else ""
        number = "1 class" if len(seen.classes) == 1 else f"{len(seen.classes)} classes"
        lines.append(f"{number}{among}: {shown}{more}.")
    if len(seen.classes) == 1:
        lines.append("Note: one class only; a classifier needs at least two. Add rows of another, or name another column.")
    lines.append(f"Texts have {seen.lengths.median:,.0f} characters in the middle, {seen.lengths.longest:,} at most.")
    if seen.objective == "classify" and seen.lengths.median < SHORT:
        lines.append(
            "Note: that is hardly text, and a language model learns from words. Name another column, with --set data.text=COLUMN."
        )
    if seen.num_rejects:
        lines.append(f"Note: {counted(seen.num_rejects, 'row')} cannot be read; `whet prepare` lists what cannot, with its line.")
    lines += seen.reasons
    warning = language_warning(seen.language, model or MODELS.get(seen.objective or "", ""))
    return "\n".join([*lines, warning] if warning else lines)


def _numbers(seen: Profile) -> list[float]:
    """Return the different numbers that are learnt; none where classes are."""
    if seen.shape != "text and number":
        return []
    return [value for text in seen.classes if math.isfinite(value := float(text))]


def language_warning(language: str | None, model: str) -> str:
    """Return what to do where a built-in model, which has read English only, is to learn another language; else nothing."""
    if language in {None, "en"} or model not in WHY_MODEL:
        return ""
    name = NAMES.get(language or "", language)
    other = "intfloat/multilingual-e5-small" if model == "builtin:minilm" else "Qwen/Qwen2.5-0.5B"
    return (
        f"Warning: your text is {name}, and {model} has learnt English only, so it will do worse than it could. Take a model that "
        f"knows {name}, from the hub or a folder, for example: model: {other} (whet auto: --model {other})."
    )


def _commented(values: dict[str, Any], seen: Profile, out: Path) -> str:
    yaml = YAML()
    yaml.width = 200
    tree = yaml.load(_dumped(values))
    model = str(values["model"])
    tree.yaml_set_start_comment(
        "\n".join(
            [
                *map(plain, tell(seen).split("\n")),
                "",
                f"Train with: whet train {plain(quoted(out))}. Every other setting has a default; see: whet new --schema",
            ]
        )
    )
    tree.yaml_add_eol_comment(WHY_MODEL.get(model, "as you said"), "model")
    stream = io.StringIO()
    yaml.dump(tree, stream)
    return stream.getvalue()


def _dumped(values: dict[str, Any]) -> str:
    stream = io.StringIO()
    YAML().dump(values, stream)
    return stream.getvalue()
