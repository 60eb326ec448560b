"""How far the losses of one process and of two lie apart in the first steps of a training, a thread a process.

Beside that, how far those of one process lie apart with one thread and with two: what other rounding alone does.

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


def losses(values: dict[str, Any], processes: int, threads: int) -> list[float]:
    """The first losses by so many processes that share so many threads; not more than an epoch has.

    Raises:
        StageError: they failed, and have said why.
    """
    with tempfile.TemporaryDirectory(prefix="atelier-together-") as scratch:
        folder = Path(scratch)
        shutil.copytree(PREPARED, folder / PREPARED)
        write_json(folder / "params.yaml", values)  # JSON is YAML
        here = str(Path(__file__).parents[1])
        environment = {**os.environ, "PYTHONPATH": here, "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-c", f"from benchmarks import together; together.launched({processes})"]
        if subprocess.run(command, cwd=folder, env=environment, check=False).returncode:
            raise StageError(f"the training by {processes} failed")
        found: list[float] = json.loads((folder / LOSSES).read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Measure, print, and write RESULTS."""
    if not PREPARED.exists():
        sys.exit("together: data/prepared is missing: run `uv run dvc repro`")
    try:
        values = params.load().model_dump()
        one = losses(values, 1, 1)
        several, threaded = losses(values, PROCESSES, PROCESSES), losses(values, 1, PROCESSES)
    except StageError as error:
        sys.exit(f"together: {error}")
    found = {
        "machine": machine(),
        "processes": PROCESSES,
        "apart": apart(one, several),
        "apart_by_threads": apart(one, threaded),
    }
    write_json(RESULTS, found)
    print("\n".join(table(found)))


def apart(some: list[float], others: list[float]) -> list[float]:
    """How far the losses of each step lie apart, to three digits."""
    return [float(f"{abs(a - b):.3g}") for a, b in zip(some, others, strict=True)]


def table(found: dict[str, Any]) -> list[str]:
    """What was measured, in Markdown."""
    processes, threads = found["apart"], found["apart_by_threads"]
    n = found["processes"]
    steps = len(processes)
    counts = sorted({1, max(1, steps // 2), steps})
    return [
        f"| losses lie apart at most, {found['machine']} | one process and {n}, a thread each "
        f"| one process, with one thread and with {n} |",
        "|---|---|---|",
        *(
            f"| in the first {f'{count} steps' if count > 1 else 'step'} | {max(processes[:count]):.1e} "
            f"| {max(threads[:count]):.1e} |"
            for count in counts
        ),
    ]


if __name__ == "__main__":
    main()
