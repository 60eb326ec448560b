"""A training step beside the course project's, and what surrounds it: medians of interleaved rounds on this machine.

The baseline is that recipe, written anew: torchvision's ResNet-18 with its 7x7 stem at stride 2, Adam 1e-3, batches of
64, no augmentation, fp32. Ours is params.yaml, as `train` runs it and with `precision: reproducible`, which takes turns
in processes of its own. The figures go to benchmarks/results/training.json, and from there into the README's table
(`invoke publish`).
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from tqdm import tqdm

from deploy.verify import machine
from stages import batches, optimizers, params, pins, train
from stages.network import Network
from stages.stage import StageError, write_json

RESULTS = Path("benchmarks/results/training.json")
PREPARED = Path("data/prepared")
TURNS = 2  # of each kind of process
ROUNDS = 4  # in each, after one that warms up
PICTURES = 1280  # of each contestant in a round
BASELINE_BATCH = 64
Step = Callable[[int], None]


def baseline(data: batches.Split) -> tuple[torch.nn.Module, Step]:
    """The course project's network, and a step of its recipe, on the batch of that number."""
    network = torchvision.models.resnet18(num_classes=10)
    network.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    network = network.to(data.device)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    todo = batches.order(0, 0, len(data), BASELINE_BATCH)

    def step(number: int) -> None:
        images, labels = data.take(todo[number % len(todo)])
        optimizer.zero_grad()
        F.cross_entropy(network(images.unsqueeze(1).float() / 255), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return network, step


def ours(data: batches.Split, values: params.Params, feeding: list[float]) -> Step:
    """A step as `train` makes it; the seconds until its pictures are there go to `feeding`."""
    device, dtype = train.choose(values.precision)
    network = Network(10, values.width).to(device).to(memory_format=torch.channels_last)
    moving = optimizers.make_optimizers(
        network, values.lr, values.weight_decay, fused=values.precision == "reproducible"
    )
    todo = batches.order(values.seed, 0, len(data), values.batch_size)
    mirrored = batches.mirrored(values.seed, len(data))

    def step(number: int) -> None:
        started = time.perf_counter()
        indices = todo[number % len(todo)]
        images, labels = data.take(indices)
        images = batches.augment(images, mirrored[indices], values.augment, (values.seed, 3, 0, number))
        feeding.append(time.perf_counter() - started)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = F.cross_entropy(network(images), labels, label_smoothing=values.label_smoothing)
        network.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in moving:
            optimizer.step()

    return step


def wait() -> None:
    """Until a GPU has done what it was asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def microseconds(step: Step, batch: int, start: int, count: int) -> float:
    """A picture's share of `count` steps."""
    wait()
    started = time.perf_counter()
    for number in range(start, start + count):
        step(number)
    wait()
    return (time.perf_counter() - started) / (count * batch) * 1e6


def rounds(values: params.Params, names: list[str], pictures: int) -> dict[str, list[float]]:
    """Microseconds a picture, of each contestant in each round; `feeding`: of ours, what feeds it, in each step."""
    data = batches.read_split(PREPARED, "train", train.choose(values.precision)[0])
    feeding: list[float] = []
    contestants = {
        "baseline": (lambda: baseline(data)[1], BASELINE_BATCH),
        "ours": (lambda: ours(data, values, feeding), values.batch_size),
    }
    steps = {name: contestants[name][0]() for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(ROUNDS + 1):
        for name, step in steps.items():
            batch = contestants[name][1]
            count = pictures // batch
            times[name].append(microseconds(step, batch, number * count, count))
    found = {name: figures[1:] for name, figures in times.items()}
    return found | {"feeding": [second / values.batch_size * 1e6 for second in feeding]}


def in_process(precision: str, environment: dict[str, str], *names: str) -> dict[str, list[float]]:
    """`rounds` in a process of its own, in which libraries have read their environment anew."""
    code = f"from benchmarks import training; training.told({precision!r}, {list(names)}, {PICTURES})"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def told(precision: str, names: list[str], pictures: int) -> None:
    """Print the `rounds` of a precision as JSON, for `in_process`."""
    torch.set_deterministic_debug_mode("error")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    print(json.dumps(rounds(params.load().model_copy(update={"precision": precision}), names, pictures)))


def behind(here: Path = Path()) -> bool:
    """Whether a `dvc repro` here would have something to do, and so train in the middle of a measurement."""
    status = (sys.executable, "-m", "dvc", "status", "--quiet")
    return subprocess.run(status, cwd=here, check=False, capture_output=True).returncode != 0


def nothing_to_do(here: Path = Path()) -> dict[str, float]:
    """Seconds of a `dvc repro` here, of one where a single stage does nothing, and of `dvc --version`."""
    dvc = (sys.executable, "-m", "dvc")
    with tempfile.TemporaryDirectory(prefix="atelier-empty-") as folder:
        Path(folder, "file").touch()
        Path(folder, "dvc.yaml").write_text("stages: {none: {cmd: git --version, deps: [file]}}\n", "utf-8")
        for command in (("git", "init", "--quiet"), (*dvc, "init", "--quiet"), (*dvc, "repro")):
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
        empty = seconds(*dvc, "repro", folder=Path(folder))
    return {
        "dvc repro": seconds(*dvc, "repro", folder=here),
        "least": empty,
        "dvc --version": seconds(*dvc, "--version"),
    }


def seconds(*command: str, folder: Path = Path()) -> float:
    """Median of three runs of a command."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    """Measure, print the table, write the figures."""
    if not PREPARED.exists():
        sys.exit("training: data/prepared is missing: run `uv run dvc repro`")
    if behind():
        sys.exit("training: a `dvc repro` with nothing to do is timed, too, and here it would train: run one first")
    try:
        values = params.load()
    except StageError as error:
        sys.exit(f"training: {error}")
    times: dict[str, list[float]] = {"baseline": [], "ours": [], "reproducible": [], "feeding": []}
    for _ in tqdm(range(TURNS), "turns", leave=False):
        here = in_process(values.precision, {}, "baseline", "ours")
        here["reproducible"] = in_process("reproducible", pins.PINS, "ours")["ours"]
        for name, figures in here.items():
            times[name] += figures
    count = len(batches.read_split(PREPARED, "train", torch.device("cpu")))
    median = {name: statistics.median(figures) for name, figures in times.items()}
    raced = ("baseline", "ours", "reproducible")
    found: dict[str, Any] = {
        "machine": machine(),
        "dtype": str(train.choose(values.precision)[1]).removeprefix("torch."),
        "rounds": TURNS * ROUNDS,
        "epoch": {name: round(median[name] * count / 1e6, 1) for name in raced},
        "spread": {name: round((max(times[name]) - min(times[name])) / median[name], 3) for name in raced},
        "epochs": values.epochs,
        "parameters": sum(p.numel() for p in Network(10, values.width).parameters()),
        "feeding": round(median["feeding"] / median["ours"], 4),
        "nothing_to_do": {name: round(figure, 2) for name, figure in nothing_to_do().items()},
    }
    write_json(RESULTS, found)
    for line in table(found):
        print(line)


def table(found: dict[str, Any]) -> list[str]:
    """The figures as rows of Markdown, for the README."""
    epoch, epochs = found["epoch"], found["epochs"]
    idle = found["nothing_to_do"]

    def row(what: str, name: str, times: int = 1) -> str:
        took = epoch[name] * times
        shown = f"{took:.0f} s" if took < 600 else f"{took / 60:.1f} min"
        return f"| {what} | {shown} | {found['spread'][name]:.0%} | {took / epoch['baseline']:.2f} |"

    return [
        f"| {found['machine']} | median of {found['rounds']} rounds | their spread | epochs of theirs |",
        "|---|---|---|---|",
        row("an epoch of the course project's ResNet-18, float32", "baseline"),
        row(f"an epoch of ours, {found['parameters']:,} parameters, {found['dtype']}", "ours"),
        row(f"training, {epochs} epochs", "ours", epochs),
        row("the same with `precision: reproducible`", "reproducible", epochs),
        f"| pictures and augmentation | {found['feeding']:.1%} of a step | | |",
        f"| `dvc repro` with nothing to do | {idle['dvc repro']:.1f} s | | |",
        f"| DVC's least: a stage without outs, nothing to do; `dvc --version` | {idle['least']:.1f} s; "
        f"{idle['dvc --version']:.1f} s | | |",
    ]


if __name__ == "__main__":
    main()
