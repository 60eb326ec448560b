"""Eight ways in which pictures go wrong, at five severities each.

After Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
arXiv:1903.12261. The kinds and the severities are chosen for small garments on black and are not theirs.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

SEVERITIES = (1, 2, 3, 4, 5)
# What a severity means for each kind, from 1 to 5.
LEVELS: dict[str, tuple[float, ...]] = {
    "noise": (10, 20, 35, 50, 70),  # standard deviation, in grey levels
    "blur": (0.5, 0.8, 1.1, 1.5, 2.0),  # standard deviation, in pixels
    "shift": (1, 2, 3, 4, 5),  # pixels, in one of eight directions
    "rotate": (5, 10, 15, 25, 40),  # degrees, to either side
    "scale": (0.9, 0.8, 0.7, 0.6, 0.5),  # of the side
    "contrast": (0.8, 0.6, 0.45, 0.3, 0.2),  # of the distance from the picture's mean
    "invert": (0.2, 0.4, 0.6, 0.8, 1.0),  # of the way to the negative
    "occlusion": (6, 8, 10, 12, 14),  # side of a black square, for pictures of 28 pixels
}


def corrupt(images: Tensor, kind: str, severity: int, seed: int) -> Tensor:
    """Pictures as that corruption leaves them, a function of the arguments alone.

    Args:
        images: uint8 [N, S, S].
        kind: a key of LEVELS.
        severity: 1 to 5.
        seed: of each picture's own draw.

    Returns:
        uint8 [N, S, S].

    Raises:
        ValueError: no such kind or severity.
    """
    if kind not in LEVELS or severity not in SEVERITIES:
        raise ValueError(f"{kind} of severity {severity}: the kinds are {', '.join(LEVELS)}, the severities 1 to 5")
    draw = np.random.default_rng([seed, 5, list(LEVELS).index(kind), severity])
    changed = KINDS[kind](images.float(), LEVELS[kind][severity - 1], draw)
    return changed.round().clamp(0, 255).to(torch.uint8)


def _noise(x: Tensor, level: float, draw: np.random.Generator) -> Tensor:
    return x + level * torch.from_numpy(draw.standard_normal(x.shape, np.float32))


def _blur(x: Tensor, level: float, _: np.random.Generator) -> Tensor:
    reach = max(1, round(3 * level))
    line = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * level**2))
    line /= line.sum()
    wide = functional.pad(x.unsqueeze(1), (reach,) * 4, mode="replicate")
    down = functional.conv2d(wide, line[None, None, :, None])
    return functional.conv2d(down, line[None, None, None, :]).squeeze(1)


def _shift(x: Tensor, level: float, draw: np.random.Generator) -> Tensor:
    reach, side = int(level), x.shape[-1]
    directions = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right]
    way = np.array(directions)[draw.integers(0, len(directions), len(x))] * reach + reach
    wide = functional.pad(x, (reach,) * 4)
    rows = torch.from_numpy(np.arange(side) + way[:, :1])
    columns = torch.from_numpy(np.arange(side) + way[:, 1:])
    return wide[torch.arange(len(x))[:, None, None], rows[:, :, None], columns[:, None, :]]


def _rotate(x: Tensor, level: float, draw: np.random.Generator) -> Tensor:
    angle = torch.from_numpy(np.deg2rad(level) * draw.choice([-1.0, 1.0], len(x)))
    return _resampled(x, torch.cos(angle), torch.sin(angle))


def _scale(x: Tensor, level: float, _: np.random.Generator) -> Tensor:
    return _resampled(x, torch.full((len(x),), 1 / level), torch.zeros(len(x)))


def _resampled(x: Tensor, along: Tensor, across: Tensor) -> Tensor:
    """Turned and scaled about the middle; black comes in from outside."""
    still = torch.zeros_like(along)
    rows = [torch.stack([along, -across, still], 1), torch.stack([across, along, still], 1)]
    grid = functional.affine_grid(torch.stack(rows, 1).float(), [len(x), 1, *x.shape[1:]], align_corners=False)
    return functional.grid_sample(x.unsqueeze(1), grid, align_corners=False).squeeze(1)


def _contrast(x: Tensor, level: float, _: np.random.Generator) -> Tensor:
    mean = x.mean((1, 2), keepdim=True)
    return mean + level * (x - mean)


def _invert(x: Tensor, level: float, _: np.random.Generator) -> Tensor:
    return x + level * (255 - 2 * x)


def _occlusion(x: Tensor, level: float, draw: np.random.Generator) -> Tensor:
    side = x.shape[-1]
    hole = max(1, round(level * side / 28))
    start = draw.integers(0, side - hole + 1, (len(x), 2))
    near = [(np.arange(side) >= start[:, k : k + 1]) & (np.arange(side) < start[:, k : k + 1] + hole) for k in (0, 1)]
    return x.masked_fill(torch.from_numpy(near[0][:, :, None] & near[1][:, None, :]), 0)


KINDS: dict[str, Callable[[Tensor, float, np.random.Generator], Tensor]] = {
    "noise": _noise,
    "blur": _blur,
    "shift": _shift,
    "rotate": _rotate,
    "scale": _scale,
    "contrast": _contrast,
    "invert": _invert,
    "occlusion": _occlusion,
}
