"""Whether what comes in still looks like what the model was validated on: tests on windows of answered pictures.

Each picture becomes a row of numbers whose mean over a window holds all that the tests need: shares of grid cells for
what has an order, shares of classes, and random Fourier features of the projected network features. The pipeline
simulates what each test says of clean windows and writes the thresholds to ``reference.json``; the app only compares.

Sources: two-sample Kolmogorov-Smirnov and chi-square statistics; the kernel two-sample test of Gretton et al., "A
Kernel Two-Sample Test", JMLR 13 (2012), in the random features of Rahimi and Recht, "Random Features for Large-Scale
Kernel Machines", NIPS 2007.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from app import statistics
from app.classifier import PROJECTIONS, Prediction

Floats = npt.NDArray[np.float64]
ORDERED = ("brightness", "contrast", "sharpness", "ink", "confidence")
SIZES = 4  # label sets of 1, 2, 3, and of 4 classes or more
WAVES = 64  # random Fourier features
NAMES = (*ORDERED, "label set size", "class shares", "features")


class ReferenceError(Exception):
    """reference.json cannot be used; the message is a sentence for a person."""


def short(values: Floats) -> Floats:
    """To six digits, as they stand in the file: what is compared with must be what was measured with."""
    return np.array([float(f"{value:.6g}") for value in values])


@dataclass(frozen=True)
class Measured:
    """What is known of N pictures.

    Attributes:
        ordered: [N] of each name in ORDERED.
        sizes: int [N], classes in the label set.
        classes: int [N], the top class.
        projections: [N, 8].
    """

    ordered: Mapping[str, npt.NDArray[np.float32]]
    sizes: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int64]
    projections: npt.NDArray[np.float32]


def measure(pictures: npt.NDArray[np.uint8], prediction: Prediction, threshold: float) -> Measured:
    """Look at pictures uint8 [N, H, W] and what was said of them; `threshold` is that of the label sets."""
    p = prediction.probabilities
    return Measured(
        {**statistics.of_pictures(pictures), "confidence": p.max(1)},
        np.maximum(1, (p >= np.float32(threshold)).sum(1)),
        p.argmax(1),
        prediction.projections,
    )


@dataclass(frozen=True)
class Grid:
    """How a picture becomes a row of numbers.

    Attributes:
        values: for each name in ORDERED, rising values of the validation split, [G].
        centre: of the projections, [8].
        scale: of the projections, [8].
        classes: K.
    """

    values: Mapping[str, Floats]
    centre: Floats
    scale: Floats
    classes: int

    def rows(self, of: Measured) -> npt.NDArray[np.float32]:
        """[N, M]: for each grid value whether the picture lies at or below it; size and class, one-hot; waves."""
        parts = [of.ordered[name][:, None] <= self.values[name] for name in ORDERED]
        parts.append(np.minimum(of.sizes, SIZES)[:, None] == np.arange(1, SIZES + 1))
        parts.append(of.classes[:, None] == np.arange(self.classes))
        draw = np.random.default_rng(8)
        frequencies, phases = draw.standard_normal((PROJECTIONS, WAVES)), draw.random(WAVES) * 2 * math.pi
        # Points of a unit Gaussian in 8 dimensions are about 4 apart: the kernel's width.
        standard = (of.projections - self.centre) / self.scale / math.sqrt(2 * PROJECTIONS)
        waves = np.cos(standard @ frequencies + phases) * math.sqrt(2 / WAVES)
        return np.concatenate([*(part.astype(np.float32) for part in parts), waves.astype(np.float32)], axis=1)

    def statistics(self, window: Floats, reference: Floats, pictures: int) -> Floats:
        """How far means of rows lie apart, [B, M] and [B, M] or [M] -> [B, 8] in the order of NAMES.

        `pictures` is how many a window has.
        """
        found, start = [], 0
        for name in ORDERED:
            cells = slice(start, start + len(self.values[name]))
            found.append(np.abs(window[..., cells] - reference[..., cells]).max(-1))
            start = cells.stop
        for count in (SIZES, self.classes):
            cells = slice(start, start + count)
            expected = reference[..., cells]
            # What was never expected must not divide by nothing: one picture in a window is.
            found.append(((window[..., cells] - expected) ** 2 / (expected + 1 / pictures)).sum(-1))
            start = cells.stop
        found.append(np.sqrt(((window[..., start:] - reference[..., start:]) ** 2).sum(-1)))
        return np.stack(found, axis=-1)


@dataclass(frozen=True)
class Reference:
    """What `reference.json` holds.

    Attributes:
        window: pictures that are judged together.
        grid: as above.
        means: of the validation split's rows, [M].
        thresholds: of the statistics, [8].
        pictures: in the validation split.
    """

    window: int
    grid: Grid
    means: Floats
    thresholds: Floats
    pictures: int

    def judge(self, of: Measured) -> Floats:
        """The statistics of a window, [8]."""
        mean = self.grid.rows(of).mean(0, dtype=np.float64)
        return self.grid.statistics(mean, self.means, self.window)

    def to_json(self) -> dict[str, Any]:
        """As it is written."""

        return {
            "pictures": self.pictures,
            "window": self.window,
            "thresholds": dict(zip(NAMES, short(self.thresholds).tolist(), strict=True)),
            "classes": self.grid.classes,
            "grid": {name: short(self.grid.values[name]).tolist() for name in ORDERED},
            "projection": {"centre": short(self.grid.centre).tolist(), "scale": short(self.grid.scale).tolist()},
            "means": short(self.means).tolist(),
        }

    @classmethod
    def read(cls, path: Path) -> Reference:
        """Read and check the file.

        Raises:
            ReferenceError: it is missing or damaged.
        """
        try:
            content = json.loads(path.read_bytes())
            grid = Grid(
                {name: np.array(content["grid"][name], np.float64) for name in ORDERED},
                np.array(content["projection"]["centre"], np.float64),
                np.array(content["projection"]["scale"], np.float64),
                int(content["classes"]),
            )
            means = np.array(content["means"], np.float64)
            thresholds = np.array([content["thresholds"][name] for name in NAMES], np.float64)
            window, pictures = int(content["window"]), int(content["pictures"])
            cells = sum(map(len, grid.values.values())) + SIZES + grid.classes + WAVES
            sound = (
                means.shape == (cells,)
                and grid.centre.shape == grid.scale.shape == (PROJECTIONS,)
                and np.isfinite(np.concatenate([means, thresholds, grid.centre, grid.scale])).all()
                and (grid.scale > 0).all()
                and 2 <= window <= 100_000
            )
            if not sound:
                raise ValueError
        except FileNotFoundError:
            raise ReferenceError("This model came without reference.json, so drift cannot be told.") from None
        except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
            raise ReferenceError("The reference.json that came with this model is damaged: no drift is told.") from None
        return cls(window, grid, means, thresholds, pictures)
