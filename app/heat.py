"""The heat map over the picture: what spoke for the answer, in orange."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

ENLARGED = 280  # pixels; the least side of an enlarged picture, so that a screen need not blur it
HEAT = np.array([255, 122, 0], np.float32)  # an orange that shows on black and on white


def enlarge(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Whole-number enlargement, each pixel a square: uint8 [H, W] to [H * n, W * n]."""
    factor = max(1, -(-ENLARGED // max(picture.shape)))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def overlay(seen: npt.NDArray[np.uint8], heatmap: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """The picture uint8 [H, W] under its heat map float32 [h, w], as uint8 RGB [H * n, W * n, 3]."""
    grey = enlarge(seen)
    # What spoke against the class is no heat; without any evidence the picture stays as it is.
    heat = np.maximum(heatmap, 0)
    heat = heat / max(float(heat.max()), 1e-6)
    size = (grey.shape[1], grey.shape[0])
    heat = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    weight = 0.75 * heat[..., None]
    return (grey[..., None] * (1 - weight) + HEAT * weight + 0.5).astype(np.uint8)
