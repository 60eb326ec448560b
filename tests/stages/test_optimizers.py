"""What moves the weights, and how far."""

import pytest
from torch import nn

from stages.network import Network
from stages.optimizers import make_optimizers, one_cycle


def test_the_learning_rate_rises_then_falls_and_never_is_zero() -> None:
    rates = [one_cycle(step, 100) for step in range(100)]
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert min(rates) > 0
    assert max(rates) == pytest.approx(1, abs=0.02)


def test_each_weight_that_learns_is_moved_once_and_shifts_and_scales_do_not_decay() -> None:
    network = Network(3, 8)
    groups = [group for optimizer in make_optimizers(network, 0.01, 0.02) for group in optimizer.param_groups]
    moved = [id(p) for group in groups for p in group["params"]]
    assert sorted(moved) == sorted(id(p) for p in network.parameters() if p.requires_grad)
    norms = {id(p) for m in network.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    still = {id(p) for group in groups if not group["weight_decay"] for p in group["params"]}
    assert norms <= still
    assert not any(id(p) in still for p in network.parameters() if p.ndim > 1)
