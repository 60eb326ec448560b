"""How fast prepare takes Fashion-MNIST's files in, and folders of small PNGs.

The goals: 70,000 pictures from the IDX files within 2 s; folders at 5,000 PNGs a second on two cores.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deploy.verify import machine
from stages import params, prepare
from stages.sources import fashion_mnist

RESULTS = Path("benchmarks/results/preparing.json")
ROUNDS = 5
FILES, CLASSES = 20_000, 10


def folder_of_pictures(folder: Path) -> None:
    """FILES PNGs of 28 x 28, one folder a class: stripes and noise, which pack as garments do."""
    rng = np.random.default_rng(1)
    for number in range(FILES):
        place = folder / f"class-{number % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        picture = np.zeros((28, 28), np.uint8)
        picture[4:24, 6:22] = rng.integers(60, 200) + rng.integers(0, 40, (20, 16), np.uint8)
        Image.fromarray(picture).save(place / f"{number}.png")


def seconds(scratch: Path, **changes: object) -> float:
    """The median of ROUNDS of preparing, each in a process of its own, without the start of Python and torch."""
    code = f"from benchmarks import preparing; preparing.told({str(scratch)!r}, **{changes!r})"
    took = []
    for _ in range(ROUNDS):  # not here: the workers would import what this module does
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
        took.append(float(done.stdout.splitlines()[-1]))
    return statistics.median(took)


def told(scratch: str, **changes: object) -> None:
    """Print the seconds of one round, for `seconds`."""
    values = params.load(Path("params.yaml")).model_dump() | changes
    if values["dataset"] == "fashion-mnist":
        fashion_mnist(28)  # downloads, where the files are not here yet, and loads torch
    start = time.perf_counter()
    prepare.prepare(Path(scratch), **{k: values[k] for k in params.names(prepare.prepare)})
    print(time.perf_counter() - start)


def main() -> None:
    """Measure, print, and write RESULTS."""
    with tempfile.TemporaryDirectory(prefix="atelier-preparing-") as name:
        scratch = Path(name)
        idx = seconds(scratch / "idx", dataset="fashion-mnist")
        folder_of_pictures(scratch / "pictures")
        files = seconds(scratch / "png", dataset="image-folder", data_dir=str(scratch / "pictures"))
    found = {
        "machine": machine(),
        "cores": len(os.sched_getaffinity(0)),
        "idx_seconds": round(idx, 2),
        "png_a_second": round(FILES / files),
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8", newline="\n")
    print("\n".join(table(found)))


def table(found: dict[str, Any]) -> list[str]:
    """What was measured, in Markdown."""
    return [
        f"| prepare, {found['cores']} cores, {found['machine']} | |",
        "|---|---|",
        f"| 70,000 pictures from the IDX files | {found['idx_seconds']} s |",
        f"| folders of small PNGs | {found['png_a_second']:,} a second |",
    ]


if __name__ == "__main__":
    main()
