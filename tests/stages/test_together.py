"""Whole trainings by several real processes: the same bits wherever they run, and one that goes takes all along."""

import contextlib
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.stage import read_json
from stages.world import LOOPBACK, LOST
from tests.conftest import PREPARE, ROOT, TRAIN, Run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="sends signals, which Windows has not"),
]
ASKED = 128 + signal.SIGTERM
SOON = 30  # seconds after one process is gone within which the others are


@dataclass
class Training:
    """The stage as it runs in a folder."""

    folder: Path
    process: subprocess.Popen[bytes]
    log: Path
    ended: float = math.nan

    def end(self, status: int) -> str:
        """What it said to its end, which is this one, and which leaves no process behind."""
        found, said = self.process.wait(120), self.log.read_text(encoding="utf-8")
        self.ended = time.time()
        assert found == status, said
        assert not self.left(), said
        return said

    def left(self) -> bool:
        """Whether any of its processes is still there, a few seconds after the first has ended."""
        for _ in range(100):
            try:
                os.killpg(self.process.pid, 0)
            except ProcessLookupError:
                return False
            time.sleep(0.1)
        return True

    def ended_soon_after(self, other: "Training") -> bool:
        """Whether it had ended SOON after what went wrong in another, or in itself."""
        return self.ended - (other.folder / "trouble").stat().st_mtime < SOON

    def outs(self) -> dict[str, bytes]:
        """What the stage has made."""
        return outs(self.folder)

    @property
    def loss(self) -> float:
        """Of the train split, in the last epoch."""
        return loss(self.folder)

    @property
    def checkpoints(self) -> list[Path]:
        """All files in their folder, whole or not."""
        return list(self.folder.glob(".atelier/checkpoints/*")) + list(self.folder.glob(".atelier/checkpoints/.*"))


def outs(folder: Path) -> dict[str, bytes]:
    files = [f for name in ("models", "reports/training") for f in (folder / name).rglob("*") if f.is_file()]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def loss(folder: Path, split: str = "train") -> float:
    return float(read_json(folder / "reports/training/metrics.json")[split]["loss"])


class Start:
    """Starts trainings, each as a person would, and ends those that are left."""

    def __init__(self, prepared: Path, folder: Path) -> None:
        self.prepared, self.folder, self.started = prepared, folder, list[Training]()

    def place(self, name: str, **changes: object) -> Path:
        """A folder with the prepared pictures and the params."""
        folder = self.folder / name
        if not folder.exists():
            shutil.copytree(self.prepared, folder / "data/prepared")
        values = {**PREPARE, **TRAIN, "coverage": 0.9, "min_accuracy": 0.1, **changes}
        (folder / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        return folder

    def __call__(
        self,
        name: str,
        trouble: dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
        by: Sequence[str] = (),
        **changes: object,
    ) -> Training:
        """Start the stage in a folder.

        Args:
            trouble: what goes wrong; see tests/stages/worker.py.
            env: further variables.
            by: the module that starts it, with its arguments; none: itself.
            changes: params that differ.
        """
        folder = self.place(name, **changes)
        ours = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2", **(env or {})}
        if trouble:
            ours["TROUBLE"] = json.dumps(trouble)
        module = "tests.stages.worker" if trouble or "JOIN" in ours or "SILENT" in ours else "stages.train"
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *by, *(["-m"] if by else []), module],
                cwd=folder,
                env={**os.environ, **ours},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(Training(folder, process, folder / "log"))
        return self.started[-1]

    def nodes(self, name: str, trouble: dict[str, Any] | None = None, **changes: object) -> list[Training]:
        """Start the stage on two nodes of a cluster, as Vertex AI does, each with a folder of its own."""
        with socket.socket() as free:
            free.bind((LOOPBACK, 0))
            port = free.getsockname()[1]
        cluster = {"workerpool0": [f"{LOOPBACK}:{port}"], "workerpool1": [f"{LOOPBACK}:{port + 1}"]}
        started = []
        for number, kind in enumerate(cluster):
            spec = {"cluster": cluster, "environment": "cloud", "task": {"type": kind, "index": 0, "trial": ""}}
            env = {"CLUSTER_SPEC": json.dumps(spec), "OMP_NUM_THREADS": str(changes.get("devices", 1))}
            started.append(self(f"{name}-{number}", trouble, env, **changes))
        return started

    def stop(self) -> None:
        """End what a test that failed has left."""
        for training in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(training.process.pid, signal.SIGKILL)
            training.process.wait()


@pytest.fixture
def start(run: Run, tmp_path: Path) -> Iterator[Start]:
    starts = Start(run.prepared, tmp_path)
    yield starts
    starts.stop()


