"""whet turns a general pre-trained language model into a specialist, and keeps it one.

The verbs of the command line are functions here: `whet.train(recipe)`, `whet.evaluate(run)`, `whet.load(run).predict([...])`.
Nothing heavy is imported before one of them is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from whet.api import agreement as agreement
    from whet.api import annotate as annotate
    from whet.api import auto as auto
    from whet.api import compress as compress
    from whet.api import deploy as deploy
    from whet.api import evaluate as evaluate
    from whet.api import export as export
    from whet.api import export_annotations as export_annotations
    from whet.api import import_annotations as import_annotations
    from whet.api import load as load
    from whet.api import monitor as monitor
    from whet.api import new as new
    from whet.api import plan as plan
    from whet.api import prepare as prepare
    from whet.api import promote as promote
    from whet.api import register as register
    from whet.api import registered as registered
    from whet.api import retrain as retrain
    from whet.api import rollback as rollback
    from whet.api import search as search
    from whet.api import serve as serve
    from whet.api import train as train
    from whet.run import Run as Run
    from whet.stages.predict import Prediction as Prediction
    from whet.stages.predict import Predictor as Predictor

VERBS = (
    "agreement",
    "annotate",
    "auto",
    "compress",
    "deploy",
    "evaluate",
    "export",
    "export_annotations",
    "import_annotations",
    "load",
    "monitor",
    "new",
    "plan",
    "prepare",
    "promote",
    "register",
    "registered",
    "retrain",
    "rollback",
    "search",
    "serve",
    "train",
)
TYPES = ("Prediction", "Predictor", "Run")
"""What the verbs return."""
__all__ = ["__version__", *TYPES, *VERBS]  # noqa: PLE0604

if not TYPE_CHECKING:  # a type checker would take every misspelt name for one of these

    def __getattr__(name: str) -> Any:
        if name in VERBS or name in TYPES:
            from whet import api

            return getattr(api, name)
        raise AttributeError(f"module 'whet' has no attribute '{name}'; its verbs are {', '.join(VERBS)}")
