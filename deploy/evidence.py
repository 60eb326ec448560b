"""What is known of a version: its files, out of DVC's cache or remote at its commit, and how fast its model answers."""

import csv
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from deploy import lock, registry
from deploy.gcloud import CloudError
from deploy.registry import Version

EVALUATION, ROBUSTNESS = "reports/evaluation", "reports/robustness"
PREPARED = "data/prepared"
TEST = (f"{PREPARED}/test.images.npy", f"{PREPARED}/test.labels.npy")
ROUNDS, RUNS = 40, 20  # of a measurement of speed: how often the files take turns, and answers in a turn


@dataclass(frozen=True)
class Evidence:
    """Of one version.

    Attributes:
        version: which.
        test: names the test pictures and their labels: their hashes, or the whole data set's where only that is known.
        prepared: hash of the whole data set.
        actual: class of each test picture, in their order.
        predicted: what the model said.
        ece: expected calibration error, 0 to 1.
        robustness: mean accuracy on corrupted test pictures, if it was measured.
        model: the file that is served.
    """

    version: Version
    test: str
    prepared: str
    actual: tuple[str, ...]
    predicted: tuple[str, ...]
    ece: float
    robustness: float | None
    model: Path

    @property
    def right(self) -> list[bool]:
        """Of each test picture, whether the model was right."""
        return [a == p for a, p in zip(self.actual, self.predicted, strict=True)]

    @property
    def accuracy(self) -> float:
        return sum(self.right) / len(self.right)


def gather(version: Version, folder: Path, remote: bool = True) -> Evidence:
    """Bring a version's files into a folder, and read them.

    Args:
        version: whose.
        folder: is made; a version each.
        remote: whether DVC's remote is asked for what the cache lacks.

    Raises:
        CloudError: what is missing or damaged, and how to get it.
    """
    try:
        found = fetch(version.commit, folder, remote)
    except Exception as error:  # noqa: BLE001 - DVC's, fsspec's and the cloud's have no common base class
        said = " ".join(str(error).split())[:200]
        raise CloudError(
            f"{version.name}: its files are neither in DVC's cache nor in its remote ({said}): "
            "type `uv run dvc fetch --all-tags`"
        ) from None
    prepared = lock.hashes(lock.stages(registry.git("show", f"{version.commit}:dvc.lock"))).get(PREPARED, "")
    try:
        with (folder / EVALUATION / "confusion.csv").open(encoding="utf-8", newline="") as file:
            rows = [(row["actual"], row["predicted"]) for row in csv.DictReader(file)]
        actual, predicted = zip(*rows, strict=True)
        robust = folder / ROBUSTNESS / "metrics.json"
        return Evidence(
            version,
            found or prepared,
            prepared,
            actual,
            predicted,
            float(_json(folder / EVALUATION / "metrics.json")["ece"]),
            float(_json(robust)["mean"]) if robust.exists() else None,
            folder / "models" / Path(_json(folder / "models/serve.json")["file"]).name,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = " ".join(str(error).split())[:200]
        raise CloudError(f"{version.name}: its reports cannot be read ({said}): make a version anew from it") from None


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def fetch(commit: str, folder: Path, remote: bool) -> str:
    """What `dvc get` does, of a commit of this repository, with its own cache first; the hash of the test split.

    The hash is empty where the list of the data set's files is not at hand: their contents are not needed.
    """
    from dvc.repo import Repo  # takes half a second

    repo = Repo(".", config={} if remote else {"core": {"remote": ""}})
    with repo, repo.switch(commit):
        files = repo.dvcfs
        wanted = [EVALUATION, *([ROBUSTNESS] if files.exists(ROBUSTNESS) else []), "models/serve.json"]
        for path in wanted:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            files.get(path, (folder / path).as_posix(), recursive=True)
        model = f"models/{Path(_json(folder / 'models/serve.json')['file']).name}"
        files.get(model, (folder / model).as_posix())
        try:
            return " ".join(files.info(path)["md5"] for path in TEST)
        except (OSError, KeyError):
            return ""


def race(models: Sequence[Path], rounds: int = ROUNDS) -> list[list[float]]:
    """Let model files answer in turns, so that what else the machine does meets them alike.

    One picture at a time on one thread, as the app runs them; every output is asked for.

    Returns:
        Of each file, the seconds an answer took, a figure a round.

    Raises:
        CloudError: a file cannot be run, or onnxruntime is missing.
    """
    answers = [_answerer(model) for model in models]
    times: list[list[float]] = [[] for _ in models]
    for turn in range(rounds):
        order = range(len(models)) if turn % 2 else reversed(range(len(models)))
        for which in order:
            started = time.perf_counter()
            for _ in range(RUNS):
                answers[which]()
            times[which].append((time.perf_counter() - started) / RUNS)
    return times


def slower(models: Sequence[Path]) -> tuple[float, float, float]:
    """Two files: the median seconds of each, and how many times longer the second takes, the median of the rounds."""
    first, second = race(models)
    return median(first), median(second), median(b / a for a, b in zip(first, second, strict=True))


def _answerer(model: Path) -> Callable[[], object]:
    """Not by `app.classifier`, which wants of a file what the code of today reads out of it."""
    try:
        import numpy as np
        import onnxruntime as ort
    except ImportError as error:
        raise CloudError(f"the package {error.name} is missing, which runs models: type `uv sync`") from None
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(model.read_bytes(), options, providers=["CPUExecutionProvider"])
        (node,) = session.get_inputs()
        picture = np.random.default_rng(1).integers(0, 256, (1, *node.shape[1:]), dtype=np.uint8)
        session.run(None, {node.name: picture})  # the first is slower
    except Exception as error:  # noqa: BLE001 - onnxruntime's errors have no common base class
        raise CloudError(f"{model.name} does not run: {' '.join(str(error).split())[:200]}") from None
    return lambda: session.run(None, {node.name: picture})
