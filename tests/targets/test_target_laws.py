"""Every target keeps the laws of `whet.testing.targets`, and each law notices a target that breaks it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from pathlib import Path

import pytest

from whet import plugins
from whet.protocols import Target
from whet.targets.docker import Docker
from whet.testing import targets

TARGETS = plugins.names("targets")
WRITES = "vertex"
"""The target that is tried with a run that writes; the others are with one that gives labels."""


@pytest.fixture(scope="module")
def made(labels):
    """Bundles of the classifier by target, each made once."""
    held: dict[str, targets.Bundled] = {}
    open_ones = []

    def of(name: str) -> targets.Bundled:
        if name not in held:
            open_ones.append(targets.bundled(plugins.build("targets", name, {}), labels))
            held[name] = open_ones[-1].__enter__()
        return held[name]

    yield of
    for one in open_ones:
        one.__exit__(None, None, None)


@pytest.mark.parametrize("law", targets.STATIC_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", TARGETS)
def test_a_bundle_keeps_the_laws(name, law, made):
    law(made(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TARGETS if name != WRITES])
def test_a_bundle_starts_where_there_is_nothing_else(name, made):
    targets.it_starts_answers_and_ends(made(name))


@pytest.mark.slow
@pytest.mark.parametrize("run", ["chat", "shorten"])
def test_a_bundle_of_a_run_that_writes_starts(run, request):
    targets.check_target(plugins.build("targets", WRITES, {}), request.getfixturevalue(run))


class Broken(Docker):
    """A target with one fault."""

    def fault(self, folder: Path) -> None: ...

    def write(self, subject, folder):
        entry = super().write(subject, folder)
        self.fault(folder)
        return entry


class TellsTheTime(Broken):
    def fault(self, folder):
        (folder / "made.txt").write_text(str(time.monotonic_ns()))


class TellsWhereItWas(Broken):
    def fault(self, folder):
        (folder / "made.txt").write_text(str(folder))


class TakesASecret(Broken):
    def fault(self, folder):
        (folder / "env.sh").write_text(f"export HF_TOKEN={os.environ['HF_TOKEN']}\n")


class TakesRows(Broken):
    def fault(self, folder):
        (folder / "run" / "data" / "test.jsonl").write_text("{}\n")


class ForgetsItsImage(Broken):
    def fault(self, folder):
        text = (folder / "Dockerfile").read_text()
        (folder / "Dockerfile").write_text(text.replace("COPY run ./run\n", ""))


class TakesTheLatest(Broken):
    def fault(self, folder):
        text = (folder / "Dockerfile").read_text()
        (folder / "Dockerfile").write_text(text.replace(text.split("FROM ")[1].split("\n")[0], "python:latest"))


class KeepsItOut(Broken):
    def fault(self, folder):
        (folder / ".dockerignore").write_text("**\n!Dockerfile\n")


class NamesWhatIsNotThere(Docker):
    def write(self, subject, folder):
        return dataclasses.replace(super().write(subject, folder), notes=("See `nosuch.json`.",))


class StartsSomethingElse(Docker):
    def write(self, subject, folder):
        return dataclasses.replace(super().write(subject, folder), command=("whet", "chat"))


class LeavesAtOnce(Docker):
    def write(self, subject, folder):
        return dataclasses.replace(super().write(subject, folder), command=("whet", "--version"))


class LogsElsewhere(Docker):
    def write(self, subject, folder):
        return dataclasses.replace(super().write(subject, folder), writes=("/var/lib/other", "/var/lib/whet/inner"))


@pytest.mark.parametrize(
    ("fault", "law"),
    [
        (TellsTheTime, targets.same_run_same_bytes),
        pytest.param(TellsWhereItWas, targets.nothing_secret_goes_along, marks=pytest.mark.slow),
        (TakesASecret, targets.nothing_secret_goes_along),
        pytest.param(TakesRows, targets.nothing_secret_goes_along, marks=pytest.mark.slow),
        (NamesWhatIsNotThere, targets.the_page_tells_the_truth),
        (ForgetsItsImage, targets.the_image_is_what_is_started),
        pytest.param(TakesTheLatest, targets.the_image_is_what_is_started, marks=pytest.mark.slow),
        pytest.param(KeepsItOut, targets.the_image_is_what_is_started, marks=pytest.mark.slow),
        (StartsSomethingElse, targets.the_image_is_what_is_started),
        pytest.param(LeavesAtOnce, targets.it_starts_answers_and_ends, marks=pytest.mark.slow),
        pytest.param(LogsElsewhere, targets.it_starts_answers_and_ends, marks=pytest.mark.slow),
    ],
    ids=lambda value: value.__name__,
)
def test_a_fault_of_a_target_is_caught(fault, law, labels):
    target: Target = fault()
    with targets.bundled(target, labels) as made, pytest.raises(AssertionError):
        law(made)


def test_a_page_that_lost_its_file_is_caught(made, tmp_path):
    held = made("docker")
    shutil.copytree(held.folder, tmp_path / "bundle")
    (tmp_path / "bundle" / "smoke.json").write_text("{}")
    with pytest.raises(AssertionError, match="wrong about"):
        targets.the_page_tells_the_truth(dataclasses.replace(held, folder=tmp_path / "bundle"))
