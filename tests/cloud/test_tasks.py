"""The cloud's tasks as they are typed: wrong words end in a line, and what a dry run prints can be pasted."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from invoke.collection import Collection
from invoke.program import Program

import tasks
from app.classifier import Classifier
from app.main import Settings, create_app
from deploy import runs, training
from deploy.access import PUBLIC
from deploy.gcloud import shown
from deploy.names import Names
from tests.app import tiny_model
from tests.app.served import served
from tests.cloud.conftest import GCP, PROJECT, Cloud
from tests.cloud.fake.build import Build, Objects
from tests.cloud.fake.registry import Registry
from tests.cloud.fake.run import Run
from tests.cloud.fake.vertex import Vertex
from tests.conftest import ROOT
from tests.project import Project

POSIX_SHELL = pytest.mark.skipif(
    os.name == "nt" or not shutil.which("bash"), reason="no bash here: nothing to paste the commands into"
)


# Wrong words; nothing is started for them


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a task says that ends with status 1; nothing is on the PATH that it could start."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("deploy.repository.commit", lambda allow_dirty=False: "a" * 40)
    monkeypatch.setenv("PATH", "")
    collection = Collection.from_module(tasks)
    collection.configure({"gcp": GCP})

    def type_(*words: str) -> str:
        with pytest.raises(SystemExit) as end:
            Program(namespace=collection).run(["invoke", *words])
        said = capfd.readouterr()
        assert end.value.code == 1, said
        assert said.out == ""
        return said.err

    return type_


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train --spot", "--machine, --gpu, --count, --nodes, --spot and --run want --cloud"),
        ("train --gpu NVIDIA_L4", "want --cloud"),
        ("train --count 2", "want --cloud"),
        ("train --nodes 2", "want --cloud"),
        ("train --run 20261125-090807-aaaaaaaa", "want --cloud"),
        ("train --cloud --count 2", "--count 2: of which? add --gpu, such as --gpu NVIDIA_TESLA_T4"),
        ("train --cloud --gpu t4", "--gpu is 't4'; it has to be empty, or an accelerator of Vertex AI"),
        ("train --cloud --gpu NVIDIA_L4 --count 0", "--count is '0'; it has to be greater than or equal to 1"),
        ("train --cloud --nodes two", "--nodes is 'two'; it has to be a valid integer"),
        ("train --cloud --nodes 0", "--nodes is '0'; it has to be greater than or equal to 1"),
        ("train --cloud -S colour=red", "-S colour=red: 'colour' is no param"),
        ("train --cloud -S lr", "-S lr: give a value, as in -S lr=1e-3"),
        ("train --cloud -S lr=1,2", "-S lr: one value a run"),
        ("train --cloud --run My_Run", "'My_Run' is no run's ID"),
        ("results ../../etc", "'../../etc' is no run's ID"),
        ("sweep --cloud", "give the grid as --grid 'lr=0.003,0.01'"),
        ("sweep --cloud --grid lr=", "give the grid as --grid"),
        ("sweep --cloud --grid colour=red,blue", "'colour' is no param"),
        ("sweep --cloud --grid lr=1e-3,quick", "lr: 'quick' is not allowed"),
        ("sweep --cloud --grid lr=1e-3 --parallel 0", "--parallel 0: at least 1"),
        ("sweep --spot --grid lr=1e-3", "--spot and --dry-run want --cloud"),
        ("sweep --dry-run --grid lr=1e-3", "--spot and --dry-run want --cloud"),
        ("build both-of-them", "build both-of-them: there are app, train and both"),
        ("train --cloud", "gcloud is not on the PATH: install it from cloud.google.com/sdk"),
        ("sweep --cloud --grid lr=1e-3", "gcloud is not on the PATH"),
        ("results 20261125-090807-aaaaaaaa", "gcloud is not on the PATH"),
        ("status", "gcloud is not on the PATH"),
    ],
)
def test_wrong_words_end_in_a_line(typed, words, said):
    line = typed(*words.split())
    assert said in line
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize(
    "value", ["plain", "two words", "it's", 'say "hi"', "$HOME", "`id`", "a;b", "a\\b", "*", "", "~", "#x"]
)
@POSIX_SHELL
def test_a_command_is_shown_as_the_shell_reads_it(value):
    argv = ["printf", "%s.", f"data_dir={value}"]
    pasted = subprocess.run(["bash", "-c", shown(argv)], capture_output=True, text=True, check=True)
    assert pasted.stdout == f"data_dir={value}."


# Dry runs: typed, and then pasted


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return tiny_model.write(tmp_path_factory.mktemp("tasks") / "models")


@pytest.fixture(scope="module")
def app(models) -> Iterator[str]:
    with served(create_app(Settings(model_dir=models, page=False), Classifier.from_directory(models))) as address:
        yield address


@dataclass(frozen=True)
class Typist:
    """A clone with a model, and Google as far as its tasks see it."""

    folder: Path
    commit: str
    names: Names
    cloud: Cloud
    vertex: Vertex
    build: Build
    run: Run

    def typed(self, *words: str) -> list[str]:
        """What a dry run prints, where neither gcloud nor an account is to be had."""
        bare = {"PATH": str(self.folder.parent / "bin"), "INVOKE_GCP_PROJECT": PROJECT, "HOME": str(self.folder.parent)}
        command = [sys.executable, "-m", "invoke", *words, "--dry-run"]
        done = subprocess.run(command, cwd=self.folder, env=bare, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert self.cloud.google.seen == []
        return done.stdout.splitlines()

    def pasted(self, lines: list[str]) -> str:
        """What bash says to all of it, one line after the other; each has to succeed."""
        script = "\n".join(["set -e", *lines])
        done = subprocess.run(["bash"], input=script, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{script}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def project(cloud: Cloud, names: Names, models: Path, app: str, tmp_path: Path) -> Typist:
    folder = Project(tmp_path / "project").folder
    shutil.copytree(models, folder / "models", dirs_exist_ok=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").symlink_to(shutil.which("git") or "git")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
    commit = head.stdout.strip()
    images, accounts = set[str](), {names.account(short) for short in (names.trainer, names.deployer, names.app)}
    Registry(cloud.google, images)
    build = Build(cloud.google, Objects(cloud.google, names.bucket), images, accounts)
    run = Run(cloud.google, {names.image("app", commit): app})
    return Typist(folder, commit, names, cloud, Vertex(cloud.google, images, accounts), build, run)


def commands(lines: list[str]) -> list[str]:
    return [" ".join(line.split()[1:4]) for line in lines if not line.startswith("#")]


@POSIX_SHELL
@pytest.mark.parametrize("canary", [False, True])
def test_a_deployment_can_be_pasted(project, canary):
    lines = project.typed("deploy", *(["--canary"] if canary else []))
    assert commands(lines) == [
        "builds submit .",
        "run services replace",
        "run services add-iam-policy-binding",
        "run services update-traffic",
    ]
    project.pasted(lines)
    assert project.build.images == {project.names.image("app", project.commit)}
    ((revision, share),) = project.run.shares().items()
    assert revision.startswith(f"atelier-{project.commit[:8]}-")
    assert share == 100
    assert project.run.policies.granted("atelier") == {(PUBLIC.who, PUBLIC.role)}


@POSIX_SHELL
@pytest.mark.parametrize(
    "words",
    [
        [],
        ["-S", "lr=1e-3", "-S", "data_dir=pictures of mine"],
        ["--spot"],
        ["--gpu", "NVIDIA_L4", "--count", "2", "--machine", "g2-standard-24"],
        ["--nodes", "2"],
    ],
    ids=["plain", "settings", "spot", "gpu", "nodes"],
)
def test_a_training_can_be_pasted(project, words):
    project.vertex.quota["NVIDIA_L4"] = 2
    project.vertex.course = ["PENDING", "SUCCEEDED"]  # the log of a job that runs does not end
    lines = project.typed("train", "--cloud", *words)
    assert commands(lines) == ["builds submit .", "ai custom-jobs create", "ai custom-jobs stream-logs"]
    # The number is what the second command prints, and the comment says so. gcloud looks at a log for half a minute
    # before it believes that it has ended: once is enough.
    number = f"{10**18}"
    log = [line for line in lines if "stream-logs" in line]
    project.pasted([line.replace(" JOB ", f" {number} ") for line in lines if not words or line not in log])
    (job,) = project.vertex.jobs
    assert training.number_of(job) == number
    assert training.commit_of(job) == project.commit
    assert project.build.images == {project.names.image("train", project.commit)}
    assert runs.is_id(job["displayName"])
    assert lines[-1].endswith(f"`uv run invoke results {job['displayName']}` brings home what it made")
    assert training.settings_of(job) == tuple(words[1::2] if "-S" in words else ())
    pools = job["jobSpec"]["workerPoolSpecs"]
    assert len(pools) == (2 if "--nodes" in words else 1)
    assert pools[0]["machineSpec"].get("acceleratorCount") == (2 if "--gpu" in words else None)
    assert job["jobSpec"]["scheduling"]["strategy"] == ("SPOT" if "--spot" in words else "STANDARD")


@POSIX_SHELL
def test_a_sweep_can_be_pasted(project):
    lines = project.typed("sweep", "--cloud", "--grid", "lr=1e-3,2e-3", "--grid", "epochs=2,3")
    project.pasted(lines)
    assert sorted(training.settings_of(job) for job in project.vertex.jobs) == [
        (f"lr={lr}", f"epochs={epochs}") for lr in ("1e-3", "2e-3") for epochs in ("2", "3")
    ]


@POSIX_SHELL
def test_builds_can_be_pasted(project):
    project.pasted(project.typed("build", "both"))
    assert project.build.images == {project.names.image(which, project.commit) for which in ("app", "train")}


@pytest.mark.slow
def test_a_dry_run_here_is_dvcs_own_command(tmp_path):
    env = {**os.environ, "PATH": ""}
    for words, said in (
        ([], "dvc repro\n"),
        (["-S", "lr=1e-3", "-S", "data_dir=a b"], "dvc exp run -S lr=1e-3 -S 'data_dir=a b'\n"),
    ):
        command = [sys.executable, "-m", "invoke", "train", "--dry-run", *words]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
        assert done.stdout == said
