"""What several tests need: a tiny run of the four stages, made once, in this process."""

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import dvc  # noqa: F401 - its log goes to the stdout of whoever imports it first, which is not to be one test's own
import pytest

from stages.evaluate import evaluate
from stages.export import export
from stages.prepare import prepare
from stages.robustness import robustness
from stages.train import train

# What the shell hands down must not decide: the project that the README has people export, and a Ctrl-C that a shell
# without job control ignores for what it starts in the background.
for name in [name for name in os.environ if name.startswith("INVOKE_")]:
    del os.environ[name]
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
PREPARE = {
    "seed": 1,
    "dataset": "sketches",
    "data_dir": "unused",
    "extra_dir": str(ROOT / "data/feedback"),  # as it comes with the repository: empty
    "image_size": 28,
    "val_fraction": 0.2,
    "test_fraction": 0.2,
    "sketches": 400,
}
TRAIN = {
    "seed": 1,
    "width": 16,
    "epochs": 3,
    "batch_size": 40,
    "lr": 0.005,
    "weight_decay": 0.02,
    "label_smoothing": 0.1,
    "augment": "erase",
    "precision": "fp32",
    "devices": 1,
}


@dataclass(frozen=True)
class Run:
    """A folder in which the stages ran."""

    folder: Path

    @property
    def prepared(self) -> Path:
        return self.folder / "data/prepared"

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def reports(self) -> Path:
        return self.folder / "reports"

    def train(self, **changes: object) -> None:
        train(
            self.prepared,
            self.models / "network.pt",
            self.reports / "training",
            self.reports / "speed",
            **{**TRAIN, **changes},
        )


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All four stages on 400 sketches. Read only: the next test sees it too."""
    run = Run(tmp_path_factory.mktemp("run"))
    home = Path.cwd()
    os.chdir(run.folder)
    try:
        subprocess.run(["git", "init", "--quiet"], check=True)
        commit(run.folder, "--allow-empty")
        prepare(run.prepared, **PREPARE)
        run.train()
        evaluate(run.prepared, run.models / "network.pt", run.reports / "evaluation", seed=1, coverage=0.9)
        robustness(run.prepared, run.models / "network.pt", run.reports / "robustness", seed=1)
        export(
            run.prepared,
            run.models / "network.pt",
            run.reports / "evaluation",
            run.reports / "robustness",
            run.models,
            run.reports / "export",
            min_accuracy=0.1,
        )
    finally:
        os.chdir(home)
    return run


@pytest.fixture
def fresh(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A folder of its own with the prepared data, as working directory: to train in."""
    shutil.copytree(run.prepared, tmp_path / "data/prepared")
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "--quiet"], check=True)
    commit(tmp_path, "--allow-empty")
    return Run(tmp_path)


def commit(folder: Path, *arguments: str) -> None:
    """Commit what is added, under a name of the tests' own."""
    who = {"GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@localhost"}
    who |= {key.replace("AUTHOR", "COMMITTER"): value for key, value in who.items()}
    subprocess.run(
        ["git", "commit", "--quiet", "--message", "test", *arguments], cwd=folder, env={**os.environ, **who}, check=True
    )


@pytest.fixture(scope="session")
def mirror() -> str:
    """Where the real Fashion-MNIST lies on this machine, as an address; else the test is skipped in sight."""
    if address := os.environ.get("FASHION_MNIST_MIRROR"):
        return address
    beside = ROOT.parent / "shared/data/fashion-mnist"
    if not beside.is_dir():
        pytest.skip("the real Fashion-MNIST is not here: set FASHION_MNIST_MIRROR to a folder's file:// address")
    return beside.as_uri() + "/"