@pytest.fixture(scope="module")
def two(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Training]:
    """A training by two processes that nobody has disturbed."""
    starts = Start(run.prepared, tmp_path_factory.mktemp("two"))
    training = starts("here", devices=2)
    training.end(0)
    yield training
    starts.stop()


def in_epoch_2(what: str, rank: int = 1) -> dict[str, Any]:
    return {"rank": rank, "epoch": 1, "step": 2, "what": what}


# One goes


@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_is_killed_is_named_and_the_next_run_ends_as_if_nothing_had_been(
    rank: int, two: Training, start: Start
) -> None:
    training = start("here", in_epoch_2("SIGKILL", rank), devices=2)
    assert f"train: rank {rank} was killed by SIGKILL; the others were ended\n" in training.end(1)
    assert training.ended_soon_after(training)
    assert not (training.folder / "models").exists()
    assert [file.suffix for file in training.checkpoints] == [".pt"]
    again = start("here", devices=2)
    assert "going on from epoch 2, step 1" in again.end(0)
    assert again.outs() == two.outs()
    assert again.checkpoints == []


def test_a_node_that_is_killed_is_named_by_the_other(start: Start) -> None:
    first, second = start.nodes("node", in_epoch_2("SIGKILL"))
    assert f"train: rank 0 ends: rank 1 ({LOOPBACK}) is gone: no sign of life for 15 s" in first.end(LOST)
    assert first.ended_soon_after(second)
    second.end(-signal.SIGKILL)
    assert not (first.folder / "models").exists()


def test_a_first_node_that_is_killed_is_named_by_the_other(start: Start) -> None:
    first, second = start.nodes("node", in_epoch_2("SIGKILL", 0))
    assert f"train: rank 1 ends: rank 0 ({LOOPBACK}) is gone: " in second.end(LOST)
    assert second.ended_soon_after(first)
    first.end(-signal.SIGKILL)


def test_one_that_is_stopped_is_noticed_by_its_silence(start: Start) -> None:
    training = start("here", in_epoch_2("SIGSTOP"), {"SILENT": "4"}, devices=2)
    assert "train: rank 0 ends: rank 1 is gone: no sign of life for 4 s" in training.end(1)
    assert not (training.folder / "models").exists()


def test_one_that_raises_is_named_with_its_reason(start: Start) -> None:
    assert "\ntrain: rank 1: the disk is full\n" in start("here", in_epoch_2("raise"), devices=2).end(1)


def test_the_reason_of_one_node_is_known_on_the_other(start: Start) -> None:
    first, second = start.nodes("node", in_epoch_2("raise"))
    assert f"train: rank 0 ends: rank 1 ({LOOPBACK}) is gone: the disk is full\n" in first.end(LOST)
    assert "train: the disk is full\n" in second.end(1)


def test_a_launcher_that_is_killed_takes_all_along(start: Start) -> None:
    training = start("here", in_epoch_2("SIGSTOP"), {"SILENT": "60"}, devices=2)
    wait(lambda: "epoch 1/3" in training.log.read_text())
    training.process.kill()
    training.process.wait()
    wait(lambda: "train: rank 0 ends: the process that started it is gone" in training.log.read_text())


# What does not fit together


def test_other_pictures_on_a_node_are_refused_by_name(start: Start) -> None:
    meta = start.place("node-1") / "data/prepared/meta.json"
    meta.write_text(json.dumps(read_json(meta) | {"sha256": "another"}), encoding="utf-8")
    said = (
        f"data, params, code or number format of rank 1 ({LOOPBACK}) differ from those of rank 0; nothing was written"
    )
    for training in start.nodes("node"):
        assert f"train: {said}\n" in training.end(1)
        assert training.outs() == {}


def test_other_arithmetic_is_refused_by_name(start: Start) -> None:
    training = start("here", in_epoch_2("skew"), devices=2)
    assert "train: the weights of rank 1 differ from those of rank 0; nothing was written\n" in training.end(1)
    assert not (training.folder / "models").exists()


# All come


def test_two_learn_as_one_does_and_leave_one_set_of_files(two: Training, run: Run) -> None:
    reports = {name for name in outs(run.folder) if name.startswith("reports/")}
    assert set(two.outs()) == {"models/network.pt", *reports}
    assert two.checkpoints == []
    said = two.log.read_text(encoding="utf-8")
    assert "training on cpu in float32, 1 threads, 2 processes\n" in said
    assert said.count("epoch 1/3: ") == 1
    assert two.loss == pytest.approx(loss(run.folder), abs=0.05)


