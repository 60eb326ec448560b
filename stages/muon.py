"""Muon, an optimiser for the weights of convolutions.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024,
kellerjordan.github.io/posts/muon.
torch.optim.Muon takes matrices only and works in bf16, which a CPU without bf16 emulates; this one takes
convolutions and works in the parameters' own precision.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

# Of the quintic x -> ax + bx^3 + cx^5, chosen by the source to bring all singular values near 1 in five steps.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5


def orthogonalise(matrix: Tensor) -> Tensor:
    """The nearest matrix, about, whose singular values are all 1, by Newton-Schulz iteration; [m, n] -> [m, n].

    The iteration multiplies x from the left by polynomials of x @ x.T alone. So they are multiplied with each other,
    [m, m] as they are, and with x, which is up to nine times as wide, only once.
    """
    a, b, c = COEFFICIENTS
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    gram = x @ x.T
    product = identity = torch.eye(len(gram), dtype=x.dtype, device=x.device)
    for _ in range(STEPS):
        factor = a * identity + b * gram + c * gram @ gram
        product = factor @ product
        gram = factor @ gram @ factor
    x = product @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal, so that every direction of a layer learns at the same pace.

    Args:
        params: weights [out, in, height, width], each taken as a matrix [out, in * height * width].
        lr: step length, in units of the update's spectral norm.
        momentum: of Nesterov's kind.
        weight_decay: decoupled; the share of a weight that goes is lr * weight_decay.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.6, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter from its gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].mul_(group["momentum"]).add_(weight.grad)
                update = weight.grad.add(state["momentum"], alpha=group["momentum"]).flatten(1)
                # A tall matrix moves fewer inputs: the factor keeps the change of the layer's output alike.
                scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(orthogonalise(update).view_as(weight), alpha=-group["lr"] * scale)
