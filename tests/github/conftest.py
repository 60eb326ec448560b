"""A pipeline of one stage that takes no time: what reads dvc.lock and the reports needs no training."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import commit
from tests.project import ENVIRONMENT

STAGE = """\
import json, pathlib, yaml
accuracy = yaml.safe_load(open("params.yaml"))["accuracy"]
folder = pathlib.Path("reports/evaluation")
folder.mkdir(parents=True)
values = {"accuracy": accuracy, "accuracy_low": accuracy - 0.01, "accuracy_high": accuracy + 0.01}
(folder / "metrics.json").write_text(json.dumps(values))
"""
PIPELINE = {
    "stages": {
        "evaluate": {
            "cmd": f'"{sys.executable}" evaluate.py',
            "deps": ["${data_dir}", "evaluate.py"],
            "params": ["accuracy"],
            "outs": ["reports/evaluation"],
        }
    },
    "metrics": ["reports/evaluation/metrics.json"],
    "artifacts": {"model": {"path": "reports/evaluation"}},
}


class Small:
    """A repository with that pipeline, run and committed, as working directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def dvc(self, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "dvc", *arguments, "--quiet"], cwd=self.folder, env=ENVIRONMENT, check=True
        )

    def set(self, **values: Any) -> None:
        """Change params.yaml."""
        file = self.folder / "params.yaml"
        file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **values}))

    def commit(self) -> None:
        self.git("add", "--all")
        commit(self.folder)

    def publish(self) -> None:
        """Put the figures of the run into docs/results.json, as `invoke publish` does."""
        lock = yaml.safe_load((self.folder / "dvc.lock").read_text())
        md5 = {out["path"]: out["md5"] for out in lock["stages"]["evaluate"]["outs"]}
        figures = json.loads((self.folder / "reports/evaluation/metrics.json").read_text())
        (self.folder / "docs").mkdir(exist_ok=True)
        (self.folder / "docs/results.json").write_text(json.dumps({"md5": md5, "evaluation": figures}))

    def forget(self) -> None:
        """Lose DVC's cache: what is in the workspace stays."""
        shutil.rmtree(self.folder / ".dvc/cache")


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """Run once; each test gets a copy."""
    small = Small(tmp_path_factory.mktemp("small") / "project")
    (small.folder / "data/pictures").mkdir(parents=True)
    (small.folder / "data/pictures/one.txt").write_text("one")
    (small.folder / "evaluate.py").write_text(STAGE)
    (small.folder / "params.yaml").write_text(yaml.safe_dump({"accuracy": 0.9, "data_dir": "data/pictures"}))
    (small.folder / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
    small.git("init", "--quiet", "--initial-branch=main")
    small.dvc("init")
    small.dvc("config", "core.analytics", "false")
    small.dvc("repro")
    small.commit()
    return small


@pytest.fixture
def small(ran: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    shutil.copytree(ran.folder, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.delenv("GITHUB_OUTPUT", raising=False)
    return Small(tmp_path / "project")
