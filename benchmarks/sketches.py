"""How well a network that was trained on nothing but sketches recognises real garments.

Trains with the params in params.yaml, but for those below, and scores Fashion-MNIST: the validation part, by which the
drawing was judged, and the test split, which it never saw.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch

from stages import params, prepare, train
from stages.network import load
from stages.sources import fashion_mnist
from stages.stage import log

CHANGES = {"dataset": "sketches", "augment": "erase", "image_size": 28}
VALIDATION = slice(50_000, 60_000)  # of the real train split


def main() -> None:
    """Print accuracy on real pictures, overall and by class."""
    real = fashion_mnist(28, Path(".atelier/fashion-mnist").resolve())
    values = params.load().model_dump() | CHANGES
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)  # the user's data and models stay as they are
        prepare.prepare(out / "prepared", **{k: values[k] for k in params.names(prepare.prepare)})
        train.train(
            out / "prepared", out / "network.pt", out / "curves", out / "speed",
            **{k: values[k] for k in params.names(train.train)},
        )  # fmt: skip
        network, record = load(os.fspath(out / "network.pt"))
    for name, indices in (("validation", np.arange(60_000)[VALIDATION]), ("test", np.arange(60_000, 70_000))):
        pictures, _ = real.read(indices)
        with torch.no_grad():
            top = torch.cat(
                [network(batch).argmax(1) for batch in torch.split(torch.from_numpy(pictures), 1000)]
            ).numpy()
        labels = real.labels[indices]
        hits = (top == labels).mean()
        log(f"{name}: {hits:.2%} of {len(labels):,} real pictures, trained on {values['sketches']:,} sketches")
        log("  " + ", ".join(f"{c} {(top[labels == k] == k).mean():.0%}" for k, c in enumerate(record["classes"])))


if __name__ == "__main__":
    main()
