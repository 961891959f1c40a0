"""A policy's heads when it goes on learning: what they know stays, and new classes get rows behind the old ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from whet.errors import ModelError
from whet.models.policy import Policy


def keep_heads(policy: Policy, heads: Mapping[str, nn.Module], classes: Sequence[str]) -> None:
    """Put the heads of before back into a policy that was prepared anew. Old classes keep their rows and their order.

    A class that is new gets the row that was prepared for it, behind the old ones. Raises ModelError where a head has another shape.
    """
    prepared, names = dict(policy.heads.items()), policy.classes
    added = [name for name in names if name not in set(classes)]
    for name, head in heads.items():
        fresh = prepared.get(name, head)
        assert isinstance(head, nn.Linear) and isinstance(fresh, nn.Linear), f"'{name}' is no linear head"
        if classes and len(head.weight) == len(classes) and len(fresh.weight) == len(names):
            rows = [names.index(one) for one in added]
            policy.heads[name] = _joined(head, fresh, rows)
        elif head.weight.shape == fresh.weight.shape:
            policy.heads[name] = head
        else:
            raise ModelError(
                f"the parent's head '{name}' has {len(head.weight)} outputs, and this objective's {len(fresh.weight)}. Go on with a run "
                "of the same objective and settings."
            )
    policy.heads.to(policy.device)
    policy.classes = (*classes, *added)


def _joined(head: nn.Linear, fresh: nn.Linear, rows: Sequence[int]) -> nn.Linear:
    made = nn.Linear(head.in_features, head.out_features + len(rows))
    with torch.no_grad():
        made.weight.copy_(torch.cat([head.weight, fresh.weight[list(rows)].to(head.weight)]))
        made.bias.copy_(torch.cat([head.bias, fresh.bias[list(rows)].to(head.bias)]))
    return made
