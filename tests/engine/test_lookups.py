"""A table's gradient is the same whether each backward pass makes it or all of a step together."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from whet import plugins
from whet.engine.lookups import Lookups
from whet.testing.steps import ready, tiny_plan, train

IDS = [torch.tensor([3, 1, 3, 0]), torch.tensor([[5, 3], [0, 5]])]


class Words(nn.Module):
    """A table, and an output layer of its own or the table's own weights."""

    def __init__(self, *, tied: bool, **settings) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4, **settings)
        self.out = nn.Linear(4, 7, bias=False)
        if tied:
            self.out.weight = self.table.weight

    def forward(self, ids):
        return self.out(self.table(ids) ** 2).square().sum()


class Share(torch.Tensor):
    """Stands for a tensor of which each device holds a part."""


class Scaled(nn.Embedding):
    def forward(self, ids):
        return 2 * super().forward(ids)


def gradients(network, *, together):
    """The gradient of each parameter, of a pass over each of IDS."""
    network.zero_grad()
    if not together:
        for ids in IDS:
            network(ids).backward()
    else:
        with Lookups(network).together():
            for ids in IDS:
                network(ids).backward()
    return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("settings", [{}, {"padding_idx": 0}, {"scale_grad_by_freq": True}], ids=str)
def test_a_table_gets_the_gradient_that_it_would_get_from_each_pass(tied, settings):
    torch.manual_seed(0)
    network = Words(tied=tied, **settings).double()
    apart = {name: gradient.clone() for name, gradient in gradients(network, together=False).items()}
    joined = gradients(network, together=True)
    assert apart.keys() == joined.keys()
    for name, gradient in apart.items():
        assert torch.allclose(joined[name], gradient, rtol=1e-12, atol=0), name


def test_a_table_has_no_gradient_of_a_lookup_before_the_end_and_the_usual_way_afterwards():
    network = Words(tied=False)
    with Lookups(network).together():
        network(IDS[0]).backward()
        assert network.table.weight.grad is None and network.out.weight.grad is not None
    made = network.table.weight.grad.clone()
    assert made[[1, 3]].abs().sum() > 0 and made[[2, 4, 5, 6]].abs().sum() == 0
    assert type(network.table) is nn.Embedding
    network.zero_grad()
    network(IDS[0]).backward()
    assert torch.allclose(network.table.weight.grad, made)


def test_a_pass_that_fails_leaves_the_table_as_it_was_and_without_a_gradient():
    network = Words(tied=False)

    def failing():
        with Lookups(network).together():
            network(IDS[0]).backward()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    assert type(network.table) is nn.Embedding and not hasattr(network.table, "kept") and network.table.weight.grad is None


def test_what_is_looked_up_another_way_or_watched_or_does_not_learn_is_left_alone():
    watched, late, frozen = nn.Embedding(7, 4), nn.Embedding(7, 4), nn.Embedding(7, 4)
    seen = []
    watched.weight.register_hook(lambda gradient: seen.append(gradient.shape))
    late.weight.register_post_accumulate_grad_hook(lambda weight: seen.append(weight.shape))
    frozen.requires_grad_(False)
    tables = nn.ModuleList(
        [watched, late, frozen, Scaled(7, 4), nn.Embedding(7, 4, max_norm=0.5), nn.Embedding(7, 4, scale_grad_by_freq=True)]
    )
    with Lookups(tables).together():
        assert not any(hasattr(table, "kept") for table in tables)
        sum(table(IDS[0]).sum() for table in tables).backward()
        assert tables[3].weight.grad[1].tolist() == [2.0] * 4
    assert len(seen) == 2


def test_no_more_rows_wait_than_the_largest_table_has_and_those_of_one_pass():
    network, alike = Words(tied=True).double(), Words(tied=True).double()
    alike.load_state_dict(network.state_dict())
    most = 0
    with Lookups(network).together() as waiting:
        for _ in range(20):
            network(IDS[0]).backward()
            most = max(most, sum(len(ids) for _, ids, _ in waiting.notes))
            waiting.settle()
    for _ in range(20):
        alike(IDS[0]).backward()
    assert most <= 7 + len(IDS[0])
    assert torch.allclose(network.table.weight.grad, alike.table.weight.grad, rtol=1e-12, atol=0)


def test_a_table_in_a_block_that_is_computed_again_gets_the_same_bits():
    torch.manual_seed(0)
    network, ids = Words(tied=True), torch.arange(7).repeat(3)
    made = []
    for again in (False, True):
        network.zero_grad()
        with Lookups(network).together() as waiting:
            for _ in range(3):
                loss = checkpoint(network, ids, use_reentrant=False) if again else network(ids)
                (loss + network.table(ids).square().sum()).backward()
                waiting.settle()
        made.append(network.table.weight.grad)
    assert torch.equal(*made)


def test_a_table_that_lies_in_shares_over_devices_is_left_alone():
    table = nn.Embedding(7, 4)
    table.weight = nn.Parameter(torch.ones(7, 4).as_subclass(Share))
    with Lookups(nn.ModuleList([table])).together():
        assert not hasattr(table, "kept")


def test_without_a_gradient_nothing_is_kept():
    network = Words(tied=False)
    with Lookups(network).together(), torch.no_grad():
        network(IDS[0])
    assert network.table.weight.grad is None


@pytest.mark.parametrize("kind", ["bert", "llama", "t5"])
def test_a_run_learns_the_same_whatever_the_cut(builder, examples, kind):
    objective = plugins.build("objectives", {"bert": "classify", "llama": "sft", "t5": "seq2seq"}[kind], {})
    losses = []
    for max_tokens in (24, 10**6):
        policy = ready(objective, builder(kind), examples, double=True)
        _, steps = train(objective, policy, examples, tiny_plan(policy, num_steps=6, max_tokens=max_tokens))
        losses.append([sum(step.losses.values()) for step in steps])
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
