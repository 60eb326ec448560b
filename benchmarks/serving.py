"""The app beside a bare server, the ancestor's recipe and the model alone: medians of interleaved rounds, one machine.

    python -m benchmarks.serving [--models DIR] [--rounds N] [--seconds S] [--write]

Every server is started once and idles while another one is measured. Absolute figures swing with the machine; what
counts are the ratios, whose parts were measured in the same minutes. The model alone is asked again and again with all
of it in the processor's caches; in a server the rest of the request has pushed it out in between.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from rich.console import Console
from rich.table import Table

from app.classifier import Classifier
from app.pictures import decode, to_model_input
from benchmarks import contestants, load
from benchmarks.load import Ask, Tally
from benchmarks.servers import APP, Server, model_dir, running, sample

CLIENTS = (1, 8, 32)
STARTS = 5
REST = 3.0  # seconds after the start until memory is read
RESULTS = Path("benchmarks/results/serving.md")
PACKAGES = ("fastapi", "uvicorn", "gradio", "onnxruntime", "numpy", "pillow", "torch", "torchvision")
FP32, INT8, BARE, TORCH, TORCH_1 = "app fp32", "app int8", "bare fp32", "ancestor", "ancestor 1 thread"


@dataclass
class Series:
    """One server at one number of clients: a value a round."""

    tallies: list[Tally] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)  # of the server, a request

    def rate(self) -> float:
        """Answers a second, median."""
        return statistics.median(tally.rate for tally in self.tallies)

    def percentile(self, percent: float) -> float:
        """Latency in milliseconds, median of the rounds' percentiles."""
        return statistics.median(tally.percentile(percent) for tally in self.tallies)

    def cpu(self) -> float:
        """The server's processor milliseconds a request, median."""
        return statistics.median(self.cpu_ms)


