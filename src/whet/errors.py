"""What can go wrong, as one tree: a user's mistake is a WhetError and ends in a message, never in a traceback."""


class WhetError(Exception):
    """Something the user can mend. The message says what was found and where, what is allowed, and what to do."""

    exit_code = 1


class RecipeError(WhetError):
    """The recipe, or a `--set`, is not valid."""


class DataError(WhetError):
    """A data file or one of its rows cannot be used."""


class ModelError(WhetError):
    """A base model cannot be found, loaded or trained."""


class RunError(WhetError):
    """A run directory is missing, incomplete, taken, or holds something else."""


class TrainingError(WhetError):
    """Training stopped itself: a loss that is not finite, a disk that is full."""


class ServerError(WhetError):
    """A server cannot be started as asked, or its request log cannot be read."""


class Refused(WhetError):
    """Preflight or a gate said no: going on would waste the user's time or ship something worse."""

    exit_code = 3


class Interrupted(WhetError):
    """The user or the machine asked to stop; what was done is saved and can be resumed."""

    exit_code = 130


def installing(extra: str) -> str:
    """Return the words that say how an optional part is installed."""
    return f"pip install 'whet[{extra}]' (in a clone of the repository: make setup)"


OWN_MODULE = "whet_user_"
"""How the names of modules begin that files of the user's own are run as."""


def own_place(error: BaseException) -> str:
    """Return the file and line of the user's own plugin that an error went through last; empty where it went through none."""
    place, step = "", error.__traceback__
    while step is not None:
        if str(step.tb_frame.f_globals.get("__name__")).startswith(OWN_MODULE):
            place = f"{step.tb_frame.f_code.co_filename}:{step.tb_lineno}"
        step = step.tb_next
    return place
