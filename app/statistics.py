"""What a picture looks like, in four numbers; the pipeline measures them on its pictures, the app on its visitors'."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

INKED = 32  # grey levels; below, a pixel counts as ground


def of_pictures(pictures: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
    """Brightness, contrast, sharpness and ink of each picture.

    Args:
        pictures: uint8 [N, H, W], at least 3 pixels a side.

    Returns:
        float32 [N] by name. Brightness and contrast are mean and standard deviation of the pixels, sharpness is the
        mean absolute Laplacian, all of them in units of white; ink is the share of pixels brighter than the ground.
    """
    x = pictures.astype(np.float32) / 255
    middle = x[:, 1:-1, 1:-1]
    around = x[:, :-2, 1:-1] + x[:, 2:, 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:]
    return {
        "brightness": x.mean((1, 2)),
        "contrast": x.std((1, 2)),
        "sharpness": np.abs(4 * middle - around).mean((1, 2)),
        "ink": (pictures > INKED).mean((1, 2), dtype=np.float32),
    }
