"""Batch norm over several processes is batch norm over the batch that they share."""

import pytest
import torch
from torch import Tensor, nn

from stages.batchnorm import GlobalBatchNorm, spread
from stages.network import Network
from stages.world import ALONE, World
from tests.stages.threads import together

Found = dict[str, Tensor]


def layer(dtype: torch.dtype = torch.float64, channels: int = 3) -> nn.BatchNorm2d:
    """A batch norm that has seen something."""
    draw = torch.Generator().manual_seed(0)
    norm = nn.BatchNorm2d(channels).to(dtype)
    for values in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        assert values is not None
        values.copy_(torch.rand(channels, generator=draw) + 0.5)
    return norm


def spread_over(world: World, norm: nn.BatchNorm2d) -> GlobalBatchNorm:
    spread(norm, world)
    assert isinstance(norm, GlobalBatchNorm)
    return norm


def pictures(dtype: torch.dtype = torch.float64, mean: float = 3.0) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    return (torch.randn(8, 3, 5, 4, generator=draw, dtype=torch.float64) * 2 + mean).to(dtype)


def weights_of_the_loss() -> Tensor:
    return torch.randn(8, 3, 5, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def step(norm: nn.BatchNorm2d, x: Tensor, share: slice = slice(None)) -> Found:
    """Forward and backward on a share of the pictures; all there is to see afterwards."""
    own = x[share].clone().requires_grad_()
    y = norm(own)
    (y * weights_of_the_loss()[share].to(y.dtype)).sum().backward()
    assert own.grad is not None
    assert norm.weight.grad is not None
    assert norm.bias.grad is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return {
        "y": y.detach(),
        "dx": own.grad,
        "weight": norm.weight.grad,
        "bias": norm.bias.grad,
        "mean": norm.running_mean,
        "var": norm.running_var,
    }


def test_a_mean_far_from_nought_costs_no_digits() -> None:
    x = pictures(torch.float32, mean=3000)
    found = together(2, lambda here: step(spread_over(here, layer(torch.float32)), x, here.part(8)))
    exact = step(layer(), x.double())
    for share in found:
        assert torch.allclose(share["var"].double(), exact["var"], rtol=1e-3)


def test_the_gradient_is_the_derivative() -> None:
    norm = spread_over(ALONE, layer())
    x = pictures()[:3, :, :2, :2].clone().requires_grad_()

    def of(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(norm, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(of, (x, norm.weight, norm.bias))


def test_with_one_process_it_is_torchs_own() -> None:
    found, expected = step(spread_over(ALONE, layer()), pictures()), step(layer(), pictures())
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-12, atol=1e-12), name


@pytest.mark.parametrize("cuts", [(4, 8), (3, 8), (1, 2, 8)], ids=["halves", "odd", "three"])
def test_the_shares_of_several_make_the_whole_batch(cuts: tuple[int, ...]) -> None:
    shares = [slice(start, stop) for start, stop in zip((0, *cuts), cuts, strict=False)]
    found = together(len(shares), lambda here: step(spread_over(here, layer()), pictures(), shares[here.rank]))
    expected = step(layer(), pictures())
    for name in ("y", "dx"):
        assert torch.allclose(torch.cat([share[name] for share in found]), expected[name], rtol=1e-9, atol=1e-9), name
    for name in ("weight", "bias"):  # each has the gradient of its own share: `train` adds them
        assert torch.allclose(sum(share[name] for share in found), expected[name], rtol=1e-9, atol=1e-9), name
    for name in ("mean", "var"):
        assert all(torch.equal(share[name], found[0][name]) for share in found), name
        assert torch.allclose(found[0][name], expected[name], rtol=1e-12), name


def test_one_share_alone_would_be_something_else() -> None:
    found = together(2, lambda here: step(spread_over(here, layer()), pictures(), here.part(8)))
    assert not torch.allclose(found[0]["y"], step(layer(), pictures()[:4], slice(4))["y"], atol=1e-3)


def test_pictures_in_bf16_are_counted_in_fp32_and_come_out_in_bf16() -> None:
    x = pictures(torch.bfloat16)
    found = step(spread_over(ALONE, layer(torch.float32)), x)
    expected = step(layer(torch.float32), x.float())
    assert (found["y"].dtype, found["dx"].dtype, found["var"].dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    assert torch.allclose(found["var"], expected["var"], rtol=1e-5)
    assert torch.allclose(found["y"].float(), expected["y"], atol=0.05)


def test_to_infer_it_uses_what_it_has_learnt() -> None:
    norm, plain = layer().eval(), layer().eval()
    spread(norm, World(rank=1, size=2))  # which would wait for another, were there anything to ask
    assert torch.equal(norm(pictures()), plain(pictures()))


def test_a_network_keeps_its_names_and_its_weights() -> None:
    network = Network(10, 16)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    spread(network, ALONE)
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert all(isinstance(module, GlobalBatchNorm) for module in norms)
    Network(10, 16).load_state_dict(after)