@pytest.mark.parametrize("meeting", [["--standalone"], ["--master-port"]])
def test_torchrun_starts_two_that_make_the_same_bits(meeting: list[str], two: Training, start: Start) -> None:
    if "--master-port" in meeting:
        with socket.socket() as free:
            free.bind((LOOPBACK, 0))
            meeting = [*meeting, str(free.getsockname()[1])]
    by = ["torch.distributed.run", *meeting, "--nproc-per-node", "2"]
    training = start("torchrun", env={"OMP_NUM_THREADS": "1"}, by=by)
    training.end(0)
    assert training.outs() == two.outs()


def test_under_torchrun_one_that_raises_is_named_with_its_reason(start: Start) -> None:
    by = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    said = start("torchrun", in_epoch_2("raise"), by=by).end(1)
    assert "train: rank 0 ends: rank 1 is gone: the disk is full\n" in said


@pytest.mark.parametrize("what", ["SIGKILL", "raise"])
def test_what_torchrun_starts_anew_ends_as_if_nothing_had_been(what: str, two: Training, start: Start) -> None:
    by = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    training = start("torchrun", in_epoch_2(what), {"OMP_NUM_THREADS": "1"}, by)
    assert "going on from epoch 2, step 1" in training.end(0)
    assert training.outs() == two.outs()


@pytest.mark.parametrize("batch_size", [40, 41])  # which cannot be halved
def test_two_take_the_steps_of_one(start: Start, fresh: Run, batch_size: int) -> None:
    """With a low learning rate: a high one makes 0.005 of a difference in rounding, as other threads do."""
    training = start("here", devices=2, epochs=1, lr=1e-3, batch_size=batch_size)
    training.end(0)
    fresh.train(epochs=1, lr=1e-3, batch_size=batch_size)
    for split in ("train", "val"):
        assert loss(training.folder, split) == pytest.approx(loss(fresh.folder, split), abs=5e-4)


def test_two_nodes_end_with_the_bits_of_two_processes_here(two: Training, start: Start) -> None:
    first, second = start.nodes("node")
    first.end(0)
    second.end(0)
    assert first.outs() == two.outs()
    assert second.outs() == {}
    assert second.checkpoints == []


def test_two_nodes_of_two_processes_end_with_the_bits_of_four_here(start: Start) -> None:
    here = start("here", env={"OMP_NUM_THREADS": "4"}, devices=4, epochs=1)
    said = here.end(0)
    assert "training on cpu in float32, 1 threads, 4 processes\n" in said
    first, second = start.nodes("node", devices=2, epochs=1)
    first.end(0)
    second.end(0)
    assert first.outs() == here.outs()
    assert second.outs() == {}


# Asked to end


def stopped(start: Start, **changes: object) -> Training:
    """A training that was asked to end in its second epoch, has saved and has ended."""
    who = {"what": "ask", "rank": 1} if changes.get("devices") == 2 else {"what": "SIGTERM", "rank": 0}
    training = start("here", {"epoch": 1, "step": 2, **who}, **changes)
    said = training.end(ASKED)
    assert said.count("stopped in epoch 2; `dvc repro` goes on from here") == 1
    assert [file.suffix for file in training.checkpoints] == [".pt"]
    assert not (training.folder / "models").exists()
    return training


def test_asked_to_end_all_save_and_the_next_run_ends_with_the_same_bits(two: Training, start: Start) -> None:
    stopped(start, devices=2)
    again = start("here", devices=2)
    said = again.end(0)
    assert "going on from epoch 2, step " in said
    assert "the bits will be others" not in said
    assert again.outs() == two.outs()


def test_what_two_began_one_can_end(run: Run, start: Start) -> None:
    stopped(start, devices=2)
    again = start("here", devices=1)
    said = again.end(0)
    assert "going on from epoch 2, step " in said
    assert "made by 2 x 1 threads, going on with 1 x 2 threads: the bits will be others\n" in said
    assert again.loss == pytest.approx(loss(run.folder), abs=0.05)


def test_what_one_began_two_can_end(run: Run, start: Start) -> None:
    stopped(start, devices=1)
    again = start("here", devices=2)
    assert "made by 1 x 2 threads, going on with 2 x 1 threads: the bits will be others\n" in again.end(0)
    assert again.loss == pytest.approx(loss(run.folder), abs=0.05)


def test_a_node_that_is_asked_to_end_has_the_first_save(two: Training, start: Start) -> None:
    first, second = start.nodes("node", in_epoch_2("SIGTERM"))
    assert "stopped in epoch 2" in first.end(ASKED)
    second.end(ASKED)
    assert len(first.checkpoints) == 1
    assert second.checkpoints == []
    first, second = start.nodes("node")
    first.end(0)
    second.end(0)
    assert first.outs() == two.outs()


def wait(until: Callable[[], bool]) -> None:
    """Look again and again, for a minute at most."""
    for _ in range(600):
        if until():
            return
        time.sleep(0.1)
    pytest.fail("it did not happen within a minute")
