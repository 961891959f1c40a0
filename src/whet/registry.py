"""Named models: versions of a name, each one a run, with aliases such as `champion`, and who changed what, when and why.

One folder with one JSON file, which is whole at any time: a change is made with the folder's lock held, and written beside the old file
before it takes its name. Readers need no lock. Runs stay where they are; the registry keeps where, relative to its own folder,
and the hash of each model, so that one that was trained anew is not taken for the version that was judged.
"""

from __future__ import annotations

import datetime
import getpass
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from whet.errors import Refused, RunError
from whet.files import file_hash, hold_lock, write_json

FOLDER, FILE, LOCK = Path("registry"), "registry.json", ".lock"
CHAMPION, CHALLENGER = "champion", "challenger"
FORMAT = 1
NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
PATIENCE_S = 10.0
"""How long a change waits for another one to end."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Version(_Part):
    """One run under a name."""

    version: int = Field(ge=1)
    run: str
    """Its folder, from the registry's."""
    model_sha256: str
    """Of the files of its model, by `fingerprint`."""
    added: str
    by: str
    why: str
    gate: str
    """`passed`, `none` where there is no gate, `ignored`, or `refused`: registered so that it is known, and not to be used."""
    objection: str | None = None
    """What the gate said where it was ignored, or refused."""
    challengers: list[str] = []
    """Hashes of the models that were compared with it, in order: each was a try for its place."""


class Alias(_Part):
    """A name for a version that moves."""

    version: int = Field(ge=1)
    before: list[int] = []
    """The versions that it was at before, the latest last; rolling back goes through them."""


class Change(_Part):
    """A line of the history."""

    when: str
    who: str
    why: str
    action: str
    """`add`, `promote` or `rollback`."""
    version: int
    alias: str | None = None
    before: int | None = None
    """The alias's version until then."""
    objection: str | None = None
    """What the gate said where it was ignored."""


class Model(_Part):
    """Everything under one name."""

    versions: list[Version] = []
    aliases: dict[str, Alias] = {}
    history: list[Change] = []

    def version(self, number: int) -> Version | None:
        return next((one for one in self.versions if one.version == number), None)


class _File(_Part):
    format: int
    models: dict[str, Model] = {}


