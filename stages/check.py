"""check: whether the pictures that params.yaml names are fit to train on, before the hours that it takes.

Reads:  the source that `dataset` names (and `data_dir`, for image-folder), and `extra_dir`.
Writes: nothing. `uv run invoke check-data` runs it; dvc.yaml does not, since `prepare` refuses what it cannot read.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages import params
from stages.prepare import split
from stages.sources import Source, drawn_sketches, extra_folder, fashion_mnist, image_folder, joined, streaming
from stages.stage import StageError, log, run

FEW = 10  # pictures a class: fewer, and one of them in the test split is worth more than 10 points of its class
IMBALANCE = (
    20  # times as many pictures in the largest class as in the smallest, beyond which the small one is neglected
)
NAMED = 20  # problems of a kind that are told one by one


def check(
    *,
    seed: int,
    dataset: str,
    data_dir: str,
    extra_dir: str,
    image_size: int,
    val_fraction: float,
    test_fraction: float,
    sketches: int,
) -> list[str]:
    """What is wrong with the pictures, a line a problem; empty if nothing is.

    Raises:
        StageError: they cannot be had at all, or their folders are not in order.
    """
    if dataset == "sketches":
        source = drawn_sketches(image_size, sketches, seed)
    elif dataset == "fashion-mnist":
        source = fashion_mnist(image_size)
    else:
        source = image_folder(Path(data_dir), image_size)
    extra = extra_folder(Path(extra_dir), source.classes, image_size)
    if dataset == "sketches" and not len(extra.labels):
        return []  # drawn by our own code
    return problems(source, extra, seed, val_fraction, test_fraction)


def problems(source: Source, extra: Source, seed: int, val_fraction: float, test_fraction: float) -> list[str]:
    """Too few, too uneven, unreadable, and pictures that are in train and in test."""
    found = [*_counts(source)]
    try:
        test = split(source, seed, val_fraction, test_fraction)["test"]
    except StageError as error:
        return [*found, str(error)]
    in_test = np.zeros(len(source.labels) + len(extra.labels), bool)
    in_test[test] = True
    return found + _pictures(source, extra, in_test)


def _counts(source: Source) -> Iterator[str]:
    counts = np.bincount(source.labels, minlength=len(source.classes))
    for name, count in zip(source.classes, counts, strict=True):
        if count < FEW:
            yield f"class {name!r} has {count} picture(s), fewer than {FEW}: add some, or leave the class out"
    large, small = counts.argmax(), counts.argmin()
    if counts[large] > IMBALANCE * max(counts[small], 1):
        yield (
            f"class {source.classes[large]!r} has {counts[large]:,} pictures, more than {IMBALANCE} times the "
            f"{counts[small]:,} of {source.classes[small]!r}: even them out"
        )


def _pictures(own: Source, extra: Source, in_test: NDArray[np.bool_]) -> list[str]:
    """What only reading them tells. A picture is the same as another if the network would see the same pixels."""
    source = joined(own, extra)
    unreadable: list[str] = []
    first: dict[bytes, int] = {}  # of each picture, where it was seen first
    leaks: list[tuple[int, int]] = []
    contradictions: list[tuple[int, int]] = []
    at = 0
    with streaming(source) as stream:
        for pictures, bad in stream(np.arange(len(source.labels))):
            unreadable += bad
            for picture in pictures:
                # All black is what an unreadable one looks like; it is named already.
                if picture.any():
                    seen = first.setdefault(hashlib.sha256(picture.tobytes()).digest(), at)
                    if in_test[seen] != in_test[at]:
                        leaks.append((seen, at))
                    elif source.labels[seen] != source.labels[at]:
                        contradictions.append((seen, at))
                at += 1

    def name(index: int) -> str:
        part, at = (own, index) if index < len(own.labels) else (extra, index - len(own.labels))
        paths = getattr(part.read, "paths", None)
        return Path(paths[at]).as_posix() if paths else f"picture {at} ({part.classes[part.labels[at]]})"

    return [
        *_some([f"cannot be read: {line}" for line in unreadable], "cannot be read"),
        *_some(
            [f"the same picture in train and in test: {name(a)}, {name(b)}" for a, b in leaks], "are in train and test"
        ),
        *_some([f"the same picture in two classes: {name(a)}, {name(b)}" for a, b in contradictions], "contradict"),
    ]


def _some(lines: list[str], what: str) -> list[str]:
    more = len(lines) - NAMED
    return [*lines[:NAMED], f"and {more:,} more that {what}"] if more > 0 else lines


def main() -> None:
    """Check what params.yaml names."""
    if found := check(**params.of(check)):
        raise StageError("\n".join([f"{len(found)} problem(s) with the pictures", *found]))
    log("the pictures are fit to train on")


if __name__ == "__main__":
    run(main)
