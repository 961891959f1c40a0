"""A checkpoint is whole or absent: bytes altered, disks full, and every write, fsync and rename failing in turn."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

import whet.models.tensors as tensor_files
from whet.engine import checkpoint


def tensors(step: int) -> dict[str, torch.Tensor]:
    return {"model/a": torch.full((3, 5), float(step)), "optimiser/a/step": torch.tensor(step)}


def save(folder: Path, step: int, mark: str = "") -> None:
    checkpoint.save(folder, step, tensors(step), {"cursor": {"epoch": step, "position": 1}, "mark": mark})


def assert_whole(found: checkpoint.Checkpoint | None, step: int) -> None:
    assert found is not None and found.step == step and found.state["cursor"]["epoch"] == step
    assert all(torch.equal(found.tensors[name], value) for name, value in tensors(step).items())


def test_what_was_saved_is_loaded_with_its_types(tmp_path):
    kept = {
        "half": torch.randn(4).bfloat16(),
        "double": torch.randn(2, 3, dtype=torch.float64),
        "steps": torch.tensor(7),
        "empty": torch.zeros(0, 4),
        "transposed": torch.arange(6.0).reshape(2, 3).T,
    }
    checkpoint.save(tmp_path, 3, kept, {"value": 0.1 + 0.2})
    found = checkpoint.load(tmp_path, 3)
    assert found is not None and found.state == {"value": 0.1 + 0.2}
    assert found.tensors.keys() == kept.keys()
    assert all(
        torch.equal(found.tensors[name], value) and found.tensors[name].dtype == value.dtype for name, value in kept.items()
    )


@pytest.mark.parametrize("name", [checkpoint.TENSORS, checkpoint.STATE, checkpoint.HASHES])
def test_an_altered_byte_is_noticed_and_the_checkpoint_before_is_used(tmp_path, name):
    save(tmp_path, 1)
    save(tmp_path, 2)
    file = tmp_path / "step-2" / name
    whole = file.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x01]) + whole[place + 1 :])
        found, damaged = checkpoint.load_latest(tmp_path)
        assert damaged == [2], f"byte {place} of {name} was altered and nobody noticed"
        assert_whole(found, 1)
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert checkpoint.load(tmp_path, 2) is None, f"{name} was cut to {length} bytes and nobody noticed"
    for nonsense in (b"[]", b"null", b"{}", b"\xff\xfe"):
        file.write_bytes(nonsense)
        assert checkpoint.load(tmp_path, 2) is None
    file.unlink()
    assert checkpoint.load_latest(tmp_path)[1] == [2]
    file.write_bytes(whole)
    assert_whole(checkpoint.load_latest(tmp_path)[0], 2)


def test_with_no_good_checkpoint_there_is_none(tmp_path):
    assert checkpoint.load_latest(tmp_path) == (None, [])
    for step in (1, 2):
        save(tmp_path, step)
        (tmp_path / f"step-{step}" / checkpoint.STATE).write_text("{}")
    assert checkpoint.load_latest(tmp_path) == (None, [2, 1])


class Dead(BaseException):
    """The process was killed: nothing is cleaned up behind it."""


class Shim:
    """Counts what touches the disk, and fails the N-th of them: once, or from then on, as for a process that was killed."""

    def __init__(self, fail_at: int, error: Callable[[], BaseException], for_good: bool) -> None:
        self.fail_at, self.error, self.for_good, self.count = fail_at, error, for_good, 0

    def touch(self) -> bool:
        self.count += 1
        return self.count >= self.fail_at if self.for_good else self.count == self.fail_at

    def wrap(self, function):
        def call(*args, **kwargs):
            if self.touch():
                raise self.error()
            return function(*args, **kwargs)

        return call

    def wrap_write(self, function, path_of):
        def call(*args, **kwargs):
            failing = self.touch()
            result = None if failing and self.count > self.fail_at else function(*args, **kwargs)
            if failing:
                path = Path(path_of(args))
                if path.is_file():
                    os.truncate(path, path.stat().st_size // 2)  # a short write
                raise self.error()
            return result

        return call


@contextmanager
def failing(
    monkeypatch: pytest.MonkeyPatch, fail_at: int, error: Callable[[], BaseException], for_good: bool = False
) -> Iterator[Shim]:
    shim = Shim(fail_at, error, for_good)
    with monkeypatch.context() as patch:
        patch.setattr(tensor_files, "save_file", shim.wrap_write(tensor_files.save_file, lambda args: args[1]))
        patch.setattr(Path, "write_text", shim.wrap_write(Path.write_text, lambda args: args[0]))
        for name in ("fsync", "rename", "mkdir", "unlink", "rmdir"):
            patch.setattr(os, name, shim.wrap(getattr(os, name)))
        yield shim


ERRORS = {
    "full": (lambda: OSError(errno.ENOSPC, "No space left on device"), False),
    "broken for good": (lambda: OSError(errno.EIO, "Input/output error"), True),
    "killed": (Dead, True),
}


@pytest.mark.parametrize("how", list(ERRORS))
def test_whichever_write_fails_the_old_or_the_new_checkpoint_is_whole(tmp_path, monkeypatch, how):
    error, for_good = ERRORS[how]
    with failing(monkeypatch, 10**9, error) as shim:
        save(tmp_path / "count", 1)
        save(tmp_path / "count", 2)
        checkpoint.retain(tmp_path / "count", 1, None)
    assert shim.count > 20, "the shim sees too little of what is written"
    both, outcomes = shim.count, set()
    for number in range(1, both + 1):
        folder = tmp_path / f"{how}-{number}"
        save(folder, 1)
        with failing(monkeypatch, number, error, for_good) as shim:
            try:
                save(folder, 2)
                checkpoint.retain(folder, 1, None)
            except (OSError, Dead):
                pass
        found, _ = checkpoint.load_latest(folder)
        assert found is not None, f"call {number} failed ({how}), and no checkpoint is left"
        assert_whole(found, found.step)
        outcomes.add(found.step)
        save(folder, 3)  # and the next save works, whatever was left lying about
        checkpoint.retain(folder, 1, None)
        assert_whole(checkpoint.load_latest(folder)[0], 3)
    assert outcomes == {1, 2}


def test_writing_a_step_again_leaves_the_old_or_the_new_one(tmp_path, monkeypatch):
    error, _ = ERRORS["full"]
    for number in range(1, 30):
        folder = tmp_path / str(number)
        save(folder, 1, mark="old")
        with failing(monkeypatch, number, error), suppress(OSError):
            save(folder, 1, mark="new")
        found, _ = checkpoint.load_latest(folder)
        assert_whole(found, 1)
        assert found.state["mark"] in {"old", "new"}


def test_a_failed_save_leaves_nothing_behind(tmp_path, monkeypatch):
    save(tmp_path, 1)
    for number in range(1, 8):
        with failing(monkeypatch, number, ERRORS["full"][0]), pytest.raises(OSError):
            save(tmp_path, 2)
        assert [place.name for place in tmp_path.iterdir()] == ["step-1"]


def test_retention_keeps_the_last_and_the_best(tmp_path):
    for step in range(10, 80, 10):
        save(tmp_path, step)
        checkpoint.retain(tmp_path, 2, best=20 if step >= 20 else None)
        assert step in checkpoint.steps(tmp_path)
    assert checkpoint.steps(tmp_path) == [20, 60, 70]
    checkpoint.retain(tmp_path, 1, best=70)
    assert checkpoint.steps(tmp_path) == [70]


def test_damaged_later_checkpoints_do_not_push_out_good_ones(tmp_path):
    for step in (10, 20, 30):
        save(tmp_path, step)
    for step in (20, 30):
        (tmp_path / f"step-{step}" / checkpoint.STATE).write_text("{}")
    found, damaged = checkpoint.load_latest(tmp_path)
    assert found is not None and (found.step, damaged) == (10, [30, 20])
    save(tmp_path, 15)  # the resumed run goes on from 10
    checkpoint.retain(tmp_path, 2, best=None)
    assert checkpoint.steps(tmp_path) == [10, 15]
    assert_whole(checkpoint.load_latest(tmp_path)[0], 15)


def test_steps_are_ordered_as_numbers(tmp_path):
    for step in (9, 10, 100):
        save(tmp_path, step)
    (tmp_path / "step-notes").mkdir()
    assert checkpoint.steps(tmp_path) == [9, 10, 100]
    assert_whole(checkpoint.load_latest(tmp_path)[0], 100)
