"""Writes docs/reference/ from the code, so that it cannot say anything else; `--check` exits 1 where a page is stale.

Every page is a pure function of the code: recipe sections and plugins from pydantic, the command line from typer, errors and the
Python functions from their docstrings.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

import whet
from whet import errors, plugins
from whet.cli import app
from whet.recipe import schema

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
MADE = "<!-- Written by scripts/reference.py from the code. Do not edit; run: python scripts/reference.py -->\n\n"
KINDS = {
    "objectives": "What is learnt. Named in `objective`.",
    "techniques": "Which parameters learn. Named in `technique`.",
    "optimisers": "How parameters step. Named in `train.optimiser`.",
    "schedules": "How the learning rate moves. Named in `train.schedule`.",
    "metrics": "Scores. Each objective names those that it is judged by; `evaluate.metric` picks the verdict's, and may add one that fits.",
    "sources": "Where rows come from that are in no file. Named in `data.sources`.",
    "cleaners": "What is repaired in a text before anything else sees it. Named in `data.clean`, in order.",
    "augmenters": "What makes new training rows of training rows. Named in `data.augment`.",
    "compressors": "How a model is made smaller. Named behind `whet compress RUN`.",
    "exporters": "Formats that other programs read. Named behind `whet export RUN`.",
    "rewards": "What an answer is worth, for objectives that write their own. Named in `objective.reward`.",
    "samplers": "What a search tries next. Named in `search.sampler`.",
    "pruners": "When a search gives a trial up. Named in `search.pruner`.",
    "trackers": "Tools that mirror a run. Named in `trackers`.",
    "engines": "What writes a served run's texts. Named in `whet serve --engine`.",
    "targets": "What a run is bundled for. Named behind `whet deploy RUN`.",
    "checks": "Whether production still looks like the rows that the model was judged on. Named in `whet monitor --check`.",
}
LISTED = {
    "objective": "objectives",
    "technique": "techniques",
    "schedule": "schedules",
    "optimiser": "optimisers",
    "metric": "metrics",
    "clean": "cleaners",
    "by": "augmenters",
}
"""Keys of a recipe that name a plugin, and the kind it is of."""
EXIT_CODES = {
    0: ("Done. A verdict of `worse` is a result, not a failure, and exits 0 too.", None),
    1: ("Something that you can mend: a file, a row, a recipe, a disk. The message says what and how.", errors.WhetError),
    2: ("Usage: an option or an argument that the command line does not know.", None),
    3: ("Refused: going on would waste your time, or flatter the result.", errors.Refused),
    130: ("Interrupted (Ctrl-C, SIGTERM, SIGUSR1). During training everything is saved, and can be resumed.", errors.Interrupted),
    141: ("The reader of standard output has gone, as in `whet predict RUN FILE | head -1`.", None),
}


def main() -> int:
    """Write the pages, or with --check compare them. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a page is stale")
    check = parser.parse_args().check
    stale = []
    for name, text in pages().items():
        path = FOLDER / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            FOLDER.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    done = "is stale; run: python scripts/reference.py" if check else "written"
    for name in stale:
        print(f"docs/reference/{name}: {done}", file=sys.stderr)
    return 1 if check and stale else 0


def pages() -> dict[str, str]:
    """Return every page of the reference by file name."""
    made = {
        "index.md": index(),
        "recipe.md": recipe(),
        "plugins.md": plugin_pages(),
        "command-line.md": command_line(),
        "python.md": python(),
        "errors.md": error_page(),
    }
    return {name: f"{MADE}{text.strip()}\n" for name, text in made.items()}


def index() -> str:
    """Return the page that lists the others."""
    return """# Reference

Written from the code by `scripts/reference.py`; a test fails when a page is stale.

- [The recipe](recipe.md): every section and key, with type, default and meaning.
- [Plugins](plugins.md): every objective, technique, optimiser, schedule, metric and cleaner, with its settings.
- [The command line](command-line.md): every verb and option.
- [Python](python.md): the same verbs as functions.
- [Errors and exit codes](errors.md).
"""


def recipe() -> str:
    """Return the page of the recipe: one table for each section, from its JSON Schema."""
    tree = schema()
    lines = [
        "# The recipe",
        "",
        "YAML 1.2, read safely: `no` is a word, `1e-4` is a number. Three lines are required: `model`, `data` (with its `path`) and",
        "`objective`; for [several tasks](../how-to/several-tasks.md) `model` and `tasks`. An unknown key is an error that names the nearest",
        "known one. `--set train.epochs=3` overrides a line.",
        "",
        "`auto` is decided from the model, the data and the machine; what it became, and why, is written into the run's `recipe.yaml`",
        "and shown by `whet show`. For completion in an editor: `whet new --schema`.",
    ]
    for prefix, section in _sections("", tree, tree["$defs"]):
        lines += ["", f"## {f'`{prefix}`' if prefix else 'Top level'}", "", _sentence(section.get("description", "")), ""]
        lines += _settings(section["properties"], section.get("required", ()), tree["$defs"])
    lines += [
        "",
        "## A plugin in a recipe",
        "",
        "`objective`, `technique`, `train.schedule`, `train.optimiser` and each item of `data.clean` are either a name (`lora`) or a",
        "mapping of the name and its settings (`{name: lora, rank: 8}`). The names and settings are in [plugins](plugins.md). A name",
        "that ends in `.py` is a file of your own beside the recipe: [write a plugin](../how-to/write-a-plugin.md).",
    ]
    return "\n".join(lines)


