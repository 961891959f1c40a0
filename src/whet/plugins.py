"""The plugin rule: one class in a file whose name is its name in the recipe; its fields are its settings.

Nothing is registered. A kind is a folder of the package; a plugin of the user's own is a file beside the recipe that they started
(`name: ./my_loss.py`), and its hash goes into the run.
"""

from __future__ import annotations

import contextvars
import difflib
import hashlib
import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PosixPath
from types import ModuleType
from typing import Annotated, Any, TypeVar, dataclass_transform

import pydantic

from whet.errors import OWN_MODULE, RecipeError, RunError
from whet.files import beside
from whet.kinds import KINDS as KINDS
from whet.kinds import names as names

T = TypeVar("T")
_folder: contextvars.ContextVar[Path | None] = contextvars.ContextVar("whet_recipe_folder", default=None)
"""The recipe's, while a plugin is built, for the plugins that its settings name."""


@dataclass_transform(frozen_default=True, field_specifiers=(pydantic.Field,))
def plugin(cls: type[T]) -> type[T]:
    """Make the class a frozen, validated settings class that refuses unknown keys. Each plugin file decorates its own class."""
    config = pydantic.ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
    made = pydantic.dataclasses.dataclass(frozen=True, config=config)(cls)
    made.__whet_plugin__ = True  # type: ignore[attr-defined]
    return made  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Listing:
    """One plugin as `whet show plugins` lists it."""

    kind: str
    name: str
    summary: str
    source: str
    """File, relative to the package."""
    settings: Mapping[str, Mapping[str, Any]]
    """Field to JSON schema: type, default, description."""


class Pinned(PosixPath):
    """A recipe's folder from which only known files are loaded: those that a run was made with."""

    hashes: Mapping[str, str]
    """File, whole path, to SHA-256."""


def pinned(folder: Path, hashes: Mapping[str, str]) -> Pinned:
    """Return the folder as one from which only these files are loaded, by name in the recipe and SHA-256."""
    made = Pinned(folder)
    made.hashes = {str((folder / name).resolve()): sha256 for name, sha256 in hashes.items()}
    return made


def load(kind: str, name: str, folder: Path | None = None) -> type[Any]:
    """Return the plugin class called `name`. `folder` is the recipe's; only from there may a file of the user's own come."""
    if name.endswith(".py"):
        return _load_file(kind, name, folder)
    known, wanted = names(kind), name.replace("-", "_")
    if wanted not in known:
        near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.5)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise RecipeError(
            f"'{name}' is no plugin of kind '{kind}'.{hint} Allowed: {', '.join(known)}, or a file such as ./mine.py."
        )
    return _only_plugin(importlib.import_module(f"whet.{kind}.{wanted}"), f"{kind}/{wanted}.py")


def build(kind: str, name: str, settings: Mapping[str, Any], folder: Path | None = None) -> Any:
    """Return the plugin with these settings. Raises RecipeError that names the wrong setting and what is allowed."""
    cls = load(kind, name, folder)
    token = _folder.set(folder)
    try:
        return cls(**settings)
    except pydantic.ValidationError as error:
        raise RecipeError(f"{kind} '{name}': " + "; ".join(explain(error, cls.__pydantic_fields__))) from None
    finally:
        _folder.reset(token)


def inner(kind: str, choice: Any) -> Any:
    """Return the plugin that a setting of another one names: `numeric`, or `{name: numeric, tolerance: 0.1}`. Raises RecipeError."""
    if not isinstance(choice, str | Mapping):
        return choice  # built already
    settings = {"name": choice} if isinstance(choice, str) else dict(choice)
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise RecipeError(
            f"a plugin of kind '{kind}' needs a name. Allowed: {', '.join(names(kind))}, or a file such as ./mine.py."
        )
    return build(kind, name, settings, _folder.get())


def beside_recipe(name: str) -> str:
    """Return where a folder lies that a setting names: as data, from the current folder, or else beside the recipe."""
    return name if not isinstance(name, str) or name.startswith("builtin:") else beside(name, _folder.get())


def started_here(what: str) -> None:
    """Raise RecipeError where a plugin would do this for a recipe that nobody has started here, such as one that lies in a run."""
    if _folder.get() is None:
        raise RecipeError(
            f"{what}: run only from a recipe that you start, never from one that lies in a run. Name it: --recipe RECIPE, or take the setting out."
        )


@dataclass(frozen=True)
class Named:
    """Marks a setting that names a run or a model which is learnt from."""


Place = Annotated[str, pydantic.BeforeValidator(beside_recipe), Named()]
"""A setting that names the folder of a run, or a base model; it is recorded with its hash where something learns from it."""


