"""How unlike the pictures it learnt from a picture is: the distance of its features to the nearest class.

Source: Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks",
arXiv:1807.03888, on one layer: the Mahalanobis distance under class means and a covariance that the classes share.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
LEARNT_FROM = 20_000  # pictures, as many of each class: more change nothing but the time
SHRINK = 0.01  # of the mean variance is added to each, so that a channel that never speaks does not divide by nothing
LEVELS = 200  # steps of the table from distance to share of pictures


@dataclass(frozen=True)
class Typical:
    """Where the classes lie.

    Attributes:
        whitening: float32 [C, C]; features times it have unit covariance within the classes.
        centres: float32 [K, C], the class means, whitened.
    """

    whitening: Floats
    centres: Floats

    def distances(self, features: Floats) -> Floats:
        """Features [N, C] -> squared Mahalanobis distance to the nearest class, [N]."""
        white = features @ self.whitening
        return np.stack([((white - centre) ** 2).sum(1) for centre in self.centres]).min(0)

    def save(self, file: Path) -> None:
        """Write one array to an .npy file, the whitening and below it the centres: float32 [C + K, C].

        An .npz would be a ZIP archive, whose headers depend on the Python that writes it.
        """
        np.save(file, np.concatenate([self.whitening, self.centres]))

    @classmethod
    def load(cls, file: Path) -> "Typical":
        """Read what `save` wrote."""
        both = np.load(file, allow_pickle=False)
        channels = both.shape[1]
        return cls(both[:channels], both[channels:])


def sample(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of the pictures to learn from: the first of each class, as many of each."""
    classes = np.unique(labels)
    share = max(1, LEARNT_FROM // len(classes))
    return np.sort(np.concatenate([np.flatnonzero(labels == k)[:share] for k in classes]))


def fit(features: Floats, labels: NDArray[np.int64]) -> Typical:
    """Class means and shared covariance of features [N, C]."""
    wide = features.astype(np.float64)
    means = np.stack([wide[labels == k].mean(0) for k in np.unique(labels)])
    residues = wide - means[np.searchsorted(np.unique(labels), labels)]
    covariance = residues.T @ residues / len(residues)
    channels = len(covariance)
    covariance += (SHRINK * np.trace(covariance) / channels + 1e-9) * np.eye(channels)
    whitening = np.linalg.cholesky(np.linalg.inv(covariance))
    return Typical(whitening.astype(np.float32), (means @ whitening).astype(np.float32))


def table(distances: Floats) -> list[float]:
    """Distances at evenly spaced shares of the validation pictures, from the nearest to the farthest of them."""
    return [float(f"{d:.6g}") for d in np.quantile(distances.astype(np.float64), np.linspace(0, 1, LEVELS + 1))]
