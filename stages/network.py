"""The network: uint8 pictures in, class scores out, preprocessing inside.

Normalisation is part of the network and so of the exported graph: training and serving cannot disagree.
"""

from typing import Any

import torch
from torch import Tensor, nn

STEM = 16  # channels at full size


def conv_bn(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution and batch norm, whose shift makes a bias superfluous."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """x + f(x) with `depth` convolutions in f (He et al., "Deep Residual Learning", arXiv:1512.03385)."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_bn(channels, channels)]
        for _ in range(depth - 1):
            layers += [nn.ReLU(inplace=True), conv_bn(channels, channels)]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        return (x + self.body(x)).relu_()


class Network(nn.Module):
    """A small residual CNN: one thin layer at the picture's full size, the rest at half and at a quarter of it.

    The thin layer is what tells fabrics apart. Without it, with 2x2 blocks as channels, an epoch took 0.7 times as
    long and ended a point lower on validation (docs/experiments.md).

    Args:
        classes: K, how many classes there are.
        width: channels of the last block; half of them in the block before.
        mean: of the training pixels, 0..1.
        std: of the training pixels, 0..1.
    """

    def __init__(self, classes: int, width: int, mean: float = 0.5, std: float = 0.25) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))
        self.body = nn.Sequential(
            conv_bn(1, STEM),
            nn.ReLU(inplace=True),
            conv_bn(STEM, width // 2, stride=2),
            nn.ReLU(inplace=True),
            Residual(width // 2, 1),
            conv_bn(width // 2, width, stride=2),
            nn.ReLU(inplace=True),
            Residual(width, 2),
            Residual(width, 1),
        )
        self.head = nn.Linear(width, classes)

    def features(self, images: Tensor) -> Tensor:
        """uint8 [N, H, W] -> float [N, width, H/4, W/4]."""
        x = (images.unsqueeze(1).float() / 255 - self.mean) / self.std
        # channels_last is the layout in which convolutions run fastest, on CPU and GPU alike.
        return self.body(x.contiguous(memory_format=torch.channels_last))

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [N, H, W] -> logits, float [N, K]."""
        return self.head(self.features(images).mean((2, 3)))


def load(path: str, map_location: str = "cpu") -> tuple[Network, dict[str, Any]]:
    """Read what `train` wrote: the network, ready to infer, and its record (meta of the data, params).

    `weights_only` keeps a file from elsewhere from running code.
    """
    saved = torch.load(path, map_location=map_location, weights_only=True)
    record = saved["record"]
    network = Network(len(record["classes"]), record["params"]["width"])
    network.load_state_dict(saved["state"])
    return network.to(memory_format=torch.channels_last).eval(), record
