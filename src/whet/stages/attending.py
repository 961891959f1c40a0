"""Which attention a job's packed rows go through, whose steps its blocks take on a GPU, and why where that is not the fastest there is."""

from __future__ import annotations

import torch

from whet.engine import packed_attention, varlen
from whet.engine.attention import Prefix
from whet.engine.machine import device
from whet.models.fusion import FORMS
from whet.models.shapes import shape_of
from whet.stages.job import Job


def attention_of(job: Job) -> str | None:
    """Return whose attention the packed rows of a job go through; None where rows are padded."""
    if not job.policy.ability.packs:
        return None
    if job.policy.device.type == "cpu":
        return packed_attention.named()
    return varlen.named(*_asked(job), special=_is_special(job))


def why_slower(job: Job) -> str | None:
    """Return why packed rows do not go through the fastest attention, as the end of a sentence; None where they do, or are padded."""
    if not job.policy.ability.packs:
        return None
    if job.policy.device.type == "cpu":
        return packed_attention.why_not()
    return varlen.obstacle(*_asked(job), special=_is_special(job))


def why_blocks_are_slower(job: Job) -> str | None:
    """Return why blocks that could be fused on a GPU are not, as the end of a sentence; None where they are, or could not be."""
    if job.policy.device.type == "cpu" or job.plan.precision != "bf16":
        return None
    body = job.policy.network.base_model
    could = any(form.on_gpu and form.layers(body) is not None for form in FORMS)
    return job.policy.ability.unfused or None if could else None


def attention_here() -> str:
    """Return whose attention packed rows go through on this machine, in bf16 and with heads of a usual width."""
    return packed_attention.named() if device().type == "cpu" else varlen.named(torch.bfloat16, 64)


def _asked(job: Job) -> tuple[torch.dtype, int]:
    kind = torch.bfloat16 if job.plan.precision == "bf16" else torch.float32
    return kind, shape_of(job.policy).head_width


def _is_special(job: Job) -> bool:
    virtual = any(isinstance(module, Prefix) for module in job.policy.network.modules())
    return virtual or shape_of(job.policy).soft_cap
