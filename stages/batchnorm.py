"""Batch norm over the batch of all processes.

torch's SyncBatchNorm knows CUDA only, and adds in an order of its back end's choice.
"""

from typing import Any

import torch
from torch import Tensor, nn

from stages.world import World


class _Normalise(torch.autograd.Function):
    """x [N, C, H, W] of one process -> the same, normalised by mean and variance of all processes' x."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, world: World
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the normalised x and, for the running figures, mean [C], variance [C] and count."""
        wide = x if x.dtype == torch.float64 else x.float()
        variance, mean = torch.var_mean(wide, (0, 2, 3), correction=0)
        count = torch.full_like(mean, x.numel() // x.shape[1])
        # Mean and variance of each share, put together (Chan et al., "Updating formulae and a pairwise algorithm for
        # computing sample variances", 1979): sums of squares over all would lose digits.
        counts, means, variances = world.gather(torch.stack([count, mean, variance])).unbind(1)
        total = counts.sum(0)
        mean = (counts * means).sum(0) / total
        variance = (counts * (variances + (means - mean) ** 2)).sum(0) / total
        inverse = (variance + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, inverse, total)
        ctx.world = world
        scale = weight * inverse
        y = wide * _wide(scale) + _wide(bias - mean * scale)
        ctx.mark_non_differentiable(mean, variance, total)
        return y.to(x.dtype), mean, variance, total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """Gradients of x, weight and bias; those of weight and bias of this process's share alone."""
        x, weight, mean, inverse, total = ctx.saved_tensors
        wide = x if x.dtype == torch.float64 else x.float()
        grad = grads[0].to(wide.dtype)
        normed = (wide - _wide(mean)) * _wide(inverse)
        sums = torch.stack([grad.sum((0, 2, 3)), (grad * normed).sum((0, 2, 3))])
        shift, slope = ctx.world.total(sums) / total
        dx = (grad - _wide(shift) - normed * _wide(slope)) * _wide(weight * inverse)
        return dx.to(x.dtype), sums[1], sums[0], None, None


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None]


class GlobalBatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d, which it equals with one process, over the world's batch while it trains."""

    world: World

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        if not self.training:
            return super().forward(input)
        y, mean, variance, count = _Normalise.apply(input, self.weight, self.bias, self.eps, self.world)
        with torch.no_grad():
            momentum = self.momentum or 0.0
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)  # type: ignore[union-attr]
            unbiased = variance * (count / (count - 1).clamp(min=1))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)  # type: ignore[union-attr]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        return y


def spread(network: nn.Module, world: World) -> None:
    """Make every batch norm in `network` look at the batch of all processes. Names and state stay as they are."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = GlobalBatchNorm
            module.world = world  # type: ignore[assignment]
