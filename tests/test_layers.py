"""Imports point down the layers of the design, plugins never import each other, and there is one backward pass."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import whet
from whet.kinds import KINDS

ROOT = Path(whet.__file__).parent
PLUGINS = frozenset(KINDS)
LAYERS = {
    **dict.fromkeys(["", "errors", "types", "protocols", "files", "display", "kinds"], 0),
    **dict.fromkeys(["recipe", "recipe_data", "recipe_parts", "recipe_file", "plugins", "run", "registry", "tracked"], 1),
    **dict.fromkeys(["models", "engine", "stats", "words", "wordwise", "speech", "thesaurus", "drift", "bundle", "private"], 2),
    **dict.fromkeys(["data", "collect"], 3),
    **dict.fromkeys(PLUGINS, 4),
    **dict.fromkeys(["report", "server", "store", "annotation"], 5),
    **dict.fromkeys(["stages", "testing"], 6),
    **dict.fromkeys(["api", "cli", "ui", "__main__"], 7),
}
"""Layer of each file or folder of the package, as the design has it; "" is the package itself, which says its version."""
LAZY = {"whet", "whet.__main__", "whet.stages.annotate"}
"""Modules that import what is heavy, above them, or resting on an optional package (fastapi), inside their functions."""


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ["whet", *path.relative_to(ROOT).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def part(module: str) -> str:
    """File or folder directly under the package; "" for the package itself."""
    return (module.split(".") + [""])[1]


def layer(module: str) -> int:
    assert part(module) in LAYERS, f"{module} has no layer; give '{part(module)}' one in this table and in the design"
    return LAYERS[part(module)]


def is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def statements(body: list[ast.stmt], inside: bool) -> Iterator[ast.stmt]:
    """Statements that run: at import, and inside functions too if asked. What is for type checkers only is left out."""
    for node in body:
        if is_type_checking(node):
            continue
        yield node
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not inside:
            continue
        for name in ("body", "orelse", "finalbody", "handlers"):
            for child in getattr(node, name, []):
                yield from statements(child.body if isinstance(child, ast.ExceptHandler) else [child], inside)


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@cache
def imports(module: str, inside: bool) -> frozenset[str]:
    """Everything that a module imports: modules of the package by name, others by their first name."""
    found: set[str] = set()
    for node in statements(tree(module).body, inside):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: import by the whole name"
            source = node.module or ""
            inner = {f"{source}.{alias.name}" for alias in node.names} & MODULES.keys()
            found |= inner or {source}
    return frozenset(name if name.split(".")[0] == "whet" else name.split(".")[0] for name in found)


def test_imports_point_down():
    upward = [
        f"{module} (layer {layer(module)}) imports {imported} (layer {layer(imported)}), which is above it"
        for module in MODULES
        for imported in imports(module, module not in LAZY)
        if imported.split(".")[0] == "whet" and layer(imported) > layer(module)
    ]
    assert not upward, "\n".join(upward)


def test_a_plugin_imports_no_other_plugin():
    others = {
        module: found
        for module in MODULES
        if part(module) in PLUGINS
        and (found := {name for name in imports(module, True) if name.split(".")[0] == "whet" and part(name) in PLUGINS})
    }
    assert not others, f"plugins import plugins: {others}; what plugins share belongs below them"


def test_no_torch_in_the_two_lowest_layers():
    heavy = {"torch", "transformers", "safetensors", "tokenizers"}
    found = {module: sorted(imports(module, True) & heavy) for module in MODULES if layer(module) <= 1}
    found = {module: names for module, names in found.items() if names}
    assert not found, f"{found}; only for type checking, below `if TYPE_CHECKING`"


def test_there_is_no_import_cycle():
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done:
            return
        for imported in sorted(imports(module, False) & MODULES.keys()):
            visit(imported, (*path, module))
        done.add(module)

    for module in MODULES:
        visit(module, ())


def test_there_is_one_backward_pass():
    calls = [
        f"{module}:{node.lineno}"
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "backward"
    ]
    assert len(calls) == 1 and calls[0].startswith("whet.engine.fit:"), calls


@cache
def is_heavy(module: str) -> bool:
    found = imports(module, False)
    return bool(found & {"torch", "transformers", "polars"}) or any(is_heavy(name) for name in found & MODULES.keys())


def test_imports_stand_at_the_top():
    # but for an optional dependency, and what loads torch or polars where others must start at once or stay small
    for module in MODULES:
        late = (imports(module, True) - imports(module, False)) & MODULES.keys()
        wrong = sorted(name for name in late if module not in LAZY and part(module) != "cli" and not is_heavy(name))
        assert not wrong, f"{module} imports {wrong} inside a function; put them at the top"


def test_the_package_and_the_command_line_load_no_torch():
    script = "import sys, whet.cli; print(sorted({'torch', 'transformers', 'polars', 'pydantic'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert found.stdout.strip() == "[]", found.stderr  # `whet --help` is there at once
    script = "import sys, whet, whet.cli, whet.recipe, whet.plugins, whet.run; print(sorted({'torch', 'transformers', 'polars'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "[]"


def test_training_loads_polars_only_for_files_of_columns():
    script = "import sys, whet.stages.train; print('torch' in sys.modules, 'polars' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert found.stdout.strip() == "True False", found.stderr
