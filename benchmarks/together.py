"""How far the losses of one process and of two lie apart in the first steps of a training, a thread a process.

`train` runs as it is, launched as the stage launches it, with data/prepared and params.yaml, and ends when it looks at
its losses for the second time.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from deploy.verify import machine
from stages import params, train, world
from stages.launch import launch
from stages.stage import StageError, write_json

RESULTS = Path("benchmarks/results/together.json")
PREPARED = Path("data/prepared")
LOSSES = Path("losses.json")  # what a run leaves, in a folder of its own
STEPS = train.CHECK_EVERY
PROCESSES = 2


def first_losses() -> None:
    """Train as one of the processes of this environment until the first STEPS losses, or an epoch's, are in LOSSES."""
    place = world.find(1)
    check = train.check_finite

    def look(losses: torch.Tensor, *where: Any) -> None:
        check(losses, *where)
        if losses[min(STEPS, len(losses) - 1)]:  # zero until there is one
            if place.first:
                write_json(LOSSES, losses[:STEPS].tolist())
            os._exit(0)

    setattr(train, "check_finite", look)  # noqa: B010 - in place of the real one
    train.main()


def launched(processes: int) -> None:
    """`first_losses` in so many processes."""
    launch([sys.executable, "-c", "from benchmarks import together; together.first_losses()"], world.find(processes))


def losses(values: dict[str, Any], processes: int) -> list[float]:
    """The first losses by so many processes, a thread each; not more than an epoch has.

    Raises:
        StageError: they failed, and have said why.
    """
    with tempfile.TemporaryDirectory(prefix="atelier-together-") as scratch:
        folder = Path(scratch)
        shutil.copytree(PREPARED, folder / PREPARED)
        write_json(folder / "params.yaml", values)  # JSON is YAML
        threads = str(processes)  # which the launcher deals out
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": threads}
        command = [sys.executable, "-c", f"from benchmarks import together; together.launched({processes})"]
        if subprocess.run(command, cwd=folder, env=environment, check=False).returncode:
            raise StageError(f"{processes} processes failed")
        found: list[float] = json.loads((folder / LOSSES).read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Measure, print, and write RESULTS."""
    if not PREPARED.exists():
        sys.exit("together: data/prepared is missing: run `uv run dvc repro`")
    try:
        values = params.load().model_dump()
        one, several = losses(values, 1), losses(values, PROCESSES)
    except StageError as error:
        sys.exit(f"together: {error}")
    apart = [abs(a - b) for a, b in zip(one, several, strict=True)]
    found = {"machine": machine(), "processes": PROCESSES, "apart": [float(f"{figure:.3g}") for figure in apart]}
    write_json(RESULTS, found)
    print("\n".join(table(found)))


def table(found: dict[str, Any]) -> list[str]:
    """What was measured, in Markdown."""
    apart = found["apart"]
    counts = sorted({1, max(1, len(apart) // 2), len(apart)})
    return [
        f"| losses of one process and of {found['processes']}, a thread each, {found['machine']} | apart at most |",
        "|---|---|",
        *(f"| in the first {f'{n} steps' if n > 1 else 'step'} | {max(apart[:n]):.1e} |" for n in counts),
    ]


if __name__ == "__main__":
    main()
