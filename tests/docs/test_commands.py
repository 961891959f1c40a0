"""Every page's commands run, in order, in a folder of their own with a copy of examples/, on tiny settings."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from pages import PAGES, ROOT, SHELLS, Block, blocks, whet_calls

from whet import plugins
from whet.models.builtin import BUILT_IN
from whet.testing import (
    check_augmenter,
    check_check,
    check_cleaner,
    check_compressor,
    check_engine,
    check_exporter,
    check_metric,
    check_objective,
    check_optimiser,
    check_pruner,
    check_reward,
    check_sampler,
    check_schedule,
    check_source,
    check_target,
    check_technique,
    check_tracker,
    tiny_run,
)
from whet.testing.tiny import tiny_sums

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent
RUN_PAGES = [page for page in PAGES if page.is_relative_to(ROOT / "docs") and page.parent.name != "reference"]
RUN_PAGES = [
    page
    for page in RUN_PAGES
    if any((block.language in SHELLS or "run" in block.notes) and block.note("skip") is None for block in blocks(page))
]
LONGEST_S = 1800
"""Only what hangs is stopped: a busy machine takes many times as long."""
MANY_LETTERS = 4
"""Fewer of them at the beginning of a line say nothing."""
QUICK = "--set evaluate.resamples=100 --set evaluate.max_rows=40"
"""Added to whatever trains, besides the page's own notes."""


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return kept | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "100", "HF_HUB_OFFLINE": "1"}


def is_there(model: str) -> bool:
    known = BUILT_IN[model.removeprefix("builtin:")]
    spec = find_spec(known.package)
    return (
        spec is not None and spec.origin is not None and (Path(spec.origin).parent / known.folder / "model.safetensors").is_file()
    )


def shell(command: str, folder: Path, expected: int = 0) -> str:
    """Run a command. Returns all that it said."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=LONGEST_S,
    )
    said = f"{command}\nexit {done.returncode}, expected {expected}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert done.returncode == expected, said
    assert "Traceback" not in done.stderr, said
    return done.stdout + done.stderr


def is_said(block: Block, said: str) -> None:
    """Each line that a page shows begins as a line that was said, up to its first number or name: those depend on the settings.

    Tables do too, and lines whose beginnings a note `varies` names.
    """
    varying = tuple((block.note("varies") or "Training: ").split("; "))
    lines = [" ".join(line.split()) for line in said.splitlines()]
    whole = " ".join(lines)
    for line in block.shown:
        words = re.split(r"[\d'\"]|\.\.\.| %", line)[0].strip()
        if len(words) < MANY_LETTERS or "  " in line or line.startswith(varying):
            continue
        words = " ".join(words.split())
        assert any(one.startswith(words) for one in lines) or words in whole, (
            f"{block.page}:{block.line} shows a line that is not said: {line}"
        )


def interrupt(command: str, folder: Path) -> None:
    """Run the command, press Ctrl-C once its log has a step, and expect the exit code of an interrupted run."""
    before = set(folder.glob("runs/*/log.jsonl"))
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}"], cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + LONGEST_S
        while time.monotonic() < deadline and process.poll() is None:
            if any(log.stat().st_size for log in set(folder.glob("runs/*/log.jsonl")) - before):
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=LONGEST_S)
    finally:
        process.kill()
    assert process.returncode == 130, f"{command}\nexit {process.returncode}\n{said}"
    assert "whet train --resume" in said, said


def shortened(command: str, block: Block) -> str:
    """The command with the page's quick settings: only what trains from a recipe or a file takes them."""
    calls = whet_calls(command)
    trains = any(call and call[0] in {"train", "auto"} and "--resume" not in call for call in calls)
    sets = " ".join(note for note in block.notes if note.startswith("--set"))
    return f"{command} {QUICK} {sets}" if trains and block.note("exit") is None else command


def replaced(text: str, block: Block) -> str:
    for note in block.notes:
        if note.startswith("replace "):
            old, _, new = note.removeprefix("replace ").partition(" => ")
            assert old in text, f"{block.page}:{block.line}: nothing to replace: {old}"
            text = text.replace(old, new)
    return text


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in RUN_PAGES])
def test_commands_of_the_page_run(page, tmp_path):
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("seedling"))
    ran, absent = 0, set()
    for block in blocks(page):
        model = block.note("needs")
        if model is not None and not is_there(model):
            absent.add(model)
            continue
        if block.note("skip") is not None:
            continue
        if (name := block.note("file")) is not None:
            (tmp_path / name).write_text(block.text, encoding="utf-8")
        elif block.note("run") is not None:
            (tmp_path / "snippet.py").write_text(replaced(block.text, block), encoding="utf-8")
            shell("python snippet.py", tmp_path)
            ran += 1
        elif block.language in SHELLS:
            said = ""
            for command in block.commands:
                command = shortened(replaced(command, block), block)
                if block.note("interrupt") is not None:
                    interrupt(command, tmp_path)
                else:
                    said += shell(command, tmp_path, int(block.note("exit") or 0))
                ran += 1
            if said:
                is_said(block, said)
    if not ran and absent:
        pytest.skip(f"{', '.join(sorted(absent))} is not there")
    assert ran, f"{page}: nothing of it was run"


PLUGINS = [
    pytest.param(block, id=f"{page.stem}-{block.note('plugin')}-{block.line}")
    for page in PAGES
    for block in blocks(page)
    if block.note("plugin") is not None
]


BATTERIES = {
    "augmenters": check_augmenter,
    "checks": check_check,
    "cleaners": check_cleaner,
    "optimisers": check_optimiser,
    "pruners": check_pruner,
    "samplers": check_sampler,
    "schedules": check_schedule,
    "sources": check_source,
}
"""Of the kinds whose laws need no model."""


@pytest.mark.parametrize("block", PLUGINS)
def test_plugin_shown_keeps_the_laws(block, tmp_path, builder, examples):
    kind = block.note("plugin")
    (tmp_path / "mine.py").write_text(block.text, encoding="utf-8")
    made = plugins.build(kind, "./mine.py", {}, tmp_path)
    if kind == "objectives":
        check_objective(made, builder("llama"), examples)
    elif kind == "techniques":
        check_technique(made, builder("bert"), plugins.build("objectives", "classify", {}), examples)
    elif kind == "metrics":
        check_metric(made, examples)
    elif kind == "rewards":
        check_reward(made, tiny_sums())
    elif kind == "targets":
        check_target(made, tiny_run(tmp_path))
    elif kind == "engines":
        check_engine(made, builder("llama")())
    elif kind == "compressors":
        check_compressor(made, builder("bert"), plugins.build("objectives", "classify", {}), examples)
    elif kind == "exporters":
        technique, objective = plugins.build("techniques", "lora", {}), plugins.build("objectives", "sft", {})
        check_exporter(made, builder("llama"), technique, objective, examples)
    elif kind == "trackers":
        check_tracker(made, tmp_path)
    else:
        BATTERIES[kind](made)


def test_every_kind_of_plugin_is_shown():
    assert {param.values[0].note("plugin") for param in PLUGINS} == set(plugins.KINDS)
