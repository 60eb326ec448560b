"""What surrounds the steps of a training: its start, and what dvclive, the progress bar and the checkpoints take.

`train` runs as it is, in a process of its own and with all its epochs, on few pictures; its calls are timed. The goals:
the first step is done within 3 s of the start, and the rest is within 2 % of the training's time.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from stages import params
from stages.stage import StageError, read_json, write_json

RESULTS = Path("benchmarks/results/overhead.json")
PREPARED = Path("data/prepared")
STARTS = 5
STEPS = 4  # of an epoch, while the calls are timed


def first_step(folder: Path) -> tuple[float, float]:
    """Seconds until the first step of `python -m stages.train` is done, and of `import torch`; medians of STARTS."""
    steps, imports = [], []
    for _ in range(STARTS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        imports.append(time.perf_counter() - start)
        steps.append(_child(folder, "until_first_step", time.time()))
    return statistics.median(steps), statistics.median(imports)


def around(folder: Path) -> dict[str, float]:
    """Seconds of a whole training by what takes them; of a step itself and of its progress bar, for one."""
    found: dict[str, float] = _child(folder, "timed")
    return found


def _child(folder: Path, function: str, *arguments: object) -> Any:
    code = f"from benchmarks import overhead; overhead.{function}(*{arguments!r})"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def until_first_step(started: float) -> None:
    """Train until a step is done, and print the seconds since `started`, by the clock of all processes."""
    from stages import train
    from stages.muon import Muon

    step = Muon.step

    def last(self: Muon, *arguments: Any) -> None:
        step(self, *arguments)
        print(time.time() - started, flush=True)
        os._exit(0)

    setattr(Muon, "step", last)  # noqa: B010 - in place of the real one
    train.main()


def timed() -> None:
    """Train, and print what `around` returns."""
    from stages import checkpoint, train

    spent: dict[str, float] = {}
    for module, names in ((train, ("record_curves", "record_speed")), (checkpoint, ("save", "copy"))):
        for name in names:
            setattr(module, name, _timing(getattr(module, name), name, spent))
    taken: list[float] = []
    steps: list[float] = []

    def bar(items: Any, title: str, **_: Any) -> Iterator[Any]:
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:  # drawn as on a terminal
            progress = iter(tqdm(items, title, leave=False, file=nowhere, mininterval=0))
            while True:
                start = time.perf_counter()
                item = next(progress, None)
                taken.append(time.perf_counter() - start)
                if item is None:
                    return
                start = time.perf_counter()
                yield item
                steps.append(time.perf_counter() - start)

    setattr(train, "tqdm", bar)  # noqa: B010
    train.main()
    print(json.dumps(spent | {"progress, a step": statistics.median(taken), "a step": statistics.median(steps)}))


def _timing(function: Callable[..., Any], name: str, spent: dict[str, float]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        start = time.perf_counter()
        result = function(*arguments, **named)
        spent[name] = spent.get(name, 0.0) + time.perf_counter() - start
        return result

    return call


def measure(values: dict[str, Any]) -> dict[str, Any]:
    """Both, for data/prepared and the params `values`.

    Returns:
        `first_step` in seconds, on the whole train split, of which torch's own import takes `import_torch`; `around`
        as a share of the training's time.
    """
    from benchmarks.profile import shorten  # here, since the children shall start as `train` does
    from deploy.verify import machine

    with tempfile.TemporaryDirectory(prefix="atelier-overhead-") as scratch:
        whole, short = Path(scratch) / "whole", Path(scratch) / "short"
        for folder in (whole, short):
            (folder / "data").mkdir(parents=True)
            write_json(folder / "params.yaml", values)  # JSON is YAML
        shutil.copytree(PREPARED, whole / "data/prepared")
        shorten(PREPARED, short / "data/prepared", STEPS * values["batch_size"])
        (start, torch), calls = first_step(whole), around(short)
    steps = sum(read_json(PREPARED / "meta.json")["counts"]["train"].values()) // values["batch_size"]
    bar, step = calls.pop("progress, a step"), calls.pop("a step")
    each = sum(calls.values()) / values["epochs"] + bar * steps
    return {
        "machine": machine(),
        "first_step": round(start, 2),
        "import_torch": round(torch, 2),
        "around": round(each / (each + step * steps), 4),
    }


def main() -> None:
    """Measure, print, and write RESULTS."""
    if not PREPARED.exists():
        sys.exit("overhead: data/prepared is missing: run `uv run dvc repro`")
    try:
        found = measure(params.load().model_dump())
    except StageError as error:
        sys.exit(f"overhead: {error}")
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8", newline="\n")
    print("\n".join(table(found)))


def table(found: dict[str, Any]) -> list[str]:
    """What was measured, in Markdown."""
    return [
        f"| around the steps of a training, {found['machine']} | |",
        "|---|---|",
        f"| `python -m stages.train` to the end of its first step | {found['first_step']:.1f} s; "
        f"`import torch` alone: {found['import_torch']:.1f} s |",
        f"| dvclive, progress and checkpoints | {found['around']:.1%} of a training |",
    ]


if __name__ == "__main__":
    main()
