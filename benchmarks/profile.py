"""Where a training step's time goes: the real `train` on the first pictures of data/prepared, under torch.profiler.

Writes .atelier/profile/trace.json.gz, for ui.perfetto.dev or chrome://tracing, and prints a page: the parts of a step,
each by its own and its children's time, and the operators that take longest.
"""

import contextlib
import functools
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile, record_function

from stages import batches, params, train
from stages.muon import Muon
from stages.network import Network
from stages.stage import StageError, read_json, write_json

OUT = Path(".atelier/profile")
STEPS = 40
# What a step is made of: where it lives, and what it is called in the table.
PARTS: tuple[tuple[Any, str, str], ...] = (
    (batches.Split, "take", "take pictures"),
    (batches, "augment", "augment"),
    (Network, "forward", "forward"),
    (torch.Tensor, "backward", "backward"),
    (Muon, "step", "Muon"),
    (torch.optim.AdamW, "step", "AdamW"),
)
TRAIN_LOOP = "train"


def named(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with its calls named in the trace."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with record_function(f"step: {part}"):
            return function(*args, **kwargs)

    return call


@contextlib.contextmanager
def parts_named() -> Iterator[None]:
    """Name the parts of a step while the block runs."""
    with contextlib.ExitStack() as patches:
        for owner, name, part in PARTS:
            patches.enter_context(patch.object(owner, name, named(part, getattr(owner, name))))
        yield


def shorten(prepared: Path, out: Path, count: int) -> None:
    """Copy data/prepared with the first `count` train pictures alone."""
    out.mkdir()
    for file in prepared.iterdir():
        shutil.copy(file, out)
    for kind in ("images", "labels"):
        np.save(out / f"train.{kind}.npy", np.load(prepared / f"train.{kind}.npy", mmap_mode="r")[:count])
    for name in ("val", "test"):
        for kind in ("images", "labels"):
            np.save(out / f"{name}.{kind}.npy", np.load(prepared / f"{name}.{kind}.npy", mmap_mode="r")[:100])
    meta = read_json(prepared / "meta.json")
    write_json(out / "meta.json", meta | {"sha256": f"the first {count} of {meta['sha256']}"})


def measure(prepared: Path, steps: int, **values: Any) -> profile:
    """Profile one epoch of so many steps.

    Raises:
        StageError: what `train` says.
    """
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        folder = Path(scratch)
        shorten(prepared, folder / "prepared", values["batch_size"] * steps)
        once = values | {"epochs": 1}
        places = folder / "network.pt", folder / "curves", folder / "speed"
        train.train(folder / "prepared", *places, **once)  # what is slow once only
        with parts_named(), profile(activities=activities) as found, record_function(TRAIN_LOOP):
            train.train(folder / "prepared", *places, **once)
    return found


def rows(found: profile) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """Milliseconds in all: of each part with what it calls, and of the ten longest operators by themselves."""
    device = "device" if torch.cuda.is_available() else "cpu"
    averages = found.key_averages()
    parts = [(e.key.removeprefix("step: "), e.cpu_time_total / 1e3) for e in averages if e.key.startswith("step: ")]
    operators = [(e.key, getattr(e, f"self_{device}_time_total") / 1e3) for e in averages if "::" in e.key]
    return sorted(parts, key=lambda row: -row[1]), sorted(operators, key=lambda row: -row[1])[:10]


def main() -> None:
    """Profile with params.yaml and print the page."""
    prepared = Path("data/prepared")
    try:
        if not prepared.exists():
            raise StageError("data/prepared is missing: run `uv run dvc repro prepare`")
        values = {
            k: v for k, v in params.load(Path("params.yaml")).model_dump().items() if k in params.names(train.train)
        }
        found = measure(prepared.resolve(), STEPS, **values)
    except StageError as error:
        sys.exit(f"profile: {error}")
    OUT.mkdir(parents=True, exist_ok=True)
    found.export_chrome_trace(str(OUT / "trace.json.gz"))
    parts, operators = rows(found)
    whole = sum(milliseconds for _, milliseconds in parts)
    pictures = STEPS * values["batch_size"]
    for title, entries in (("part of a step", parts), ("operator, by itself", operators)):
        table = Table(title, "share", "ms a step", "µs a picture")
        for name, milliseconds in entries:
            share = f"{milliseconds / whole:.1%}"
            table.add_row(name, share, f"{milliseconds / STEPS:.2f}", f"{milliseconds / pictures * 1000:.1f}")
        Console().print(table)
    print(f"{STEPS} steps of {values['batch_size']} pictures; ui.perfetto.dev opens the trace: {OUT / 'trace.json.gz'}")


if __name__ == "__main__":
    main()
