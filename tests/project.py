"""A small project in a folder of its own: the repository's files, params that take seconds, real git and real DVC."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT, commit

SMALL = {
    "dataset": "sketches",
    "sketches": 400,
    "val_fraction": 0.2,
    "width": 16,
    "epochs": 3,
    "batch_size": 40,
    "min_accuracy": 0.0,  # on so few pictures, chance alone decides what they reach
}
# As a shell would find this environment's `python`, `dvc` and `invoke`.
ENVIRONMENT = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}


def copy(folder: Path) -> None:
    """Put the repository's own files, committed or not, into a folder; without the user's own pictures."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if name.startswith(("data/pictures/", "data/feedback/")) and not name.endswith("README.md"):
            continue
        if (source := ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)


class Project:
    """The repository's own files, committed, without anybody's data, cache or outs."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder = folder
        copy(folder)
        (folder / "dvc.lock").unlink(missing_ok=True)
        self.set(**(SMALL | changes))
        self.git("init", "--quiet")
        self.git("add", "--all")
        commit(folder)

    def set(self, **changes: Any) -> None:
        """Change params.yaml."""
        file = self.folder / "params.yaml"
        values = yaml.safe_load(file.read_text(encoding="utf-8")) | changes
        file.write_text(yaml.safe_dump(values), encoding="utf-8")

    def git(self, *arguments: str) -> str:
        """Run git."""
        done = subprocess.run(["git", *arguments], cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout

    def dvc(self, *arguments: str, ok: bool = True) -> str:
        """Run DVC as a person does; return all it says."""
        return self.run("dvc", *arguments, ok=ok)

    def run(self, *command: str, ok: bool = True) -> str:
        """Run a command of this environment; return all it says."""
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.folder,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) == ok, done.stdout
        return done.stdout

    def hashes(self) -> dict[str, dict[str, str]]:
        """What dvc.lock says of every stage's outs."""
        lock = yaml.safe_load((self.folder / "dvc.lock").read_text(encoding="utf-8"))
        return {name: {out["path"]: out["md5"] for out in stage["outs"]} for name, stage in lock["stages"].items()}
