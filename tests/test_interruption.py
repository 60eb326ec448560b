"""Ten kills: whatever a run was doing when it was killed, the next one ends with the same hashes."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.project import ENVIRONMENT, Project

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform == "win32", reason="kills a process group, which Windows has not"),
]
LONGER = {"epochs": 12, "sketches": 1200}


def killed(project: Project, stage: str, after: float) -> bool:
    """Start `dvc repro`, kill all of it `after` seconds into a stage; tell whether it was still running."""
    with subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=project.folder,
        env={**ENVIRONMENT, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if f"Running stage '{stage}'" in line:
                break
        threading.Thread(target=process.stdout.read, daemon=True).start()
        time.sleep(after)
        alive = process.poll() is None
        if alive:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return alive


def test_ten_kills_end_with_the_same_hashes(tmp_path: Path) -> None:
    undisturbed = Project(tmp_path / "undisturbed", **LONGER)
    undisturbed.dvc("repro")
    chance = random.Random(7)
    kills: list[str] = []
    went_on = False
    for number in range(2):
        project = Project(tmp_path / f"killed{number}", **LONGER)
        for stage in ("prepare", "train", "train", "evaluate", "export"):
            after = chance.uniform(0.1, 3.0) + (3.0 if stage == "train" else 0)
            while not killed(project, stage, after):  # it had ended by then
                shutil.rmtree(project.folder / ".dvc/cache")
                (project.folder / "dvc.lock").unlink()
                after /= 2
            kills.append(f"{stage} after {after:.1f} s")
        went_on = "going on from epoch" in project.dvc("repro") or went_on
        assert project.hashes() == undisturbed.hashes(), kills
        assert not list((project.folder / ".atelier/checkpoints").glob("*"))
    print(f"{len(kills)} kills: {', '.join(kills)}")
    assert len(kills) == 10