class Registry:
    """The registry in a folder. Everything that changes it raises RunError, and then has changed nothing."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder

    def models(self) -> dict[str, Model]:
        """Return every name with its versions; none where there is no registry yet. Raises RunError where the file is damaged."""
        return self._read().models

    def model(self, name: str) -> Model:
        """Return a name's versions, aliases and history. Raises RunError that says which names there are."""
        found = self.models()
        if name not in found:
            none = "It holds no model yet." if self.folder.exists() else "This folder does not exist."
            known = f"Known names: {', '.join(sorted(found))}." if found else none
            raise RunError(f"{self.folder}: there is no model '{name}'. {known} Add one with: whet registry add {name} RUN")
        return found[name]

    def find(self, reference: str) -> Version:
        """Return the version that `NAME`, `NAME@ALIAS` or `NAME@NUMBER` stands for; a bare name is its champion. Raises RunError."""
        name, _, which = reference.partition("@")
        model = self.model(name)
        which = which or CHAMPION
        if which in model.aliases:
            number = model.aliases[which].version
        elif which.isascii() and which.isdigit():
            number = int(which)
        else:
            known = ", ".join([*sorted(model.aliases), *(str(one.version) for one in model.versions)])
            advice = f" Make it so with: whet registry promote {name} VERSION" if which == CHAMPION else ""
            raise RunError(f"{self.folder}: '{name}' has no alias '{which}'. Allowed behind the @: {known}.{advice}")
        found = model.version(number)
        if found is None:
            raise RunError(
                f"{self.folder}: '{name}' has no version {number}. Allowed: {', '.join(str(one.version) for one in model.versions)}."
            )
        return found

    def path(self, version: Version) -> Path:
        """Return the folder of a version's run."""
        return Path(os.path.normpath(self.folder / version.run))

    def resolve(self, reference: str) -> Path:
        """Return the run that a reference stands for, checked to hold the model that was registered. Raises RunError."""
        version = self.find(reference)
        path = self.path(version)
        if not path.is_dir():
            raise RunError(
                f"{path}: the run of {reference} (version {version.version}) is not there. Bring the folder back, or go to another "
                f"version with: whet registry rollback {reference.partition('@')[0]}"
            )
        if fingerprint(path) != version.model_sha256:
            raise RunError(
                f"{path}: its model is not the one that was registered as version {version.version} of "
                f"'{reference.partition('@')[0]}'. Restore it from a backup, or add the run as a new version."
            )
        return path

    def add(
        self,
        name: str,
        run: Path,
        *,
        objection: str | None = None,
        ignore_gate: bool = False,
        has_gate: bool = False,
        keep_refused: bool = False,
        alias: str | None = CHALLENGER,
        why: str = "",
        who: str | None = None,
    ) -> Version:
        """Register a run as the next version of a name, and let an alias point to it; the first version becomes champion too.

        `objection` is what the run's gate has against it. Raises Refused where there is one and it is not to be ignored; one that
        is ignored is recorded. With `keep_refused` it is registered as a refused one, which is promoted only against the objection.
        A run that is already a version of this name is a RunError.
        """
        _check_word(name, "name of a model")
        if alias is not None:
            _check_alias(alias)
        _refuse(objection, ignore_gate or keep_refused)
        sha256 = fingerprint(run)
        place = os.path.relpath(run.resolve(), self.folder.resolve())
        with self._changing() as models:
            model = models.setdefault(name, Model())
            same = next((one for one in model.versions if one.run == place and one.model_sha256 == sha256), None)
            if same is not None:
                raise RunError(
                    f"{run}: is already version {same.version} of '{name}'. Promote it with: whet registry promote {name} {same.version}"
                )
            number = max((one.version for one in model.versions), default=0) + 1
            stamp, person = _now(), who or _person()
            objected = "ignored" if ignore_gate else "refused"
            gate = objected if objection else "passed" if has_gate else "none"
            made = Version(
                version=number, run=place, model_sha256=sha256, added=stamp, by=person, why=why, gate=gate, objection=objection
            )  # fmt: skip
            model.versions.append(made)
            model.history.append(Change(when=stamp, who=person, why=why, action="add", version=number, objection=objection))
            for one in dict.fromkeys([*([alias] if alias else []), *([CHAMPION] if number == 1 else [])]):
                _point(model, one, number, "promote", stamp, person, why, None)
        return made

    def promote(
        self,
        name: str,
        which: str,
        *,
        alias: str = CHAMPION,
        objection: str | None = None,
        ignore_gate: bool = False,
        why: str = "",
        who: str | None = None,
        instead_of: int | None = None,
    ) -> Version:
        """Let an alias point to a version, named by number or by another alias. Raises RunError, Refused.

        `instead_of` is the version that the alias must still be at by then, for whoever decided by a comparison with it.
        """
        _check_alias(alias)
        version = self.find(f"{name}@{which}")
        _refuse(objection, ignore_gate)
        self.resolve(f"{name}@{version.version}")
        with self._changing() as models:
            model = models[name]
            if alias in model.aliases and model.aliases[alias].version == version.version:
                raise RunError(f"{self.folder}: {name}@{alias} is version {version.version} already. Nothing was changed.")
            now = model.aliases[alias].version if alias in model.aliases else None
            if instead_of is not None and now != instead_of:
                raise RunError(
                    f"{self.folder}: {name}@{alias} is version {now} by now, and the comparison was with version {instead_of}. Nothing "
                    f"was changed. Compare with the new one, or promote it all the same: whet registry promote {name} {version.version}"
                )
            _point(model, alias, version.version, "promote", _now(), who or _person(), why, objection)
        return version

    def note_challenger(self, name: str, number: int, sha256: str) -> int:
        """Note that a model is compared with a version, before anybody knows the result. Returns the how manyth it is; the same again once noted."""
        self.find(f"{name}@{number}")
        with self._changing() as models:
            held = models[name].version(number)
            assert held is not None, f"{name}: version {number} has gone while the registry was being locked"
            if sha256 not in held.challengers:
                held.challengers.append(sha256)
            return held.challengers.index(sha256) + 1

    def version_of(self, name: str, run: Path) -> Version | None:
        """Return the version that a run, as its model is now, is of a name; None where it is none. Raises RunError."""
        place, sha256 = os.path.relpath(run.resolve(), self.folder.resolve()), fingerprint(run)
        return next((one for one in self.model(name).versions if one.run == place and one.model_sha256 == sha256), None)

    def overridden(self, reference: str) -> bool:
        """Whether somebody has put the version of a reference into use against its gate, which is in the history. Raises RunError."""
        name, _, _ = reference.partition("@")
        version = self.find(reference)
        promoted = [
            one
            for one in self.model(name).history
            if one.version == version.version and one.action == "promote" and one.objection
        ]
        return version.gate == "ignored" or bool(promoted)

    def rollback(self, name: str, *, alias: str = CHAMPION, why: str = "", who: str | None = None) -> Version:
        """Let an alias point to the version that it was at before. Raises RunError where there is none, or its run is gone."""
        self.model(name)
        with self._changing() as models:
            model = models[name]
            held = model.aliases.get(alias)
            if held is None:
                raise RunError(
                    f"{self.folder}: '{name}' has no alias '{alias}'. Allowed: {', '.join(sorted(model.aliases)) or 'none'}."
                )
            if not held.before:
                raise RunError(
                    f"{self.folder}: {name}@{alias} has been at version {held.version} only, so there is nothing to go back to. "
                    f"Promote another one with: whet registry promote {name} VERSION"
                )
            number = held.before[-1]
            self.resolve(f"{name}@{number}")
            change = Change(
                when=_now(), who=who or _person(), why=why, action="rollback", version=number, alias=alias, before=held.version
            )
            model.aliases[alias] = Alias(version=number, before=held.before[:-1])
            model.history.append(change)
            found = model.version(number)
            assert found is not None, f"{name}: alias {alias} was at version {number}, which is not there"
        return found

    def _read(self) -> _File:
        file = self.folder / FILE
        if self.folder.exists() and not self.folder.is_dir():
            raise RunError(f"{self.folder}: is a file, and a registry is a folder. Name another one with --registry DIR.")
        if not file.is_file():
            return _File(format=FORMAT)
        try:
            loaded = json.loads(file.read_text(encoding="utf-8"))
            found = _File.model_validate(loaded)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            damage = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise RunError(f"{file}: damaged ({damage}). Restore it from a backup.") from None
        except (ValueError, OSError, RecursionError) as error:
            raise RunError(f"{file}: damaged ({error}). Restore it from a backup.") from None
        if found.format != FORMAT:
            raise RunError(f"{file}: has format {found.format}, and this whet reads {FORMAT}. Use the whet that wrote it.")
        return found

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Model]]:
        """Give the models to change, with the folder's lock held; they are written where the block ends well."""
        self._read()
        self.folder.mkdir(parents=True, exist_ok=True)
        end = time.monotonic() + PATIENCE_S
        while (lock := hold_lock(self.folder / LOCK)) is None:
            if time.monotonic() > end:
                raise RunError(f"{self.folder}: another process is changing this registry. Wait for it, and try again.")
            time.sleep(0.02)
        with lock:
            for left in self.folder.glob(f".{FILE}.*.partial"):  # of a process that was killed while it wrote
                left.unlink(missing_ok=True)
            found = self._read()
            yield found.models
            write_json(self.folder / FILE, found.model_dump(mode="json"))


