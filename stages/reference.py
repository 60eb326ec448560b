"""What the served file sees and says on the validation split, and how far a clean window may lie from it."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app import drift
from app.classifier import PROJECTIONS, Prediction
from stages.batches import Split

WINDOW = 250  # pictures
CELLS = 100  # grid values a feature
FALSE_ALARMS = 1 / 1000  # of clean windows, all tests together
MARGIN = 2  # aimed for is so many times fewer
RESAMPLES = 20_000
BELOW = 1e-4  # far below the least value lies nothing of the sample
TAIL = 0.01  # share of the simulated statistics to which the tail is fitted
PART = 500  # resamples at a time
LEAST = 0.03  # share of a window's pictures that has to change class, or size of label set, for an alarm


def directions(channels: int) -> NDArray[np.float32]:
    """Orthonormal directions [channels, 8], the same ones for every network of that width."""
    drawn = np.random.default_rng(9).standard_normal((max(channels, PROJECTIONS), PROJECTIONS))
    return np.linalg.qr(drawn)[0][:channels].astype(np.float32)


def describe(predict: Callable[[NDArray[np.uint8]], Prediction], val: Split, threshold: float) -> dict[str, Any]:
    """The content of reference.json.

    Args:
        predict: as the app does: uint8 [N, H, W] -> Prediction.
        val: the validation split.
        threshold: of the label sets.
    """
    pictures = np.concatenate([images.numpy() for images, _ in val.in_order()])
    said = predict(pictures)
    found = drift.measure(pictures, said, threshold)
    values = {name: cells(found.ordered[name].astype(np.float64)) for name in drift.ORDERED}
    scale = drift.short(found.projections.std(0, dtype=np.float64) + 1e-6)
    centre = drift.short(found.projections.mean(0, dtype=np.float64))
    grid = drift.Grid(values, centre, scale, said.probabilities.shape[1])
    rows = grid.rows(found)
    means = rows.mean(0, dtype=np.float64)
    thresholds = np.maximum(tail(simulate(grid, rows)), least(grid, means))
    return drift.Reference(WINDOW, grid, means, thresholds, len(pictures)).to_json()


def cells(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rising values that part the sample [N] into CELLS, and one below all of it: [G], rounded as they are written."""
    parts = np.quantile(values, np.linspace(0, 1, CELLS), method="higher")  # which occur, so that ties are on one side
    return np.unique(drift.short(np.append(parts, parts[0] - BELOW)))


def simulate(grid: drift.Grid, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """The statistics of clean windows, [RESAMPLES, 8].

    Window and reference are both drawn anew from the rows [N, M], with replacement: that the reference is a sample too
    moves the statistics as much as it would for pictures that it does not hold.
    """
    draw, count = np.random.default_rng(10), len(rows)

    def means(size: int) -> NDArray[np.float64]:
        drawn = draw.integers(0, count, (PART, size)) + np.arange(PART)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=PART * count).reshape(PART, count)
        return (times.astype(np.float32) @ rows).astype(np.float64) / size

    parts = [grid.statistics(means(WINDOW), means(count), WINDOW) for _ in range(RESAMPLES // PART)]
    return np.concatenate(parts)


def least(grid: drift.Grid, means: NDArray[np.float64]) -> NDArray[np.float64]:
    """What thresholds [8] have to be at least: where LEAST of the pictures moved from one cell of shares to the next.

    Of what is rare in validation, a handful more is a large statistic and a small matter. And label sets of several
    classes are rarer there than elsewhere, since their threshold was chosen there: that alone is no drift.
    """
    moved, start = means.copy(), sum(map(len, grid.values.values()))
    for count in (drift.SIZES, grid.classes):
        second, first = start + np.argsort(means[start : start + count])[-2:]
        moved[[first, second]] += (-LEAST, LEAST)
        start += count
    return grid.statistics(moved, means, WINDOW)


def tail(simulated: NDArray[np.float64]) -> NDArray[np.float64]:
    """Thresholds [8] that clean windows pass so rarely that all tests together keep FALSE_ALARMS.

    What lies beyond the simulation is extrapolated: excesses over a high quantile are taken to be exponential (peaks
    over threshold; Coles, "An Introduction to Statistical Modeling of Extreme Values", 2001, chapter 4). The tails of
    these statistics fall faster, so the thresholds are on the careful side.
    """
    each = FALSE_ALARMS / MARGIN / simulated.shape[1]
    high = np.quantile(simulated, 1 - TAIL, axis=0)
    over = np.where(simulated > high, simulated - high, np.nan)
    mean = np.nan_to_num(np.nanmean(np.concatenate([over, np.zeros((1, len(high)))]), axis=0))
    thresholds = high + mean * math.log(TAIL / each)
    return np.asarray(thresholds)
