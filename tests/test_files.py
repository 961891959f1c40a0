"""Locks, and places of a user: what is held is held by one alone, and a user without a home is told what to do."""

from __future__ import annotations

import fcntl
import pwd
from pathlib import Path

import pytest

from whet.files import cache_folder, expanded, held_alone, unnamed_file


def test_a_lock_whose_file_was_deleted_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    # Another process opens the file, then its holder deletes it and ends: what the other one then locks has no name any more.
    real, names = fcntl.flock, [tmp_path / "work.lock"]

    def late(file, how):
        while names:
            names.pop().unlink()
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    held = held_alone(tmp_path / "work")
    assert held is not None and held_alone(tmp_path / "work") is None, "two hold the same"
    held.close()
    again = held_alone(tmp_path / "work")
    assert again is not None
    again.close()


def test_a_user_without_a_home_is_told_to_name_a_folder(tmp_path, monkeypatch):
    def nobody(_):
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(OSError, match=r"name a folder for what is kept by XDG_CACHE_HOME"):
        cache_folder("prepare")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("prepare") == tmp_path / "whet" / "prepare"


def test_the_home_of_a_user_whom_nobody_knows_is_a_name_like_any_other(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/models") == tmp_path / "models"
    assert str(expanded("~nobody-knows-me/models")) == "~nobody-knows-me/models"


@pytest.mark.parametrize("is_dir", [True, False])
def test_an_unnamed_file_can_be_opened_until_the_end_of_the_block_also_without_proc(monkeypatch, is_dir):
    with monkeypatch.context() as patched:
        patched.setattr(Path, "is_dir", lambda path: is_dir)
        with unnamed_file() as place:
            place.write_text("all of it")
            assert place.read_text() == "all of it" and str(place).startswith("/proc/") == is_dir
    assert not place.exists()
