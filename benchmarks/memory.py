"""Resident memory of prepare and train on 60,000 pictures and on ten times as many.

The pictures are made (noise, ten classes) as they are read. The goal: 600,000 pictures within 2 GiB of what 60,000
take. Each figure is the peak of a process of its own; a memory-mapped page counts while it is resident.
"""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages import params, prepare, train
from stages.sources import Pixels, Source

COUNTS = (60_000, 600_000)


def made(indices: NDArray[np.int64]) -> tuple[Pixels, list[str]]:
    """Noise around a grey that tells the class; the same for the same index."""
    noise = np.random.default_rng(int(indices[0])).integers(0, 60, (len(indices), 28, 28), np.uint8)
    return noise + (indices % 10 * 19).astype(np.uint8)[:, None, None], []


def measure(count: int) -> None:
    """Prepare and train one epoch of a narrow network; print the peak after each, in MiB."""
    labels = np.arange(count, dtype=np.int64) % 10
    source = Source(tuple("abcdefghij"), labels, np.arange(count) // 10 % 20 == 0, made, slow=False)
    values = params.load(Path(os.environ["PARAMS"])).model_dump() | {
        "width": 8,
        "epochs": 1,
        "dataset": "fashion-mnist",
    }
    setattr(prepare, "fashion_mnist", lambda size: source)  # noqa: B010 - in place of the real one
    prepare.prepare(Path("prepared"), **{k: values[k] for k in params.names(prepare.prepare)})
    print(f"PEAK {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}", flush=True)
    train.train(
        Path("prepared"), Path("network.pt"), Path("curves"), Path("speed"),
        **{k: values[k] for k in params.names(train.train)},
    )  # fmt: skip
    print(f"PEAK {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}", flush=True)


def main() -> None:
    """Run `measure` for both counts in processes of their own and compare."""
    if len(sys.argv) > 1:
        measure(int(sys.argv[1]))
        return
    root, peaks = Path.cwd(), {}
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as folder:
            env = {**os.environ, "PYTHONPATH": str(root), "PARAMS": str(root / "params.yaml"), "DVC_NO_ANALYTICS": "1"}
            subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
            who = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
            subprocess.run(["git", *who, "commit", "--quiet", "--allow-empty", "-m", "x"], cwd=folder, check=True)
            command = [sys.executable, "-m", "benchmarks.memory", str(count)]
            done = subprocess.run(command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True, check=True)
            peaks[count] = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("PEAK")]
            print(
                f"{count:,} pictures: peak {peaks[count][0]:,} MiB after prepare, {peaks[count][1]:,} MiB after train"
            )
    few, many = (peaks[count][1] for count in COUNTS)
    print(f"600,000 take {many - few:,} MiB more than 60,000; the goal is at most 2,048")


if __name__ == "__main__":
    main()
