"""The documentation says what the code does: the reference is up to date, links lead somewhere, commands and recipes are valid."""

import importlib.util
import sys

import pytest
import typer
from pages import PAGES, ROOT, SHELLS, anchors, blocks, links, whet_calls

from whet import plugins
from whet.cli import app
from whet.recipe_file import build_recipe, parse_recipe, parse_settings

ALL = [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES]
SMALLEST = {"model": "builtin:minilm", "data": {"path": "x.csv"}, "objective": "classify"}


@pytest.fixture(scope="module")
def reference():
    """scripts/reference.py as a module."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run_reference(reference, monkeypatch):
    """The script with these arguments; returns its exit code."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["reference.py", *arguments])
        return reference.main()

    return run


def test_reference_is_up_to_date(run_reference, capsys):
    assert run_reference("--check") == 0, capsys.readouterr().err


def test_check_fails_where_a_page_is_stale_and_writes_nothing(reference, run_reference, monkeypatch, tmp_path):
    monkeypatch.setattr(reference, "FOLDER", tmp_path / "reference")
    assert run_reference("--check") == 1
    assert not (tmp_path / "reference").exists()
    assert run_reference() == 0
    assert run_reference("--check") == 0
    page = tmp_path / "reference" / "recipe.md"
    page.write_text(page.read_text(encoding="utf-8") + "edited by hand\n", encoding="utf-8")
    assert run_reference("--check") == 1
    assert page.read_text(encoding="utf-8").endswith("edited by hand\n")


@pytest.mark.parametrize("page", ALL)
def test_relative_links_lead_to_a_file_and_a_heading(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if target.suffix == ".png" and target.parent.name == "images":
            continue  # pictures are made from a finished run
        assert target.exists(), f"{page}: {link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{page}: {link}: no such heading; there are {sorted(anchors(target))}"


OF_A_PLUGIN = {"compress": ("compressors", "method"), "export": ("exporters", "form"), "deploy": ("targets", "target")}
"""Verbs whose --set sets the plugin that they name: its kind, and the argument that names it."""


@pytest.mark.parametrize("page", ALL)
def test_every_command_is_one_that_whet_has(page):
    group = typer.main.get_command(app)
    for block in blocks(page):
        if block.language not in SHELLS:
            continue
        assert block.commands, f"{page}:{block.line}: a block of shell commands without one; in a console they begin with $"
        for call in (call for command in block.commands for call in whet_calls(command)):
            if not call or call == ["--help"]:
                continue
            assert call[0] in group.commands, f"{page}:{block.line}: whet has no verb {call[0]!r}"
            context = group.commands[call[0]].make_context(call[0], call[1:])  # raises a usage error
            sets = context.params.get("sets") or ()
            if call[0] in OF_A_PLUGIN:  # raises where a key is not there
                kind, argument = OF_A_PLUGIN[call[0]]
                plugins.build(kind, context.params[argument], parse_settings(sets))
            else:
                build_recipe(SMALLEST, f"{page}:{block.line}", sets)


@pytest.mark.parametrize("page", ALL)
def test_every_recipe_shown_is_valid(page):
    for block in blocks(page):
        if block.language == "yaml" and block.text.startswith(("model:", "#")):
            parse_recipe(block.text, f"{page}:{block.line}")


def test_every_page_of_docs_can_be_reached_from_the_index():
    seen, waiting = set(), [ROOT / "docs" / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        targets = [(page.parent / link.partition("#")[0]).resolve() for link in links(page) if link.partition("#")[0]]
        waiting += [target for target in targets if target.suffix == ".md" and target.is_relative_to(ROOT / "docs")]
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} == seen


def test_every_option_of_every_command_is_on_the_page_of_the_command_line(reference):
    page = reference.command_line()
    for usage in ("whet annotate agreement RECIPE|FILE", "whet registry promote NAME"):
        assert f"```text\n{usage}" in page
    for option in ("--password-file", "--replace", "--alias"):
        assert f"| `{option}" in page