def plugin_pages() -> str:
    """Return the page of all plugins, by kind."""
    lines = ["# Plugins", "", "`whet show plugins` prints the same list. A plugin is one file; its link leads to it."]
    found = plugins.listing()
    for kind in plugins.KINDS:
        lines += ["", f"## {kind.capitalize()}", "", KINDS[kind]]
        for one in (listing for listing in found if listing.kind == kind):
            about = _sentence(inspect.getdoc(plugins.load(kind, one.name)) or "")
            source = f"[{one.source}](../../src/whet/{one.source})"
            lines += ["", f"### `{one.name}`", "", about, "", f"Source: {source}"]
            if one.settings:
                lines += ["", *_settings(one.settings, (), {})]
    return "\n".join(lines)


def command_line() -> str:
    """Return the page of the command line, from typer's own description of it."""
    group: Any = typer.main.get_command(app)
    lines = [
        "# The command line",
        "",
        "What is for people goes to standard error; answers, and with `--json` exactly one JSON object, to standard output. Nothing",
        "ever asks a question where there is no terminal. [Exit codes](errors.md#exit-codes).",
    ]
    for name, command in _commands(group):
        usage = " ".join(["whet", name, *(_usage(one) for one in command.params)])
        lines += ["", f"## `whet {name}`", "", _sentence(command.help or ""), "", "```text", usage, "```", ""]
        lines += ["| argument or option | default | meaning |", "|---|---|---|"]
        for one in command.params:
            lines.append(f"| {_code(_called(one))} | {_default_of(one)} | {_cell(_sentence(one.help or ''))} |")
    return "\n".join(lines)


def _commands(group: Any) -> Iterator[tuple[str, Any]]:
    """Yield every command with what is typed for it: verbs, and the commands of a verb that has some, as `registry add`."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from ((f"{name} {inner}", below) for inner, below in _commands(command))
        else:
            yield name, command


def python() -> str:
    """Return the page of the Python functions and of what they return."""
    lines = ["# Python", "", "Importing `whet` loads nothing heavy; the first call of a verb does.", "", "## The verbs"]
    first = ("new", "prepare", "plan", "train", "evaluate", "compress", "export", "load", "auto", "serve")
    for name in (*first, *(name for name in whet.VERBS if name not in first)):
        lines += _function(f"whet.{name}", getattr(whet, name), "###")
    from whet.run import Run
    from whet.stages.predict import Prediction, Predictor

    for cls, members in (
        (Run, ("path", "manifest", "model", "report", "records")),
        (Predictor, ("predict", "reply")),
        (Prediction, ()),
    ):
        lines += ["", f"## `{cls.__name__}`", "", _sentence(inspect.getdoc(cls) or "")]
        if cls is Prediction:
            lines += ["", *_fields(cls)]
        for name in members:
            value = inspect.getattr_static(cls, name)
            if inspect.isfunction(value):
                lines += _function(name, value, "###")
            elif isinstance(value, property):
                lines += ["", f"### `{name}`", "", _sentence(inspect.getdoc(value) or KNOWN[name])]
            else:
                lines += ["", f"### `{name}`", "", KNOWN[name]]
    return "\n".join(lines)


KNOWN = {
    "path": "The run's folder.",
    "manifest": "What manifest.json holds, as a dictionary.",
    "model": "The folder of the trained model.",
    "records": "Return every line of log.jsonl, in order.",
}
"""What the code says by the name alone."""


def error_page() -> str:
    """Return the page of error classes and exit codes."""
    lines = [
        "# Errors and exit codes",
        "",
        "A mistake that a user can mend is a `WhetError` (`from whet.errors import WhetError`). Its message says what was found and",
        "where, what is allowed, and what to do. The command line prints it and never a traceback; in Python you catch it.",
        "",
        "## Exit codes",
        "",
        "| code | meaning | raised as |",
        "|---|---|---|",
    ]
    for code, (meaning, cls) in EXIT_CODES.items():
        raised = "" if cls is None else f"`{cls.__name__}`"
        assert cls is None or cls.exit_code == code, cls
        lines.append(f"| {code} | {meaning} | {raised} |")
    lines += [
        "",
        "With `--json` an error is one JSON object on standard output too, unless the answer is there already:",
        '`{"run": null, "error": {"kind": "RunError", "message": "...", "exit_code": 1}}`.',
    ]
    lines += ["", "## Classes", "", "| class | exit code | meaning |", "|---|---|---|"]
    tree = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.WhetError)]
    for cls in tree:
        lines.append(f"| `{cls.__name__}` | {cls.exit_code} | {_cell(_sentence(inspect.getdoc(cls) or ''))} |")
    unknown = {cls.exit_code for cls in tree} - set(EXIT_CODES)
    assert not unknown, f"exit codes that the table does not explain: {unknown}"
    return "\n".join(lines)


def _sections(prefix: str, section: Mapping[str, Any], defs: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Yield each section of the recipe with the path that leads to it; the plugin's own shape is explained once, at the end."""
    yield prefix, section
    for name, value in section["properties"].items():
        for inner in _referred(value):
            if inner != "Choice":
                yield from _sections(f"{prefix}.{name}" if prefix else name, defs[inner], defs)
        for inner in (one for option in value.get("anyOf", ()) for one in _referred(option.get("additionalProperties") or {})):
            yield f"{name}.NAME", defs[inner]  # its own sections are those of a recipe


