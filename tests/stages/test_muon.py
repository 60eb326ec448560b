import pytest
import torch

from stages.muon import COEFFICIENTS, STEPS, Muon, orthogonalise


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (20, 20)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
    assert values.min() > 0.3
    assert values.max() < 1.3


@pytest.mark.parametrize("rank", [96, 3])
def test_it_is_the_sources_iteration(rank: int) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(96, rank) @ torch.randn(rank, 864)
    a, b, c = COEFFICIENTS
    x = matrix / (matrix.norm() + 1e-7)
    for _ in range(STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    assert torch.allclose(orthogonalise(matrix), x, atol=2e-5)


def test_a_zero_gradient_moves_nothing_but_by_decay() -> None:
    weight = torch.nn.Parameter(torch.ones(4, 2, 3, 3))
    weight.grad = torch.zeros_like(weight)
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    assert torch.allclose(weight, torch.full_like(weight, 0.95))


def test_it_brings_a_convolution_to_a_target() -> None:
    torch.manual_seed(0)
    layer, target = torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.Conv2d(3, 8, 3, bias=False)
    images = torch.randn(64, 3, 8, 8)
    optimizer = Muon(layer.parameters(), lr=0.02)
    losses = []
    for _ in range(100):
        loss = (layer(images) - target(images)).pow(2).mean()
        layer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 50
