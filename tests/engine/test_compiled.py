"""C files are compiled once, whole or not at all; where they cannot be, the reason is told and torch's kernels are used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from whet.cli import app
from whet.engine import compiled, fused, packed_attention
from whet.engine.attention import attend_packed, packed
from whet.engine.compiled import CPP, SWITCH, C, Unavailable, library, own_folder, parallel
from whet.engine.machine import processor_flags
from whet.testing import write_tiny

HERE = packed_attention.why_not() is None
compiles = pytest.mark.skipif(not HERE, reason=f"nothing can be compiled here: {packed_attention.why_not()}")
if HERE:
    from whet.engine.compiled import _is_whole


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    """A cache of its own, and nothing remembered before or after."""
    remembered = (library, parallel, packed_attention.why_not, fused.why_not)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(SWITCH, raising=False)
    for one in remembered:
        one.cache_clear()
    yield
    for one in remembered:
        one.cache_clear()


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A file that takes no time: `one` returns 1."""
    (tmp_path / "one.c").write_text("int one(void) { return 1; }")
    monkeypatch.setattr(compiled, "SOURCES", tmp_path)


def attends() -> str:
    """The name of what computed attention."""
    query = torch.ones(1, 1, 3, 64, requires_grad=True)
    with packed((1, 2)):
        out, _ = attend_packed(torch.nn.Identity(), query, torch.ones(1, 1, 3, 64), torch.ones(1, 1, 3, 64), None, is_causal=True)
    torch.testing.assert_close(out, torch.ones(1, 3, 1, 64))  # a mean of ones
    return type(out.grad_fn).__name__


