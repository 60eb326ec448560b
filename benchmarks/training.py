"""A training step beside the course project's, and what surrounds it: medians of interleaved rounds on this machine.

The baseline is that recipe, written anew: torchvision's ResNet-18 with its 7x7 stem at stride 2, Adam 1e-3, batches of
64, no augmentation, fp32. Ours is params.yaml, once as `train` runs it and once with `precision: reproducible`. The
figures go to benchmarks/results/training.json, and from there into the README's table (`invoke publish`).
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision

from stages import batches, optimizers, params, pins, train
from stages.network import Network
from stages.stage import StageError, write_json

RESULTS = Path("benchmarks/results/training.json")
PREPARED = Path("data/prepared")
ROUNDS = 7
PICTURES = 1280  # of each contestant in a round
BASELINE_BATCH = 64
Step = Callable[[int], None]


def baseline(data: batches.Split) -> tuple[torch.nn.Module, Step]:
    """The course project's network, and a step of its recipe, on the batch of that number."""
    network = torchvision.models.resnet18(num_classes=10)
    network.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    todo = batches.order(0, 0, len(data), BASELINE_BATCH)

    def step(number: int) -> None:
        images, labels = data.take(todo[number])
        optimizer.zero_grad()
        F.cross_entropy(network(images.unsqueeze(1).float() / 255), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return network, step


def ours(data: batches.Split, values: params.Params, feeding: list[float]) -> Step:
    """A step as `train` makes it; the seconds until its pictures are there go to `feeding`."""
    device, dtype = train.choose(values.precision)
    network = Network(10, values.width).to(device).to(memory_format=torch.channels_last)
    moving = optimizers.make_optimizers(network, values.lr, values.weight_decay)
    todo = batches.order(values.seed, 0, len(data), values.batch_size)
    mirrored = batches.mirrored(values.seed, len(data))

    def step(number: int) -> None:
        started = time.perf_counter()
        images, labels = data.take(todo[number])
        images = batches.augment(images, mirrored[todo[number]], values.augment, (values.seed, 3, 0, number))
        feeding.append(time.perf_counter() - started)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = F.cross_entropy(network(images), labels, label_smoothing=values.label_smoothing)
        network.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in moving:
            optimizer.step()

    return step


def microseconds(step: Step, batch: int, start: int, count: int) -> float:
    """A picture's share of `count` steps."""
    started = time.perf_counter()
    for number in range(start, start + count):
        step(number)
    return (time.perf_counter() - started) / (count * batch) * 1e6


def rounds(values: params.Params) -> dict[str, float]:
    """Microseconds a picture of both contestants, and of ours the share that feeds it; medians."""
    data = batches.read_split(PREPARED, "train", train.choose(values.precision)[0])
    feeding: list[float] = []
    contestants = {
        "baseline": (baseline(data)[1], BASELINE_BATCH),
        "ours": (ours(data, values, feeding), values.batch_size),
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(ROUNDS + 1):
        for name, (step, batch) in contestants.items():
            count = PICTURES // batch
            times[name].append(microseconds(step, batch, number * count, count))
    found = {name: statistics.median(figures[1:]) for name, figures in times.items()}  # the first is warm-up
    found["spread"] = (max(times["ours"][1:]) - min(times["ours"][1:])) / found["ours"]
    return found | {"feeding": statistics.median(feeding) / values.batch_size * 1e6 / found["ours"]}


def in_process(values: params.Params, precision: str, environment: dict[str, str]) -> dict[str, float]:
    """`rounds` in a process of its own, in which libraries have read their environment anew."""
    code = f"import json; from benchmarks import training as t; t.told({precision!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def told(precision: str) -> None:
    """Print the `rounds` of a precision as JSON, for `in_process`."""
    torch.set_deterministic_debug_mode("error")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    print(json.dumps(rounds(params.load().model_copy(update={"precision": precision}))))


def seconds(*command: str) -> float:
    """Median of three runs of a command."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    """Measure, print the table, write the figures."""
    if not PREPARED.exists():
        sys.exit("training: data/prepared is missing: run `uv run dvc repro`")
    try:
        values = params.load()
    except StageError as error:
        sys.exit(f"training: {error}")
    here = in_process(values, values.precision, {})
    pinned = in_process(values, "reproducible", pins.PINS)
    count = len(batches.read_split(PREPARED, "train", torch.device("cpu")))
    dvc = (sys.executable, "-m", "dvc")
    found: dict[str, Any] = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "dtype": str(train.choose(values.precision)[1]).removeprefix("torch."),
            "torch": torch.__version__,
        },
        "epoch": {name: round(here[name] * count / 1e6, 1) for name in ("baseline", "ours")},
        "reproducible_epoch": round(pinned["ours"] * count / 1e6, 1),
        "epochs": values.epochs,
        "parameters": sum(p.numel() for p in Network(10, values.width).parameters()),
        "spread": round(here["spread"], 3),
        "feeding": round(here["feeding"], 4),
        "nothing_to_do": {
            "dvc repro": round(seconds(*dvc, "repro"), 2),
            "dvc --version": round(seconds(*dvc, "--version"), 2),
        },
    }
    write_json(RESULTS, found)
    for line in table(found):
        print(line)


def table(found: dict[str, Any]) -> list[str]:
    """The figures as rows of Markdown, for the README."""
    base, own = found["epoch"]["baseline"], found["epoch"]["ours"]
    whole = own * found["epochs"]
    machine = f"{found['machine']['threads']} threads, {found['machine']['dtype']}"
    rows = [
        ("an epoch of the course project's ResNet-18, fp32", f"{base:.0f} s"),
        (f"an epoch of ours, {found['parameters']:,} parameters, {machine}", f"{own:.0f} s: {own / base:.2f} of it"),
        (f"training, {found['epochs']} epochs", f"{whole / 60:.1f} min, {whole / base:.1f} epochs of theirs"),
        ("with `precision: reproducible`", f"{found['reproducible_epoch'] / own:.1f} times as long"),
        ("pictures and augmentation", f"{found['feeding']:.1%} of a step"),
        ("`dvc repro` with nothing to do", f"{found['nothing_to_do']['dvc repro']:.1f} s; `dvc --version`: "
                                           f"{found['nothing_to_do']['dvc --version']:.1f} s"),
    ]  # fmt: skip
    head = [f"| training, medians of {ROUNDS} interleaved rounds | |", "|---|---|"]
    return [*head, *(f"| {name} | {figure} |" for name, figure in rows)]


if __name__ == "__main__":
    main()