@dataclass(frozen=True)
class Report:
    """A table; its cells are text already."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def rich(self) -> Table:
        table = Table(title=self.title, title_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        lines = [self.columns, ("---", *("--:" for _ in self.columns[1:])), *self.rows]
        return "\n".join([f"## {self.title}", "", *(f"| {' | '.join(line)} |" for line in lines), ""])


def start_all(stack: ExitStack, models: Path, folder: Path) -> dict[str, tuple[Server, Ask]]:
    """Starts every contestant, to be stopped with the stack; by name, with the request that it understands."""
    file = sample(models)
    ours = Ask(load.upload("/v1/predict", "files", file))
    theirs = Ask(load.upload("/predict", "file", file))
    fp32 = str(models / "model.onnx")

    def app(model: str) -> Server:
        served = model_dir(folder / model, models, model)
        return stack.enter_context(running(APP, {"MODEL_DIR": str(served), "PAGE": "off"}))

    def other(*arguments: str) -> Server:
        return stack.enter_context(running(contestants.__name__, {}, *arguments))

    return {
        FP32: (app("model.onnx"), ours),
        INT8: (app("model.int8.onnx"), ours),
        BARE: (other("bare", fp32), theirs),
        TORCH: (other("ancestor"), theirs),
        TORCH_1: (other("ancestor", "1"), theirs),
    }


def ask_for(pool: ProcessPoolExecutor, server: Server, ask: Ask, clients: int, seconds: float) -> tuple[Tally, float]:
    """A closed load; what it brought, and the server's processor milliseconds a request.

    Raises:
        RuntimeError: an answer was not 200, or did not come.
    """
    before = server.cpu_seconds()
    tally = pool.submit(load.run_closed, server.port, [ask], clients, seconds).result()
    if tally.wrong or tally.lost or not tally.answers:
        raise RuntimeError(f"{server.process.args!r}: statuses {dict(tally.statuses)}, lost {dict(tally.lost)}")
    return tally, (server.cpu_seconds() - before) / tally.answers * 1000


def measure(models: Path, rounds: int, seconds: float) -> list[Report]:
    """The servers under load, the model alone, and the ratios."""
    series: dict[tuple[str, int], Series] = {}
    floors: dict[str, list[float]] = {"model.onnx": [], "model.int8.onnx": []}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        generator, alone = stack.enter_context(load.apart()), stack.enter_context(load.apart())
        servers = start_all(stack, models, folder)
        for server, ask in servers.values():
            ask_for(generator, server, ask, 2, 1.0)  # the first requests pay for imports and caches
        for _ in range(rounds):
            for clients in CLIENTS:
                for file, values in floors.items():
                    values.append(alone.submit(contestants.floor, str(models / file), seconds / 3).result())
                for name, (server, ask) in servers.items():
                    one = series.setdefault((name, clients), Series())
                    tally, cpu = ask_for(generator, server, ask, clients, seconds)
                    one.tallies.append(tally)
                    one.cpu_ms.append(cpu)
        memory = {name: server.resident_mb() for name, (server, _) in servers.items()}
    return [
        under_load(series, memory),
        Report(
            "The model alone, batch 1, one thread",
            ("file", "CPU-ms"),
            [(file, f"{statistics.median(values):.3f}") for file, values in floors.items()],
        ),
        ratios(series, {file: statistics.median(values) for file, values in floors.items()}),
    ]


def under_load(series: dict[tuple[str, int], Series], memory: dict[str, float]) -> Report:
    """Every server at every number of clients; processor time is its own, a request; memory as it is afterwards."""
    columns = (
        "server", "clients", "answers/s", "p50 ms", "p95 ms", "p99 ms", "CPU-ms", "MB",
    )  # fmt: skip
    rows = [
        (
            name,
            str(clients),
            f"{one.rate():,.0f}",
            *(f"{one.percentile(percent):.1f}" for percent in (50, 95, 99)),
            f"{one.cpu():.2f}",
            f"{memory[name]:.0f}",
        )
        for (name, clients), one in sorted(series.items(), key=lambda item: item[0][1])
    ]
    return Report("Under load", columns, rows)


def _clients(number: int) -> str:
    return f"{number} client{'s' if number > 1 else ''}"


def ratios(series: dict[tuple[str, int], Series], floors: dict[str, float]) -> Report:
    """What the goals are about."""
    least, most = CLIENTS[0], CLIENTS[-1]
    rows = []
    for name, file, goal in ((FP32, "model.onnx", "at most 1.5"), (INT8, "model.int8.onnx", "")):
        for clients in CLIENTS:
            value = series[name, clients].cpu() / floors[file]
            rows.append((f"CPU, {name} / model alone, {_clients(clients)}", f"{value:.2f}", goal))
    for clients in CLIENTS:
        value = series[FP32, clients].cpu() / series[BARE, clients].cpu()
        rows.append((f"CPU, {FP32} / bare, {_clients(clients)}", f"{value:.2f}", ""))
    value = series[FP32, most].percentile(99) / series[BARE, most].percentile(99)
    rows.append((f"p99, {FP32} / bare, {_clients(most)}", f"{value:.2f}", "at most 1"))
    for name, goal in ((TORCH, "at least 30"), (TORCH_1, "at least 10")):
        for ours in (FP32, INT8):
            value = series[ours, least].rate() / series[name, least].rate()
            rows.append((f"answers/s, {ours} / {name}, {_clients(least)}", f"{value:.1f}", goal))
    return Report("Ratios", ("", "measured", "goal"), rows)


@dataclass(frozen=True)
class Start:
    """One start of the app.

    Attributes:
        first: seconds from process start to the first right answer.
        page: seconds from process start until the page is there; None where none came.
        resident_mb: memory, REST after both.
    """

    first: float
    page: float | None
    resident_mb: float


def start(models: Path, page: str, right: str) -> Start:
    """Starts the app with this PAGE, asks until it answers, and stops it.

    Raises:
        RuntimeError: it ended, or the class that it answered is not the right one.
    """
    ask = load.upload("/v1/predict", "files", sample(models))
    with running(APP, {"MODEL_DIR": str(models), "PAGE": page}) as server:
        while not (answer := load.once(server.port, ask)) or answer.status != 200:
            if server.process.poll() is not None:
                raise RuntimeError("the app ended instead of answering")
            time.sleep(0.005)
        first = time.perf_counter() - server.started
        if json.loads(answer.body)["answers"][0]["class"] != right:
            raise RuntimeError(f"{answer.body!r} does not say {right}")
        status, body = server.get("/", "text/html")
        while page == "on" and status != 200:
            time.sleep(0.01)
            status, body = server.get("/", "text/html")
        shown = time.perf_counter() - server.started if b"gradio" in body else None
        time.sleep(REST)
        return Start(first, shown, server.resident_mb())


def starts(models: Path, times: int) -> Report:
    """Start and memory of the app, with the page and without."""
    classifier = Classifier.from_directory(models)
    seen = to_model_input(decode(sample(models)), classifier.image_size)
    right = classifier.class_names[int(classifier.predict(seen[None]).probabilities[0].argmax())]
    start(models, "on", right)  # compiles the bytecode, and brings the files into memory
    found: dict[str, list[Start]] = {"off": [], "on": []}
    for _ in range(times):
        for page, values in found.items():
            values.append(start(models, page, right))
    rows = []
    for page, values in found.items():
        pages = [one.page for one in values if one.page is not None]
        rows.append(
            (
                f"PAGE={page}" + (", which this app does not heed" if page == "off" and pages else ""),
                f"{statistics.median(one.first for one in values):.2f}",
                f"{statistics.median(pages):.2f}" if pages else "none",
                f"{statistics.median(one.resident_mb for one in values):.0f}",
            )
        )
    columns = ("app", "first answer, s", "page, s", "MB at rest")
    return Report(f"Start, median of {times}, bytecode compiled", columns, rows)


def machine() -> str:
    """What it was measured on, in one sentence."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return f"{cpu}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, {versions}"


def main() -> None:
    """Measure, print, and with --write keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("models"), help="folder with both exported files")
    parser.add_argument("--rounds", type=int, default=5, help="of all servers")
    parser.add_argument("--seconds", type=float, default=3.0, help="of load for each server and number of clients")
    parser.add_argument("--starts", type=int, default=STARTS, help="of the app, with and without the page")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.as_posix()}")
    options = parser.parse_args()
    models = options.models.resolve()
    reports = [*measure(models, options.rounds, options.seconds), starts(models, options.starts)]
    how = f"{options.rounds} rounds of {options.seconds:g} s, medians. {date.today().isoformat()}; {machine()}."
    for report in reports:
        Console().print(report.rich())
    print(how)
    if options.write:
        text = "\n".join(["# Serving, measured", "", f"By `python -m benchmarks.serving --write`: {how}", ""])
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("\n".join([text, *(report.markdown() for report in reports)]), "utf-8", newline="\n")


if __name__ == "__main__":
    main()
