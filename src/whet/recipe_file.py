"""Recipes as YAML 1.2: read with the line of every key, overridden by `--set`, and written with comments."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from whet.display import brief, plain, quoted
from whet.errors import RecipeError
from whet.plugins import allowed, unknown_key
from whet.recipe import STANDARD, Recipe

RULES = {
    "tuple_type": "a list such as [a, b]",
    "too_short": "at least one",
    "model_type": "a section of `key: value` lines",
    "dict_type": "a section of `key: value` lines",
    "string_pattern_mismatch": "letters, digits and . _ -, beginning with a letter or digit, 64 at most",
}
"""What is allowed, in the words of someone who writes a recipe, by pydantic's type of error."""
MOST_NODES = 20_000
"""Values of a recipe, what its aliases stand for counted each time."""
LARGEST = 4 * 2**20
"""Bytes of a recipe."""
NOT_YAML = (YAMLError, RecursionError, ValueError, TypeError, OverflowError, AttributeError)
"""What reading YAML raises: a date of month 13 and a number of 5,000 digits are a ValueError."""


def load_recipe(path: Path, sets: Sequence[str] = ()) -> Recipe:
    """Return the recipe in a file, with `--set key=value` overrides. Raises RecipeError with file, line, and what is allowed."""
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise RecipeError(f"{path}: a pipe or a device, and not a readable recipe. A recipe is a YAML text file.")
        if path.is_file() and path.stat().st_size > LARGEST:
            raise RecipeError(f"{path}: larger than {LARGEST // 2**20} MiB, so no recipe.{_as_data(path)}")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"{path}: there is no such recipe. Make one with: whet new YOUR_FILE --out {path}") from None
    except (IsADirectoryError, NotADirectoryError, ValueError, PermissionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text, or its name holds a NUL character"
        raise RecipeError(f"{path}: not a readable recipe: {reason}. A recipe is a YAML text file.{_as_data(path)}") from None
    try:
        return parse_recipe(text, str(path), sets)
    except RecipeError as error:
        hint = "" if path.suffix.lower() == ".json" else _as_data(path)  # JSON is YAML, so a recipe may be called so
        if not hint or hint in str(error):
            raise
        raise RecipeError(f"{error}{hint}") from None


def parse_recipe(text: str, where: str, sets: Sequence[str] = ()) -> Recipe:
    """Return the recipe in a YAML text; `where` names it in errors."""
    try:
        tree = _loaded(text)
        lines: dict[tuple[str, ...], str] = {}
        _note_lines(tree, (), where, lines)
        values = _plain(tree)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError(
            f"{where}:{line}: not valid YAML: {error.problem}. Mend that line; indentation is two spaces."
        ) from None
    except NOT_YAML as error:
        raise RecipeError(f"{where}: not valid YAML: {_why(error)}. Mend it there, or make a new one with: whet new") from None
    if not isinstance(values, dict):
        raise RecipeError(
            f"{where}:1: a recipe is a list of `key: value` lines and begins with model, data and objective.{_as_data(Path(where))}"
        )
    for assignment in sets:
        _apply(values, assignment, lines)
    return validate(values, where, lines)


def build_recipe(values: Mapping[str, Any], where: str, sets: Sequence[str] = ()) -> Recipe:
    """Return the recipe made of these values, with overrides."""
    made: dict[str, Any] = json.loads(json.dumps(values))
    lines: dict[tuple[str, ...], str] = {}
    for assignment in sets:
        _apply(made, assignment, lines)
    return validate(made, where, lines)


def parse_settings(sets: Sequence[str]) -> dict[str, Any]:
    """Return what `--set key=value` says, for a plugin that stands in no recipe. Raises RecipeError."""
    values: dict[str, Any] = {}
    for assignment in sets:
        _apply(values, assignment, {})
    return values


def validate(values: Mapping[str, Any], where: str, lines: Mapping[tuple[str, ...], str]) -> Recipe:
    """Return a Recipe, or raise one RecipeError that lists everything that is wrong with it."""
    try:
        recipe = Recipe.model_validate(values)
    except pydantic.ValidationError as error:
        raise RecipeError("\n".join(_problems(error, where, lines))) from None
    recipe._places.update(lines)
    return recipe


def dump_recipe(recipe: Recipe, comments: Mapping[str, str] | None = None) -> str:
    """Return the recipe as YAML; `comments` are put behind the keys they name (`train.learning_rate`)."""
    yaml = YAML()
    yaml.width = 200
    tree = yaml.map()
    _fill(tree, recipe.model_dump(mode="json", exclude_none=True), yaml)
    for key, comment in (comments or {}).items():
        node, *rest = [tree], *key.split(".")
        holder = node[0]
        for part in rest[:-1]:
            holder = holder.get(part, {})
        if rest[-1] in holder:
            holder.yaml_add_eol_comment(plain(comment.replace("\n", " ")), rest[-1])
    stream = io.StringIO()
    yaml.dump(tree, stream)
    return stream.getvalue()


def _fill(tree: Any, values: Mapping[str, Any], yaml: YAML) -> None:
    for key, value in values.items():
        if isinstance(value, dict):
            tree[key] = yaml.map()
            _fill(tree[key], value, yaml)
        else:
            tree[key] = value


def _note_lines(node: Any, path: tuple[str, ...], where: str, lines: dict[tuple[str, ...], str]) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            position = node.lc.data.get(key) if hasattr(node, "lc") and node.lc.data else None
            lines[(*path, str(key))] = f"{where}:{position[0] + 1}" if position else where
            _note_lines(value, (*path, str(key)), where, lines)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            _note_lines(value, (*path, str(index)), where, lines)


def _plain(node: Any) -> Any:
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    if isinstance(node, bool) or node is None:
        return node
    for kind in (int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return str(node)


def _apply(values: dict[str, Any], assignment: str, lines: dict[tuple[str, ...], str]) -> None:
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {assignment}: write --set key=value, for example --set train.learning_rate=1e-4.")
    path = tuple(key.strip().split("."))
    try:
        value = _plain(_loaded(text)) if text.strip() else None
    except NOT_YAML as error:
        shown = assignment if len(assignment) < 80 else f"{assignment[:80]}..."
        raise RecipeError(f"--set {shown!r}: the value is not valid YAML: {_why(error)}.") from None
    holder = values
    for depth, part in enumerate(path[:-1], 1):
        inner = holder.get(part)
        if inner is None and path[:depth] in STANDARD:
            inner = STANDARD[path[:depth]]  # nothing was said of it, and `--set train.optimiser.beta2=0.95`
        if isinstance(inner, str) and part in {"objective", "technique", "schedule", "optimiser"}:
            inner = {"name": inner}  # `technique: lora` and then `--set technique.rank=8`
        holder[part] = inner if isinstance(inner, dict) else {}
        holder = holder[part]
    holder[path[-1]] = value
    for below in [place for place in lines if place[: len(path)] == path]:
        del lines[below]
    for length in range(1, len(path) + 1):
        lines[path[:length]] = f"--set {key}" if length == len(path) else lines.get(path[:length], f"--set {key}")


def _loaded(text: str) -> Any:
    """Return a YAML text as a tree. What aliases stand for is counted before it is walked: ten lines can stand for a billion."""
    tree = YAML().load(io.StringIO(text))
    sizes: dict[int, int] = {}
    if _size(tree, sizes) > MOST_NODES:
        raise YAMLError(f"with its aliases (*name) it has more than {MOST_NODES:,} values")
    return tree


def _size(node: Any, sizes: dict[int, int]) -> int:
    """Return how many values a node stands for, each alias counted anew. A node that holds itself raises RecursionError."""
    if not isinstance(node, dict | list):
        return 1
    if id(node) not in sizes:
        sizes[id(node)] = -1
        inner = node.values() if isinstance(node, dict) else node
        sizes[id(node)] = 1 + sum(_size(one, sizes) for one in inner)
    elif sizes[id(node)] < 0:
        raise RecursionError
    return sizes[id(node)]


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it holds itself, or is nested too deeply"
    if not isinstance(error, YAMLError):
        return f"a value in it is not what it looks like ({brief(str(error), 120)}); put it in quotes to make it a text"
    return str(getattr(error, "problem", None) or str(error).splitlines()[0])


def _as_data(path: Path) -> str:
    """Return a hint where a data file was named as the recipe."""
    known = {".csv", ".tsv", ".json", ".jsonl", ".parquet", ".txt", ".xlsx", ".arrow", ".zip", ".gz", ".zst"}
    return f" This looks like a data file: whet auto {quoted(path)}" if path.suffix.lower() in known else ""


def _problems(error: pydantic.ValidationError, where: str, lines: Mapping[tuple[str, ...], str]) -> list[str]:
    grouped: dict[tuple[str, ...], tuple[Any, list[str]]] = {}
    sentences = []
    for item in error.errors():
        path, section = _path(item["loc"])
        place = next((lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in lines), where)
        dotted = ".".join(path)
        if item["type"] == "recipe_sentence":
            sentences.append(f"{place}: {item['msg']}")
        elif item["type"] == "extra_forbidden":
            same = [f"'{key}'" for key in _named(dotted)]
            which = "one of " * (len(same) > 1) + ", ".join(same)
            asked = f"unknown key '{dotted}'; did you mean {which}?" if same else unknown_key(dotted, _prefixed(path, section))
            sentences.append(f"{place}: {asked}")
        elif item["type"] == "missing" and path[-1] == "name":
            plugin = ".".join(path[:-1])
            sentences.append(
                f"{place}: the settings of '{plugin}' are there and its name is not. Name it: --set {dotted}=NAME, or in the recipe."
            )
        elif item["type"] in {"missing", "no_rows"}:
            lacking = dotted if item["type"] == "missing" else f"{dotted}.path"
            sentences.append(f"{place}: '{lacking}' is missing. {_needed(path)}")
        else:
            grouped.setdefault(path, (item["input"], []))[1].append(RULES.get(item["type"]) or allowed(item["msg"]))
    for path, (value, rules) in grouped.items():
        place = next((lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in lines), where)
        shown = _repr(value)
        sentences.append(f"{place}: '{'.'.join(path)}' is {shown[:80]}; allowed: {', or '.join(dict.fromkeys(rules))}.")
    return sentences


def _needed(path: Sequence[str]) -> str:
    if path[0] == "tasks":
        return "Each of `tasks` needs data (with path) and objective."
    return "A recipe needs model, data (with path) and objective; or model and tasks."


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return "a number that is too long"


def _path(location: Sequence[str | int]) -> tuple[tuple[str, ...], type[BaseModel]]:
    """Return the recipe's own path of a pydantic location, without its union tags, and the section it ends in."""
    path: list[str] = []
    section: type[BaseModel] = Recipe
    for part in location:
        name = str(part)
        fields = section.model_fields
        if path and path[-1] == "tasks" and not _is_tag(name):  # a task, under whatever name
            path.append(name)
        elif name in fields:
            path.append(name)
            inner = next((kind for kind in _sections(fields[name].annotation)), None)
            section = inner or section
        elif (isinstance(part, int) or part == location[-1]) and not _is_tag(name):
            path.append(name)
    return tuple(path), section


def _is_tag(name: str) -> bool:
    tags = ("literal", "constrained", "function", "tuple", "float", "int", "str", "bool", "is-instance")
    return name.startswith(tags) or name in {"Choice", "EarlyStopping"}


def _sections(annotation: Any) -> list[type[BaseModel]]:
    found = []
    stack = [annotation]
    while stack:
        kind = stack.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found.append(kind)
        stack.extend(getattr(kind, "__args__", ()))
    return found


def _prefixed(path: tuple[str, ...], section: type[BaseModel]) -> list[str]:
    prefix = ".".join(path[:-1])
    return [f"{prefix}.{name}" if prefix else name for name in section.model_fields]


def _named(name: str, section: type[BaseModel] = Recipe, prefix: str = "") -> list[str]:
    """Return the keys with that name in the sections of the recipe, such as train.seed; those of tasks are none of them."""
    found = []
    for key, field in section.model_fields.items():
        if key == name and prefix:
            found.append(prefix + key)
        inner = [] if key == "tasks" else _sections(field.annotation)
        found += [one for kind in inner for one in _named(name, kind, f"{prefix}{key}.")]
    return list(dict.fromkeys(found))