def openmp() -> set[str]:
    """The OpenMP libraries that this process has loaded."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return {line.split()[-1] for line in lines if "omp" in Path(line.split()[-1]).name}


@compiles
def test_attention_is_compiled_into_the_cache_that_the_user_names_and_shares_torchs_threads(tmp_path):
    before = openmp()
    assert attends() == "_AttendBackward"
    (file,) = (tmp_path / "cache" / "whet" / "kernels").iterdir()
    assert _is_whole(file)
    assert openmp() == before


@compiles
def test_what_is_there_is_not_compiled_again(small, monkeypatch):
    assert library("one").one() == 1
    library.cache_clear()
    monkeypatch.setattr(compiled, "_compile", lambda *given: pytest.fail("compiled again"))
    assert library("one").one() == 1


@compiles
@pytest.mark.parametrize("spoil", [lambda whole: whole[:-1], lambda whole: whole[:500] + b"x" + whole[501:], lambda whole: b""])
def test_a_spoilt_file_is_made_again(small, spoil):
    library("one")
    (file,) = own_folder().iterdir()
    good = file.read_bytes()
    file.unlink()  # the one that is loaded stays as it was
    file.write_bytes(spoil(good))
    assert not _is_whole(file)
    library.cache_clear()
    assert library("one").one() == 1
    assert _is_whole(file)


@compiles
def test_another_source_compiler_language_processor_or_torch_is_another_file(monkeypatch):
    keys = [
        compiled._key(b"a", "cc", C),
        compiled._key(b"b", "cc", C),
        compiled._key(b"a", "echo", C),
        compiled._key(b"a", "cc", CPP),
    ]
    monkeypatch.setattr(compiled, "processor_flags", lambda: frozenset({"avx512f"}))
    keys.append(compiled._key(b"a", "cc", C))
    monkeypatch.setattr(torch, "__version__", "0.1")
    keys.append(compiled._key(b"a", "cc", C))
    assert len(set(keys)) == 6


@pytest.mark.slow
@compiles
def test_two_processes_compile_at_once(tmp_path, small):
    script = (
        "import sys; from pathlib import Path; from whet.engine import compiled; compiled.SOURCES = Path(sys.argv[1]);"
        "assert compiled.library('one').one() == 1"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )
        for _ in range(2)
    ]
    for one in both:
        _, said = one.communicate(timeout=120)
        assert one.returncode == 0, said
    (file,) = own_folder().iterdir()
    assert _is_whole(file)


def assert_torch_because(reason: str) -> None:
    assert attends() != "_AttendBackward"
    assert reason in (packed_attention.why_not() or "")
    assert packed_attention.named().startswith("torch's: ")


def test_the_environment_switches_it_off(monkeypatch):
    monkeypatch.setenv(SWITCH, "off")
    assert_torch_because(f"{SWITCH} is off")


def test_no_avx512_is_torchs_kernels(monkeypatch):
    monkeypatch.setattr(compiled, "processor_flags", lambda: frozenset({"avx2", "avx512f"}))
    assert_torch_because("this processor has no AVX-512")


@pytest.mark.parametrize("name", ["attention", "pool"])
def test_only_linux_compiles(name, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(Unavailable, match=r"^this is no Linux machine$"):
        library(name)


@compiles
def test_no_compiler_is_torchs_kernels(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert_torch_because("no C compiler was found (cc, gcc, clang)")


@compiles
def test_a_compiler_that_fails_is_torchs_kernels_and_leaves_nothing(tmp_path, monkeypatch):
    place = tmp_path / "bin"
    place.mkdir()
    (place / "cc").write_text("#!/bin/sh\necho 'attention.c:1: error: out of order' >&2\nexit 1\n")
    (place / "cc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    assert_torch_because("error: out of order")
    assert list(own_folder().iterdir()) == []


@compiles
@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ('while [ "$1" != -o ]; do shift; done; echo half > "$2"; exit 1', "no reason given"),
        ("exec sleep 60", "did not end within 1 s"),
    ],
)
def test_a_compiler_that_breaks_off_or_never_ends_is_torchs_kernels(tmp_path, monkeypatch, does, reason):
    place = tmp_path / "bin"
    place.mkdir()
    (place / "cc").write_text(f'#!/bin/sh\n[ "$1" = --version ] && exit 0\n{does}\n')
    (place / "cc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    monkeypatch.setattr(compiled, "TIMEOUT_S", 1)
    assert_torch_because(reason)
    assert list(own_folder().iterdir()) == []


@pytest.mark.parametrize(
    "file", sorted(file for end in compiled.LANGUAGES for file in compiled.SOURCES.glob(f"*{end}")), ids=lambda file: file.name
)
def test_every_file_compiles_where_a_compiler_and_the_processor_are_there(file):
    # the tests of each file are left out where it cannot be compiled, and would be where it is broken
    needed = {".c": {"avx512f", "avx512bw", "avx512vl", "avx512_bf16"}, ".cpp": set()}[file.suffix]
    if not needed <= processor_flags() or not any(map(shutil.which, compiled.LANGUAGES[file.suffix].compilers)):
        pytest.skip("there is no compiler, or the processor is another one")
    library(file.stem)


@compiles
def test_a_cache_that_cannot_be_written_is_torchs_kernels(tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert_torch_because("cannot be kept or loaded")


@compiles
def test_a_cache_that_others_may_write_to_is_not_trusted():
    own_folder().chmod(0o777)
    assert_torch_because("others may write to")
    with pytest.raises(Unavailable):
        own_folder()


@compiles
def test_a_cache_of_somebody_else_is_not_trusted(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    assert_torch_because("others may write to")


@compiles
def test_torch_without_gnu_openmp_keeps_its_own_kernels(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "TORCH", tmp_path)
    assert_torch_because("not of GNU OpenMP's kind")


def test_a_run_says_once_that_it_goes_without(tmp_path, monkeypatch):
    monkeypatch.setenv(SWITCH, "off")
    base = write_tiny(tmp_path / "bert", "bert")
    (tmp_path / "rows.csv").write_text(
        "text,label\n" + "".join(f"row {index} of {index % 2},{index % 2}\n" for index in range(40))
    )
    recipe = f"model: {base}\ndata: {{path: rows.csv, text: text, label: label}}\nobjective: classify\ntrain: {{max_steps: 1, refit: false}}\n"
    (tmp_path / "recipe.yaml").write_text(recipe)
    done = CliRunner().invoke(app, ["train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert done.stderr.count(f"Attention runs through torch's kernels, since {SWITCH} is off: slower.") == 1
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["machine"]["attention"] == f"torch's: {SWITCH} is off"
