"""A grid of 24 points by `invoke sweep`: as many at a time as there are cores, beside one after the other.

Each point is a small run of the four stages on sketches, in a clone with nothing cached but their pictures. The two
grids differ in the sixth digit of the learning rate, since DVC does not run again what it has run.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from deploy import sweep_here
from deploy.verify import machine

RESULTS = Path("benchmarks/results/sweep.json")
POINTS = 24
TOGETHER, ALONE = 0.003002, 0.003001  # the first learning rate of each grid; in none is that of params.yaml
SMALL = {"dataset": "sketches", "sketches": 6000, "width": 32, "epochs": 3, "batch_size": 128, "min_accuracy": 0.0}
COMMITTER = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")


def clone(folder: Path) -> None:
    """A clone of the last commit with SMALL params, and the pictures prepared."""
    subprocess.run(["git", "clone", "--quiet", ".", str(folder)], check=True)
    file = folder / "params.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text(encoding="utf-8")) | SMALL), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["git", *COMMITTER, "commit", "--quiet", "--all", "--message", "small"], cwd=folder, check=True)


def grid(first: float) -> str:
    """POINTS learning rates from `first` on, as `invoke sweep` takes them."""
    return "lr=" + ",".join(f"{first + number * 1e-4:.6f}" for number in range(POINTS))


def seconds(folder: Path, first: float, *options: str) -> float:
    """How long the grid from `first` on takes."""
    with (folder.parent / "log").open("w+", encoding="utf-8") as log:
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "invoke", "sweep", "--grid", grid(first), *options],
            cwd=folder,
            stdout=log,
            stderr=log,
            check=False,
        )
        took = time.perf_counter() - start
        log.seek(0)
        if done.returncode:
            sys.exit(f"sweep: it failed:\n{log.read()[-2000:]}")
    return took


def main() -> None:
    """Measure, print, and write RESULTS."""
    with tempfile.TemporaryDirectory(prefix="atelier-sweep-") as scratch:
        folder = Path(scratch) / "clone"
        clone(folder)
        together = seconds(folder, TOGETHER)
        print(f"{POINTS} points side by side: {together:.0f} s", flush=True)
        alone = seconds(folder, ALONE, "--jobs", "1")
    found = {
        "machine": machine(),
        "cores": sweep_here.machine()[0],
        "points": POINTS,
        "side_by_side": round(together, 1),
        "one_by_one": round(alone, 1),
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8", newline="\n")
    print("\n".join(table(found)))


def table(found: dict[str, Any]) -> list[str]:
    """What was measured, in Markdown."""
    both = found["side_by_side"], found["one_by_one"]
    return [
        f"| a sweep of {found['points']} small runs, {found['cores']} cores, {found['machine']} | |",
        "|---|---|",
        f"| as many at a time as there are cores, a thread each | {both[0]:.0f} s |",
        f"| one after the other, all threads each | {both[1]:.0f} s, {both[1] / both[0]:.2f} times as long |",
    ]


if __name__ == "__main__":
    main()
