"""evaluate: how good the network is on the test split, and how far its probabilities can be trusted.

Reads:  data/prepared/, models/network.pt
Writes: reports/evaluation/metrics.json      accuracy with interval, F1, log loss, calibration, label sets
                           calibration.json  temperature, label-set threshold, distances, for export
                           typical.npy       where the training pictures' features lie, for export
                           per_class.csv     pictures, precision, recall, F1
                           confusion.csv     actual and predicted class of every test picture
                           reliability/      confidence against accuracy: uncalibrated.csv, calibrated.csv
                           mistakes.png      the most confident mistakes
        reports/robustness/                  accuracy on corrupted test pictures, as in stages/robustness.py

Temperature, threshold and distances are fitted on validation; the test split is only measured.
"""

import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages import batches, params, pins, typical
from stages.network import Network, load
from stages.robustness import robustness
from stages.stage import log, read_json, run, whole_folder, write_bytes, write_csv, write_json

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
BINS = 15  # of confidence, as in Guo et al.
RESAMPLES = 10_000
BATCH = 1000  # pictures at a time


def evaluate(prepared: Path, network_file: Path, out: Path, *, seed: int, coverage: float) -> None:
    """Fit temperature and label-set threshold on val, measure on test, write `out` whole or not at all."""
    classes = read_json(prepared / "meta.json")["classes"]
    network, _ = load(str(network_file))
    train, val, test = (batches.read_split(prepared, name, torch.device("cpu")) for name in ("train", "val", "test"))
    learnt_from = typical.sample(train.labels.numpy())
    train_features, _, train_labels = outputs(network, train, learnt_from)
    val_features, val_logits, val_labels = outputs(network, val)
    _, test_logits, labels = outputs(network, test)

    temperature = fit_temperature(val_logits, val_labels)
    threshold = fit_threshold(softmax(val_logits / temperature), val_labels, coverage)
    classes_lie = typical.fit(train_features, train_labels)
    raw, probabilities = softmax(test_logits), softmax(test_logits / temperature)
    predicted = probabilities.argmax(1)
    accuracy = float((predicted == labels).mean())
    low, high = bootstrap_interval(accuracy, len(labels), seed)
    sets = label_sets(probabilities, threshold)
    table = per_class(labels, predicted, classes)
    metrics = {
        "accuracy": accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "macro_f1": float(np.mean([row["f1"] for row in table])),
        "log_loss": log_loss(probabilities, labels),
        "log_loss_uncalibrated": log_loss(raw, labels),
        "ece": calibration_error(probabilities, labels),
        "ece_uncalibrated": calibration_error(raw, labels),
        "label_set_coverage": float(sets[np.arange(len(labels)), labels].mean()),
        "label_set_size": float(sets.sum(1).mean()),
    }
    with whole_folder(out) as folder:
        write_json(folder / "metrics.json", {k: round(v, 6) for k, v in metrics.items()})
        write_json(
            folder / "calibration.json",
            {
                "temperature": temperature,
                "coverage": coverage,
                "threshold": threshold,
                "distances": typical.table(classes_lie.distances(val_features)),
            },
        )
        classes_lie.save(folder / "typical.npy")
        write_csv(folder / "per_class.csv", table)
        write_csv(
            folder / "confusion.csv",
            [{"actual": classes[a], "predicted": classes[p]} for a, p in zip(labels, predicted, strict=True)],
        )
        (folder / "reliability").mkdir()  # a file a curve: that is how DVC's plots tell them apart
        write_csv(folder / "reliability/calibrated.csv", reliability(probabilities, labels))
        write_csv(folder / "reliability/uncalibrated.csv", reliability(raw, labels))
        write_bytes(folder / "mistakes.png", picture_of_mistakes(test, probabilities, labels, classes))
    log(
        f"accuracy {accuracy:.2%} ({low:.2%} to {high:.2%}), calibration error {metrics['ece']:.2%}, label sets hold"
        f" the class {metrics['label_set_coverage']:.1%} of the time with {metrics['label_set_size']:.2f} labels"
    )


@torch.no_grad()
def outputs(
    network: Network, split: batches.Split, indices: Labels | None = None
) -> tuple[NDArray[np.float32], Floats, Labels]:
    """Features float32 [N, C], scores float64 [N, K], labels int64 [N] of a split or a part, computed in fp32."""
    features, scores, labels = [], [], []
    wanted = np.arange(len(split)) if indices is None else indices
    for start in range(0, len(wanted), BATCH):
        images, right = split.take(wanted[start : start + BATCH])
        pooled = network.features(images).mean((2, 3))
        features.append(pooled.numpy())
        scores.append(network.head(pooled).double().numpy())
        labels.append(right.numpy())
    return np.concatenate(features), np.concatenate(scores), np.concatenate(labels)


