"""How far a policy's next-token distributions lie from its teacher's, without ever holding those of all tokens.

Shapes: T tokens of a batch, N supervised tokens, D width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from whet.engine.losses import CHUNK
from whet.models.policy import Policy
from whet.types import Batch


def teacher_divergence(policy: Policy, teacher: Policy, batch: Batch, states: Tensor, temperature: float) -> Tensor:
    """Return KL(teacher || policy) at each supervised token, both softened by the temperature, in nats. [N], at least fp32

    `states` are the policy's `hidden` of the batch. The logits of a chunk of tokens exist at one time, and are made again for the
    gradient. Only heads that are no plain product give all of a micro-batch at once.
    """
    places = batch.tokens["supervised"].nonzero().squeeze(-1) - 1
    if not (policy.ability.plain_head and teacher.ability.plain_head):
        with torch.no_grad():
            theirs = teacher.distributions(batch)
        return softened_divergence(policy.distributions(batch), theirs, temperature)
    with torch.no_grad():
        taught = teacher.hidden(batch)[places]  # [N, D of the teacher]

    def part(ours: Tensor, theirs: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = teacher.head_logits(theirs)
        return softened_divergence(policy.head_logits(ours), wanted, temperature)

    own, parts = states[places], []
    for start in range(0, len(places), CHUNK):
        piece = slice(start, start + CHUNK)
        parts.append(checkpoint(part, own[piece], taught[piece], use_reentrant=False, preserve_rng_state=False))
    return torch.cat(parts) if parts else own.new_zeros(0)


def softened_divergence(logits: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Return the sum over the vocabulary of p log(p / q), p and q being softmax(wanted / T) and softmax(logits / T). [N, V] -> [N]

    Where one head has rows for tokens that no tokenizer makes, the other's smaller vocabulary counts.
    """
    size = min(logits.shape[-1], wanted.shape[-1])
    ours = torch.log_softmax(logits[..., :size] / temperature, dim=-1)
    theirs = torch.log_softmax(wanted[..., :size] / temperature, dim=-1)
    return (theirs.exp() * (theirs - ours)).sum(-1)