def _referred(value: Mapping[str, Any]) -> list[str]:
    options = [value, *value.get("anyOf", ())]
    return [option["$ref"].rpartition("/")[2] for option in options if "$ref" in option]


def _settings(properties: Mapping[str, Any], required: Sequence[str], defs: Mapping[str, Any]) -> list[str]:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, value in properties.items():
        default = "required" if name in required else _default(value)
        inner = [kind for kind in _referred(value) if kind in defs and kind != "Choice"]
        about = value.get("description") or (defs[inner[0]].get("description", "") if inner else "")
        chosen = (
            f"One of the [{LISTED[name]}](plugins.md#{LISTED[name]})." if name in LISTED and defs and "enum" not in value else ""
        )
        lines.append(f"| `{name}` | {_cell(words(value))} | {default} | {_cell(f'{_sentence(about)} {chosen}')} |")
    return lines


def words(value: Mapping[str, Any]) -> str:
    """Return the type of a JSON Schema in words: 'auto or number > 0'."""
    if "anyOf" in value:
        if "Choice" in _referred(value):
            value = {"anyOf": [option for option in value["anyOf"] if option.get("type") != "string"]}
        return " or ".join(dict.fromkeys(words(option) for option in value["anyOf"] if option.get("type") != "null"))
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return "plugin" if name == "Choice" else "section"
    if "const" in value:
        return f"`{_yaml(value['const'])}`"
    if "enum" in value:
        return " or ".join(f"`{_yaml(one)}`" for one in value["enum"])
    kind = str(value.get("type", "any"))
    if kind == "array":
        inner = words(value.get("items", {}))
        return f"list of {inner}s" if inner in {"string", "number", "integer", "plugin"} else f"list of {inner}"
    return " ".join([{"boolean": "true or false"}.get(kind, kind), *_bounds(value)])


def _bounds(value: Mapping[str, Any]) -> list[str]:
    signs = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    found = [f"{sign} {value[key]:g}" for key, sign in signs.items() if key in value]
    return [", ".join(found)] if found else []


def _default(value: Mapping[str, Any]) -> str:
    if "default" not in value:
        return "none"
    default = value["default"]
    if isinstance(default, dict):
        return f"`{default['name']}`" if "name" in default else "as below"
    return "none" if default is None or default in ([], ()) else f"`{_yaml(default)}`"


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _called(one: Any) -> str:
    if one.param_type_name == "argument":
        return str(one.metavar or one.name.upper())
    value = "" if one.is_flag else f" {one.metavar or {float: 'NUMBER'}.get(_kind(one), 'TEXT')}"
    return ", ".join(one.opts) + value


def _usage(one: Any) -> str:
    called = _called(one)
    if one.param_type_name != "argument":
        return f"[{called}]"
    return called if one.required or called.startswith("[") else f"[{called}]"


def _kind(one: Any) -> Any:
    return float if isinstance(one.default, float) else str


def _default_of(one: Any) -> str:
    if one.required:
        return "required"
    if one.default is None or one.default is False or one.default in ([], ()):
        return ""
    return _code(_yaml(one.default))


def _function(name: str, function: Any, heading: str) -> list[str]:
    signature = str(inspect.signature(function)).replace("(self, ", "(").replace("(self)", "()").replace("'", "")
    return [
        "",
        f"{heading} `{name}`",
        "",
        "```python",
        f"{name}{signature}",
        "```",
        "",
        _sentence(inspect.getdoc(function) or ""),
    ]


def _fields(cls: type) -> list[str]:
    """Return a table of a dataclass's fields; the string below a field in its source is its meaning."""
    lines = [line.strip() for line in inspect.getsource(cls).splitlines()]
    rows = ["| field | type | meaning |", "|---|---|---|"]
    for name, kind in inspect.get_annotations(cls).items():
        at = next(number for number, line in enumerate(lines) if line.startswith(f"{name}:"))
        below = lines[at + 1] if at + 1 < len(lines) else ""
        rows.append(f"| `{name}` | {_code(str(kind))} | {below.strip(chr(34)) if below.startswith(chr(34) * 3) else ''} |")
    return rows


def _sentence(text: str) -> str:
    return text.strip()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


if __name__ == "__main__":
    raise SystemExit(main())
