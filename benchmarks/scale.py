"""Ten million pictures through prepare, and through one epoch of training's data path, by one and by two processes.

The pictures are made (noise around a grey that tells the class) as they are read, so the source costs little and
nothing is downloaded. The data path is what training does before the network: indices, the memory-mapped read, the
augmentation. Memory is what a process itself holds (RssAnon, sampled); pages of the mapped files, which the system
takes back when it likes, are not in it. Linux alone tells that.
"""

import json
import multiprocessing
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.memory import made
from deploy.verify import machine
from stages import batches, params, prepare
from stages.sources import Source

RESULTS = Path("benchmarks/results/scale.json")
COUNTS = (1_000_000, 10_000_000)
PROCESSES = (1, 2)


class Peak:
    """The most memory of its own that this process held, in MiB."""

    mib = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look every 20 ms."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(0.02):
                lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
                kib = int(next(line for line in lines if line.startswith("RssAnon")).split()[1])
                self.mib = max(self.mib, kib / 1024)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def prepared(folder: Path, count: int, answers: Any) -> None:
    """Prepare so many; seconds and memory."""
    labels = np.arange(count, dtype=np.int64) % 10
    source = Source(tuple("abcdefghij"), labels, np.arange(count) // 10 % 20 == 0, made, slow=False)
    setattr(prepare, "fashion_mnist", lambda size: source)  # noqa: B010 - in place of the real one
    values = params.load(Path("params.yaml")).model_dump() | {"dataset": "fashion-mnist"}
    start, peak = time.perf_counter(), Peak()
    with peak.watching():
        prepare.prepare(folder, **{k: values[k] for k in params.names(prepare.prepare)})
    answers.put((time.perf_counter() - start, peak.mib))


def epoch(folder: Path, rank: int, size: int, answers: Any) -> None:
    """One epoch's pictures of one process of so many: read, augmented, let go. Seconds, pictures and memory."""
    torch.set_num_threads(1)
    values, device = params.load(Path("params.yaml")), torch.device("cpu")
    start, seen, peak = time.perf_counter(), 0, Peak()
    with peak.watching():
        data = batches.read_split(folder, "train", device)
        flip = batches.mirrored(values.seed, len(data))
        for step, indices in enumerate(batches.order(values.seed, 0, len(data), values.batch_size)):
            part = slice(rank * len(indices) // size, (rank + 1) * len(indices) // size)
            images, _ = data.take(indices[part])
            seen += len(batches.augment(images, flip[indices], values.augment, (values.seed, 3, 0, step), part))
    answers.put((time.perf_counter() - start, seen, peak.mib))


def apart(jobs: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> list[Any]:
    """Each in a process of its own, all at once; what they answer."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    running = [context.Process(target=job, args=(*words, answers)) for job, words in jobs]
    for process in running:
        process.start()
    for process in running:
        process.join()
        if process.exitcode:
            raise SystemExit(f"scale: a process ended with {process.exitcode}")
    return [answers.get() for _ in running]


def measure(count: int, folder: Path) -> dict[str, Any]:
    """All figures of so many pictures."""
    ((seconds, mib),) = apart([(prepared, (folder, count))])
    print(f"{count:,} pictures: prepared in {seconds:.1f} s", flush=True)
    found: dict[str, Any] = {"count": count, "prepare_rate": round(count / seconds), "prepare_mib": round(mib)}
    for size in PROCESSES:
        each = apart([(epoch, (folder, rank, size)) for rank in range(size)])
        slowest, pictures = max(one[0] for one in each), sum(one[1] for one in each)
        print(f"{count:,} pictures, {size} process(es): an epoch's data in {slowest:.1f} s", flush=True)
        found[f"epoch_{size}"] = {
            "rate_each": round(pictures / slowest / size),
            "mib_each": round(max(one[2] for one in each)),
        }
    return found


def main() -> None:
    """Measure COUNTS, print, and write RESULTS."""
    need = max(COUNTS) * 28 * 28 * 1.05
    with tempfile.TemporaryDirectory(prefix="atelier-scale-") as scratch:
        if shutil.disk_usage(scratch).free < need:
            raise SystemExit(
                f"scale: {need / 1e9:.0f} GB of disk are wanted in {scratch}: set TMPDIR to where they are"
            )
        rows = [measure(count, Path(scratch) / str(count)) for count in COUNTS]
    found = {"machine": machine(), "rows": rows}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8", newline="\n")
    print("\n".join(table(found)))


def table(found: dict[str, Any]) -> list[str]:
    """What was measured, in Markdown."""
    few, many = found["rows"]
    lines = [f"| {found['machine']} | {few['count']:,} pictures | {many['count']:,} pictures |", "|---|---|---|"]
    lines.append(f"| prepare, pictures a second | {few['prepare_rate']:,} | {many['prepare_rate']:,} |")
    lines.append(f"| prepare, memory | {few['prepare_mib']:,} MiB | {many['prepare_mib']:,} MiB |")
    for size in PROCESSES:
        a, b = few[f"epoch_{size}"], many[f"epoch_{size}"]
        who = "one process" if size == 1 else f"{size} processes, each"
        lines.append(f"| an epoch's data, {who}, pictures a second | {a['rate_each']:,} | {b['rate_each']:,} |")
        lines.append(f"| an epoch's data, {who}, memory | {a['mib_each']:,} MiB | {b['mib_each']:,} MiB |")
    return lines


if __name__ == "__main__":
    main()