def is_reference(text: str, folder: Path = FOLDER) -> bool:
    """Whether a word names a registered model rather than a run's folder: it has an @, or no folder is there and a model is."""
    name, at, _ = text.partition("@")
    if not NAME.fullmatch(name) or Path(text).exists():
        return False
    return bool(at) or name in Registry(folder).models()


def fingerprint(run: Path) -> str:
    """Return the SHA-256 of a run's model, of the names and contents of its files, as the request log has it. Raises RunError without one."""
    model = run / "model"
    files = sorted(file for file in model.rglob("*") if file.is_file()) if model.is_dir() else []
    if not files:
        raise RunError(f"{run}: has no trained model to register. Name a run of `whet train`, `whet auto` or `whet compress`.")
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(model)}\0{file_hash(file)}\n".encode())
    return digest.hexdigest()


def _point(model: Model, alias: str, number: int, action: str, when: str, who: str, why: str, objection: str | None) -> None:
    held = model.aliases.get(alias)
    before = [] if held is None else [*held.before, held.version]
    model.aliases[alias] = Alias(version=number, before=before)
    was = held.version if held else None
    model.history.append(
        Change(when=when, who=who, why=why, action=action, version=number, alias=alias, before=was, objection=objection)
    )


def _refuse(objection: str | None, ignore: bool) -> None:
    if objection and not ignore:
        raise Refused(f"{objection} It is not registered so; go on all the same with --ignore-gate, which is recorded.")


def _check_word(word: str, what: str) -> None:
    if not NAME.fullmatch(word):
        raise RunError(f"{word!r} cannot be the {what}. Allowed: a letter, then letters, digits, '.', '_' or '-', at most 64.")


def _check_alias(alias: str) -> None:
    _check_word(alias, "alias of a version")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _person() -> str:
    """Return the name of whoever is at work."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a user's entry
        return f"user {os.getuid()}"


def as_record(name: str, model: Model, registry: Registry) -> Mapping[str, Any]:
    """Return a name with its versions, aliases and history as JSON holds it; each version with the aliases that point to it."""
    pointing = {
        one.version: [alias for alias, held in model.aliases.items() if held.version == one.version] for one in model.versions
    }
    versions = [
        one.model_dump(mode="json") | {"run": str(registry.path(one)), "aliases": pointing[one.version]} for one in model.versions
    ]
    return {
        "name": name,
        "versions": versions,
        "aliases": {alias: held.version for alias, held in model.aliases.items()},
        "history": [one.model_dump(mode="json") for one in model.history],
    }