def places(made: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plugin's settings with every Place as it was found, those of plugins that they name too."""
    found = dict(settings)
    for name, field in type(made).__pydantic_fields__.items():
        value = getattr(made, name)
        if name in found and any(isinstance(one, Named) for one in field.metadata):
            found[name] = value
        elif hasattr(type(value), "__whet_plugin__") and isinstance(found.get(name), Mapping):
            found[name] = places(value, found[name])
    return found


def named_places(made: Any) -> list[str]:
    """Return every Place that a plugin's settings name, and those of plugins that they name."""
    found: list[str] = []
    for name, field in type(made).__pydantic_fields__.items():
        value = getattr(made, name)
        if any(isinstance(one, Named) for one in field.metadata):
            found.append(value)
        elif hasattr(type(value), "__whet_plugin__"):
            found += named_places(value)
    return found


def explain(error: pydantic.ValidationError, known: Mapping[str, pydantic.fields.FieldInfo]) -> list[str]:
    """Return one sentence per wrong setting: what was found, what is allowed, the nearest known name; of a missing one what it is."""
    found: dict[str, tuple[Any, list[str]]] = {}
    sentences = []
    for item in error.errors():
        name = str(item["loc"][0]) if item["loc"] else ""
        if item["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
            sentences.append(unknown_key(name, list(known)))
        elif item["type"] == "secret":
            sentences.append(f"'{name}': {item['msg']}")
        elif item["type"] in {"missing", "missing_argument"}:
            meaning = known[name].description if name in known else None
            sentences.append(f"'{name}' is missing" + (f": {meaning}" if meaning else ""))
        else:
            found.setdefault(name, (item["input"], []))[1].append(allowed(item["msg"]))
    sentences += [
        f"'{name}' is {value!r}; allowed: {' or '.join(dict.fromkeys(rules))}" for name, (value, rules) in found.items()
    ]
    return sentences


def unknown_key(name: str, known: list[str]) -> str:
    """Return the sentence for a key that nobody reads."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    return f"unknown key '{name}'{hint} Allowed: {', '.join(known) or 'no settings'}"


def allowed(message: str) -> str:
    """Return a pydantic message as the words after 'allowed:'."""
    return message.removeprefix("Input should be ").removeprefix("Value error, ").split(", unable")[0]


def listing() -> list[Listing]:
    """Return every built-in plugin with its settings. Imports them all."""
    found = []
    for kind in KINDS:
        for name in names(kind):
            cls = load(kind, name)
            schema = pydantic.TypeAdapter(cls).json_schema()
            summary = (cls.__doc__ or "").strip().split("\n")[0]
            found.append(Listing(kind, name, summary, f"{kind}/{name}.py", schema.get("properties", {})))
    return found


def _load_file(kind: str, name: str, folder: Path | None) -> type[Any]:
    if folder is None:
        raise RecipeError(
            f"'{name}' is a file, and code is loaded only from a recipe that you start. Name a built-in one: {', '.join(names(kind))}."
        )
    try:
        path = (folder / name).resolve()
        inside, there = path.is_relative_to(folder.resolve()), path.is_file()
    except (ValueError, OSError) as error:
        raise RecipeError(f"{name!r} cannot be the name of a file: {error}. Put the file beside the recipe.") from None
    if not inside:
        raise RecipeError(f"'{name}' lies outside the recipe's folder ({folder.resolve()}). Put the file beside the recipe.")
    if not there:
        raise RecipeError(f"'{name}' is not there: {path}. Put the file beside the recipe.")
    source = path.read_bytes()
    if isinstance(folder, Pinned) and folder.hashes.get(str(path)) != hashlib.sha256(source).hexdigest():
        known = ", ".join(Path(file).name for file in folder.hashes) or "none"
        raise RunError(
            f"{path}: not a file that the run was made with (those are: {known}), so it is not loaded. "
            "Bring back the run's recipe.yaml, model/policy.json and your files as they were, or begin a new run."
        )
    return _only_plugin(_module(path, source), str(path))


def _module(path: Path, source: bytes) -> ModuleType:
    """Run these bytes as a module: what was hashed is what runs, whatever lies in `__pycache__`. Raises RecipeError."""
    name = f"{OWN_MODULE}{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        exec(compile(source, str(path), "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        line = next((frame.tb_lineno for frame in _frames(error) if frame.tb_frame.f_code.co_filename == str(path)), 1)
        line = error.lineno or line if isinstance(error, SyntaxError) else line
        raise RecipeError(
            f"{path}:{line}: {type(error).__name__}: {error}. The plugin's file could not be loaded; mend it there. "
            "It stands alone: what lies beside it is not imported."
        ) from error
    return module


def _frames(error: BaseException) -> list[Any]:
    frames, current = [], error.__traceback__
    while current is not None:
        frames.append(current)
        current = current.tb_next
    return frames[::-1]


def _only_plugin(module: Any, where: str) -> type[Any]:
    found = [value for value in vars(module).values() if isinstance(value, type) and "__whet_plugin__" in vars(value)]
    if len(found) != 1:
        raise RecipeError(f"{where}: {len(found)} classes are decorated with @plugin; a plugin file has exactly one.")
    return found[0]
