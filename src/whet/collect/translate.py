"""Texts in another language: by a sequence-to-sequence model, a command, or an endpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Annotated, Any

import pydantic
from pydantic import BeforeValidator, Field

from whet.collect.chat import Endpoint, Question, asked
from whet.engine.targets import source_ids, written_targets
from whet.errors import DataError, ModelError
from whet.models.load import KINDS, load_policy
from whet.models.policy import Policy
from whet.plugins import Place, started_here

SYSTEM = "You are a translator. You answer with the translation alone: no introduction, no quotes, no comment."
TIMES, MOST_BYTES = 64, 1 << 20
"""A program may write so many times what it reads, and so many bytes more. Beyond, something is wrong with it."""
FORBID = pydantic.ConfigDict(extra="forbid", use_attribute_docstrings=True)


@pydantic.dataclasses.dataclass(frozen=True, config=FORBID)
class Model:
    """A sequence-to-sequence model for one direction."""

    model: Place
    prefix: str = ""


@pydantic.dataclasses.dataclass(frozen=True, config=FORBID)
class Command:
    """A program that reads a text a line and writes its translation a line."""

    command: Annotated[tuple[str, ...], Field(min_length=1)]
    timeout_s: Annotated[float, Field(gt=0)] = 600.0

    @pydantic.model_validator(mode="after")
    def _is_mine(self) -> Command:
        started_here(f"the command '{self.command[0]}'")
        return self


@pydantic.dataclasses.dataclass(frozen=True, config=FORBID)
class Asked:
    """A chat model that translates."""

    endpoint: Endpoint
    to: Annotated[str, Field(min_length=1)]


def _by_name(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


Translator = Annotated[
    Model | Command | Asked,
    BeforeValidator(_by_name, json_schema_input_type=str | dict[str, Any]),
]
"""What translates in one direction."""


def translated(translator: Model | Command | Asked, texts: Sequence[str]) -> list[str]:
    """Return each text in the other language, its spaces and line ends as single spaces. Raises DataError, ModelError."""
    lines = [" ".join(text.split()) for text in texts]
    if not lines:
        return []
    if isinstance(translator, Asked):
        questions = [Question(SYSTEM, f"Translate into {translator.to}:\n\n{line}", line) for line in lines]
        found = [" ".join(text.split()) for text in asked(translator.endpoint, questions)]
    elif isinstance(translator, Command):
        found = _by_command(translator, lines)
    else:
        found = _by_model(translator, lines)
    return found


def _by_command(translator: Command, lines: Sequence[str]) -> list[str]:
    name = translator.command[0]
    asked_for = ("\n".join(lines) + "\n").encode("utf-8", "replace")
    most = MOST_BYTES + TIMES * len(asked_for)
    status, written = _run(translator, asked_for, most)
    if status is None:
        raise DataError(f"'{name}' took more than {translator.timeout_s:g} s for {len(lines)} texts. Raise timeout_s.")
    if len(written) > most:
        raise DataError(
            f"'{name}' wrote more than {most:,} bytes for {len(lines)} texts of {len(asked_for):,} bytes, and was ended. It must write one line "
            "for each line that it reads, and end. Try it by hand on a file of lines."
        )
    try:
        *found, rest = written.decode("utf-8").replace("\r\n", "\n").split("\n")  # and nothing else ends a line
    except UnicodeDecodeError:
        raise DataError(f"'{name}' wrote what is no UTF-8. Let it write UTF-8.") from None
    found += [rest] if rest else []
    if status or len(found) != len(lines):
        raise DataError(
            f"'{name}' ended with {status} and wrote {len(found)} lines for {len(lines)} texts. It must write one line for each "
            "line that it reads, in order, and end with 0. Try it by hand on a file of lines."
        )
    return [" ".join(line.split()) for line in found]


def _why_not(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such program here, neither at that place nor in the folders of PATH"
    if isinstance(error, PermissionError):
        return "this user may not execute it"
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _run(translator: Command, asked_for: bytes, most: int) -> tuple[int | None, bytes]:
    """Return how the program ended, and what it wrote; of more than `most` bytes one more. None: its time was over. It is always ended."""
    deadline = time.monotonic() + translator.timeout_s
    with tempfile.TemporaryFile() as lines:
        lines.write(asked_for)
        lines.seek(0)
        try:
            process = subprocess.Popen(
                translator.command, stdin=lines, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
            )
        except (OSError, ValueError) as error:
            raise DataError(
                f"'{translator.command[0]}' cannot be run: {_why_not(error)}. Write the command as a list: [PROGRAM, OPTION, ...]."
            ) from None
        over = threading.Timer(translator.timeout_s, _end, [process])
        over.start()
        try:
            assert process.stdout is not None
            written = process.stdout.read(most + 1)
            if len(written) > most:
                return 0, written
            status = process.wait(max(0.0, deadline - time.monotonic()))
            return (status, written) if time.monotonic() < deadline else (None, written)
        except subprocess.TimeoutExpired:
            return None, b""
        finally:
            over.cancel()
            _end(process)
            process.stdout.close()  # type: ignore[union-attr]
            process.wait()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program and all that it has begun."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


@lru_cache(maxsize=2)
def _loaded(model: str) -> Policy:
    policy = load_policy(model)
    if policy.kind != "encoder-decoder":
        raise ModelError(
            f"{model}: {KINDS[policy.kind]}, which does not translate by itself. Name a sequence-to-sequence model such as "
            "Helsinki-NLP/opus-mt-en-de, or ask a chat model: {endpoint: {url: ..., model: ...}, to: German}."
        )
    return policy


def _by_model(translator: Model, lines: Sequence[str]) -> list[str]:
    policy = _loaded(translator.model)
    sources = [source_ids(policy, translator.prefix + line, policy.context) for line in lines]
    longest = 2 * max(map(len, sources)) + 16
    written = written_targets(policy, sources, longest)
    return [" ".join(str(policy.tokenizer.decode(ids, skip_special_tokens=True)).split()) for ids in written]