def softmax(scores: Floats) -> Floats:
    """Rows of scores [N, K] -> rows of probabilities [N, K]."""
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def fit_temperature(scores: Floats, labels: Labels) -> float:
    """The temperature T that minimises the log loss of softmax(scores / T).

    Source: Guo et al., "On Calibration of Modern Neural Networks", arXiv:1706.04599. The loss is convex in 1/T,
    so the zero of its slope is found by bisection, between T = 0.25 and T = 20. On a handful of pictures that are all
    right it would go to 0, and everything would be certain; label smoothing alone asks for about 0.6.
    """
    own = scores[np.arange(len(labels)), labels]

    def slope(inverse: float) -> float:
        return float(((softmax(scores * inverse) * scores).sum(1) - own).mean())

    low, high = 1 / 20, 4.0
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return round(1 / math.sqrt(low * high), 6)


def fit_threshold(probabilities: Floats, labels: Labels, coverage: float) -> float:
    """The least probability that puts a class into the label set, so that sets hold the right class often enough.

    Split conformal prediction with the score 1 - p(right class): Sadinle, Lei, Wasserman, "Least Ambiguous
    Set-Valued Classifiers with Bounded Error Levels", arXiv:1609.00451. For pictures like the validation ones, at
    least `coverage` of the sets hold the right class.
    """
    own = np.sort(probabilities[np.arange(len(labels)), labels])[::-1]
    rank = math.ceil((len(own) + 1) * coverage)
    if rank > len(own):
        return 0.0  # too few pictures to promise this much with anything but the full set
    return math.floor(own[rank - 1] * 1e6) / 1e6


def label_sets(probabilities: Floats, threshold: float) -> NDArray[np.bool_]:
    """Which classes are in each picture's set, bool [N, K]: the top class and all at or above the threshold."""
    sets = probabilities >= threshold
    sets[np.arange(len(sets)), probabilities.argmax(1)] = True
    return sets


def log_loss(probabilities: Floats, labels: Labels) -> float:
    """Mean of -ln p(right class)."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean())


def bootstrap_interval(accuracy: float, count: int, seed: int) -> tuple[float, float]:
    """95 % percentile bootstrap of an accuracy over `count` pictures.

    Resampling zeros and ones with replacement is a draw from a binomial, so that is what is drawn.
    """
    draws = np.random.default_rng([seed, 4]).binomial(count, accuracy, RESAMPLES) / count
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def _bins(probabilities: Floats, labels: Labels) -> Iterable[tuple[float, float, int]]:
    """(mean confidence, accuracy, pictures) of each non-empty bin of equal width."""
    confidence, hit = probabilities.max(1), probabilities.argmax(1) == labels
    at = np.minimum((confidence * BINS).astype(int), BINS - 1)
    for b in range(BINS):
        if (inside := at == b).any():
            yield float(confidence[inside].mean()), float(hit[inside].mean()), int(inside.sum())


def calibration_error(probabilities: Floats, labels: Labels) -> float:
    """Expected calibration error: the mean gap between confidence and accuracy, bins weighted by pictures."""
    return sum(abs(c - a) * n for c, a, n in _bins(probabilities, labels)) / len(labels)


def reliability(probabilities: Floats, labels: Labels) -> list[dict[str, Any]]:
    """The reliability curve, a row a bin."""
    return [
        {"confidence": round(c, 6), "accuracy": round(a, 6), "pictures": n} for c, a, n in _bins(probabilities, labels)
    ]


def per_class(labels: Labels, predicted: Labels, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Precision, recall and F1 of each class; 0 where a class was never predicted."""
    rows = []
    for k, name in enumerate(classes):
        hits, actual, said = (
            int(((labels == k) & (predicted == k)).sum()),
            int((labels == k).sum()),
            int((predicted == k).sum()),
        )
        rows.append(
            {
                "class": name,
                "pictures": actual,
                "precision": round(hits / said, 6) if said else 0.0,
                "recall": round(hits / actual, 6),
                "f1": round(2 * hits / (actual + said), 6),
            }
        )
    return rows


def picture_of_mistakes(
    test: batches.Split, probabilities: Floats, labels: Labels, classes: Sequence[str], count: int = 20
) -> bytes:
    """PNG of the mistakes that the network was surest of, the right class below what it said."""
    from matplotlib.figure import Figure  # without pyplot: no window system, no global state

    confidence, predicted = probabilities.max(1), probabilities.argmax(1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    images, _ = test.take(worst)
    figure = Figure(figsize=(11, 10), layout="constrained")
    figure.suptitle(f"The {len(worst)} most confident of {len(wrong):,} mistakes on {len(labels):,} test pictures")
    for place, axes in enumerate(figure.subplots(4, 5).flat):
        axes.axis("off")
        if place < len(worst):
            i = worst[place]
            axes.imshow(images[place], cmap="gray", vmin=0, vmax=255)
            axes.set_title(f"said {classes[predicted[i]]}, {confidence[i]:.0%}\nis {classes[labels[i]]}", fontsize=10)
    png = io.BytesIO()
    figure.savefig(png, dpi=100, metadata={"Software": None})
    return png.getvalue()


def main() -> None:
    """Run the stage on params.yaml."""
    pins.apply()
    prepared, network = Path("data/prepared"), Path("models/network.pt")
    evaluate(prepared, network, Path("reports/evaluation"), **params.of(evaluate))
    robustness(prepared, network, Path("reports/robustness"), **params.of(robustness))


if __name__ == "__main__":
    run(main)
