"""How a command ends: what went wrong in a sentence, and an honest exit code."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from contextlib import suppress

from whet.cli.app import app
from whet.cli.say import begin, fail, follower, say, started_together
from whet.errors import Interrupted, WhetError, own_place

GONE = 141
"""Exit code where the reader of standard output has gone, as of every program that SIGPIPE ends."""
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM)


def main() -> None:
    """Run the command line and exit with an honest code.

    0 done, 1 the user can mend it, 2 usage, 3 refused, 130 interrupted, 141 the reader of what is written has gone.
    """
    begin()
    for kind in STOPS:
        signal.signal(kind, signal.default_int_handler)  # whoever stops us, what is half-written goes
    before, sys.unraisablehook = sys.unraisablehook, _again
    try:
        code = _flushed(_run())
    except KeyboardInterrupt:  # before the verb has begun, or while its end is told
        code = _interrupted()
    finally:
        sys.unraisablehook = before
    sys.exit(code)


def _run() -> int:
    """Run the command line; return its exit code, and say what went wrong."""
    try:
        if started_together() and sys.argv[1:2] not in (["train"], ["--help"]):
            return _one_process()
        app()
    except SystemExit as leaving:
        place = own_place(leaving)
        if not place:
            return _left(leaving)
        message = f"{place}: ended the program ({leaving.code!r}). This file is your own plugin; let it raise an error instead."
        say(f"whet: {message}")
        fail("SystemExit", message, 1)
        return 1
    except BrokenPipeError:
        return GONE
    except Exception as error:
        found = _explained(error)
        if found is None:
            raise
        code, message = found
        if follower():
            message = "" if _told_by_the_first(error) else f"process {os.environ['RANK']}: {message}"
        if message:
            say(f"whet: {message}")
        fail(type(error).__name__, message, code)
        return code
    return 0


def _one_process() -> int:
    """Refuse a verb that works in one process, where torchrun has started several. Return the exit code."""
    if not follower():
        say(
            "whet: torchrun starts several processes, and only `whet train` shares its work among them. Run this verb without torchrun."
        )
    return 2


def _told_by_the_first(error: Exception) -> bool:
    """Whether the process that leads says the same: all have stopped together, or another has gone first."""
    return isinstance(error, Interrupted) or type(error).__name__ == "PeerGone"


def _left(leaving: SystemExit) -> int:
    """Return the exit code that the parser of the command line has chosen, and say what it has not said."""
    code, cause = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None), leaving.__context__
    if follower():
        return code
    if code == Interrupted.exit_code:
        return _interrupted()
    if isinstance(cause, OSError) and cause.errno == errno.EPIPE:
        return GONE
    if code:
        fail("UsageError", str(cause and getattr(cause, "message", cause)), code)
    return code


def _interrupted() -> int:
    """Say that somebody has stopped the command, and return its exit code. Who stops it once more ends it at once."""
    for kind in STOPS:
        signal.signal(kind, lambda *_: os._exit(Interrupted.exit_code))
    if not follower():
        say("whet: interrupted. Nothing half-written was left.")
    fail("Interrupted", "interrupted", Interrupted.exit_code)
    return Interrupted.exit_code


def _explained(error: Exception) -> tuple[int, str] | None:
    """Return the exit code and the sentence for what the user can mend; none for a fault of whet's own."""
    if isinstance(error, WhetError):
        return error.exit_code, str(error)
    place = own_place(error)
    if place:
        return 1, f"{place}: {type(error).__name__}: {error}. This file is your own plugin; mend it there."
    if isinstance(error, UnicodeEncodeError):
        what = "what is to be written" if "\n" in error.object else repr(error.object[:200])  # lines are rows, and never shown
        return 1, f"{what}: holds characters that are no Unicode text. Mend them, or rename the file."
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in ("allocate memory", "out of memory"))
    ):
        return 1, (
            "out of memory. Take a smaller model, shorter rows (--set train.max_length=256), "
            "or fewer tokens at a time (--set train.max_tokens=1024)."
        )
    # by its name, since its package would have to be imported for --help
    if type(error).__name__ == "SafetensorError" and "I/O error" in str(error):
        reason = str(error).rpartition("I/O error: ")[2]
        return 1, f"weights could not be written: {reason}. Nothing half-written was left; mend that and run the command again."
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return 1, f"{where}{error.strerror or error}. Nothing half-written was left; mend that and run the command again."
    return None


def _flushed(code: int) -> int:
    """Write out what is still to be written, and return the exit code."""
    if sys.stdout is None:
        return code
    try:
        sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            say(f"whet: standard output: {error.strerror}. The answer is not whole; mend that and run the command again.")
            code = code or 1
        code = code or GONE
    if code in {1, GONE} and isinstance(sys.stdout, io.TextIOWrapper):
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            return code
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more
    return code


def _again(swallowed: sys.UnraisableHookArgs) -> None:
    """Interrupt again where an interrupt came at a place that swallows it, such as within an import."""
    if isinstance(swallowed.exc_value, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, 0.01)
    else:
        sys.__unraisablehook__(swallowed)
