"""Batteries of laws that every plugin keeps, and tiny models to try them on; for your own plugins too.

from whet.testing import check_objective, policy_factory, tiny_examples, write_tiny

def test_my_loss_keeps_the_laws(tmp_path):
    build_policy = policy_factory(write_tiny(tmp_path, "llama"))
    check_objective(MyLoss(), build_policy, tiny_examples())
"""

from whet.testing.augmenters import check_augmenter
from whet.testing.checks import check_check
from whet.testing.cleaners import check_cleaner
from whet.testing.compressors import check_compressor
from whet.testing.engines import check_engine
from whet.testing.exporters import check_exporter
from whet.testing.metrics import check_metric
from whet.testing.objectives import check_objective
from whet.testing.optimisers import check_optimiser
from whet.testing.pruners import check_pruner
from whet.testing.rewards import check_reward
from whet.testing.samplers import check_sampler
from whet.testing.schedules import check_schedule
from whet.testing.sources import check_source
from whet.testing.targets import check_target, tiny_run
from whet.testing.techniques import check_technique
from whet.testing.tiny import policy_factory, tiny_examples, write_tiny
from whet.testing.trackers import check_tracker

__all__ = [
    "check_augmenter",
    "check_check",
    "check_cleaner",
    "check_compressor",
    "check_engine",
    "check_exporter",
    "check_metric",
    "check_objective",
    "check_optimiser",
    "check_pruner",
    "check_reward",
    "check_sampler",
    "check_schedule",
    "check_source",
    "check_target",
    "check_technique",
    "check_tracker",
    "policy_factory",
    "tiny_examples",
    "tiny_run",
    "write_tiny",
]
