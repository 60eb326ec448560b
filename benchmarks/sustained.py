"""The app over minutes at 80 % of what it can do, a tenth of the requests being bad: nothing may fail, leak or slow.

    python -m benchmarks.sustained [--models DIR] [--minutes M]

Requests come at a steady rate, whatever is answered. Good ones must bring the very bytes of the first answer, which
is checked with the model; bad ones their refusal; memory at the end may be a tenth above that of the first minute.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from app.classifier import Classifier
from app.pictures import MB, decode, to_model_input
from benchmarks import load
from benchmarks.load import Ask, Tally
from benchmarks.servers import APP, Server, running, sample

SHARE = 0.8  # of the capacity
CLIENTS = 8  # that find the capacity
WARM = 60.0  # seconds until memory is expected to grow no more
GROWTH = 1.1  # times the memory at WARM, at most, at the end
POINTS = 20  # of the memory's curve
UPLOAD_MB = 1  # MAX_UPLOAD_MB: the smallest, so that a body above the limit is quickly sent
PATH, FIELD = "/v1/predict", "files"


@dataclass(frozen=True)
class Run:
    """What happened.

    Attributes:
        capacity: answers a second to good requests from CLIENTS.
        rate: requests a second that were sent after that.
        tally: what they brought.
        memory: seconds since the first of them, and resident memory in MB.
        warm: seconds from when on memory is expected to grow no more.
    """

    capacity: float
    rate: float
    tally: Tally
    memory: list[tuple[float, float]]
    warm: float

    @property
    def growth(self) -> float:
        """Memory at the end, over the first value after `warm`."""
        return self.memory[-1][1] / next(mb for seconds, mb in self.memory if seconds >= self.warm)

    def faults(self) -> list[str]:
        """What should not have happened, in sentences."""
        fives = sum(count for status, count in self.tally.statuses.items() if status >= 500)
        found = {
            f"{fives} answers 5xx": fives > 0,
            f"{self.tally.lost.total()} requests without an answer: {dict(self.tally.lost)}": bool(self.tally.lost),
            f"{self.tally.wrong} answers that are not the right ones": self.tally.wrong > 0,
            f"memory grew {self.growth:.2f} times after {self.warm:.0f} s": self.growth > GROWTH,
        }
        return [sentence for sentence, is_so in found.items() if is_so]


def asks(server: Server, models: Path) -> list[Ask]:
    """A mixture to repeat, forty requests long, every tenth of them bad.

    Raises:
        RuntimeError: the app's answer is not what the model says.
    """
    file = sample(models)
    good = load.upload(PATH, FIELD, file)
    answer = load.once(server.port, good)
    classifier = Classifier.from_directory(models)
    seen = to_model_input(decode(file), classifier.image_size)
    row = classifier.predict(seen[None]).probabilities[0]
    right = {name: float(p) for name, p in zip(classifier.class_names, row, strict=True)}
    if answer is None or answer.status != 200 or json.loads(answer.body)["answers"][0]["probabilities"] != right:
        raise RuntimeError(f"{answer} is not what the model says: {right}")
    bad = (
        Ask(load.upload(PATH, FIELD, b"This is no picture."), 415),
        Ask(load.upload(PATH, FIELD, file[: len(file) // 2]), 400),
        Ask(load.upload(PATH, FIELD, b""), 400),
        Ask(load.upload(PATH, FIELD, bytes((UPLOAD_MB + 1) * MB)), 413),
    )
    return [ask for one in bad for ask in (*(Ask(good, 200, answer.body),) * 9, one)]


def sustain(models: Path, seconds: float, warm: float = WARM, capacity_seconds: float = 5.0) -> Run:
    """Starts the app, finds its capacity, asks for the given time, stops it."""
    environment = {"MODEL_DIR": str(models), "PAGE": "off", "MAX_UPLOAD_MB": str(UPLOAD_MB)}
    with running(APP, environment) as server, load.apart() as generator:
        mixture = asks(server, models)
        generator.submit(load.run_closed, server.port, mixture[:1], CLIENTS, 1.0).result()  # the first ones are slow
        found = generator.submit(load.run_closed, server.port, mixture[:1], CLIENTS, capacity_seconds).result()
        rate = SHARE * found.rate
        work = generator.submit(load.run_open, server.port, mixture, rate, seconds)
        memory = list(_watch(server, work, min(warm, seconds / POINTS)))
        return Run(found.rate, rate, work.result(), memory, warm)


def _watch(server: Server, work: Future[Tally], every: float) -> Iterator[tuple[float, float]]:
    """Seconds and resident MB, until the work is done."""
    started = time.monotonic()
    while not work.done():
        yield time.monotonic() - started, server.resident_mb()
        time.sleep(every)
    yield time.monotonic() - started, server.resident_mb()


def report(run: Run) -> Table:
    """The run as a table."""
    tally = run.tally
    table = Table(title=f"{tally.seconds / 60:.1f} minutes at {SHARE:.0%} of the capacity", show_header=False)
    table.add_row("capacity, good requests", f"{run.capacity:.0f} answers/s")
    table.add_row("sent, every tenth bad", f"{run.rate:.0f} requests/s")
    table.add_row("answered", f"{tally.rate:.0f} answers/s, {tally.answers:,} in all")
    table.add_row("p50, p99 of good ones", f"{tally.percentile(50):.1f}, {tally.percentile(99):.1f} ms")
    table.add_row("statuses", ", ".join(f"{status}: {count:,}" for status, count in sorted(tally.statuses.items())))
    table.add_row("without an answer", ", ".join(f"{how}: {count}" for how, count in tally.lost.items()) or "none")
    table.add_row("not the right answer", str(tally.wrong))
    table.add_row("memory, MB", " ".join(f"{mb:.0f}" for _, mb in run.memory))
    table.add_row(f"memory, end / after {run.warm:.0f} s", f"{run.growth:.3f}")
    return table


def main() -> int:
    """Run, print, and return 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("models"), help="the MODEL_DIR")
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    seconds = options.minutes * 60
    run = sustain(options.models.resolve(), seconds, min(WARM, seconds / 3))
    Console().print(report(run))
    faults = run.faults()
    print("\n".join(faults) or "nothing failed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
