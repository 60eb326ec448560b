"""The workflows' own steps, run in fresh clones with bash: all that needs no Google, and in a dry run what does."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import commit
from tests.github.github import CLIENT, GitHub
from tests.github.runner import Job, load, tools
from tests.project import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# `gh` where it asks GitHub's other API, of pull requests: what it is told is kept.
PULL_REQUESTS = """\
#!/bin/sh
echo "$*" >> {log}
case "$1 $2" in
  "pr list") echo "${{OPEN:-0}}" ;;
  "pr create") echo https://github.test/owner/name/pull/7 ;;
  "pr view") echo 7 ;;
  "auth git-credential") ;;
  *) exec {api} "$@" ;;
esac
"""
PULL, REPRO, REPORT = (
    "uv run --no-sync dvc pull",
    "uv run --no-sync dvc repro",
    'uv run --no-sync invoke report --base "$BASE" --plots report | tee -a "$GITHUB_STEP_SUMMARY"',
)


class Published:
    """A project on GitHub: run, committed, pushed, and its results in DVC's remote."""

    def __init__(self, folder: Path, **changes: object) -> None:
        self.folder = folder
        self.origin = folder / "origin.git"
        self.project = Project(folder / "project", **changes)
        self.project.git("init", "--quiet", "--bare", str(self.origin))
        self.project.git("branch", "--quiet", "--move", "main")
        self.project.git("remote", "add", "origin", self.origin.as_uri())
        self.project.dvc("remote", "add", "--default", "storage", str(folder / "remote"))

    def run(self) -> None:
        """Run the pipeline and publish it, as whoever changes it on main does."""
        self.project.dvc("repro")
        self.project.git("add", "--all")
        commit(self.project.folder)
        self.project.dvc("push")
        self.project.git("push", "--quiet", "origin", "HEAD")

    def clone(self, name: str, branch: str = "main") -> Path:
        folder = self.folder / name
        self.project.git("clone", "--quiet", "--branch", branch, self.origin.as_uri(), str(folder))
        return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """With sketches. Its main stays as it is; each test has a branch of its own."""
    tools()
    published = Published(tmp_path_factory.mktemp("published"))
    published.run()
    return published


@pytest.fixture
def github(tmp_path: Path) -> Iterator[GitHub]:
    github = GitHub()
    programs = tmp_path / "bin"
    programs.mkdir()
    api, gh = programs / "api", programs / "gh"
    api.write_text(CLIENT.format(python=sys.executable))
    gh.write_text(PULL_REQUESTS.format(log=tmp_path / "gh.log", api=api))
    for program in (api, gh):
        program.chmod(0o755)
    yield github
    github.close()
    assert github.unknown == []


def hub(github: GitHub, tmp_path: Path) -> dict[str, str]:
    """The environment in which `gh` is ours."""
    path = os.pathsep.join([str(tmp_path / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {"PATH": path, "http_proxy": github.address, "GITHUB_REPOSITORY": "owner/name", "GH_TOKEN": "secret"}


CONTEXT = {"github.base_ref": "main", "github.event.pull_request.number": "7", "github.token": "secret"}
CLOUD = {"vars.GCP_PROJECT": "demo-project", "github.token": "secret"}


def test_a_pull_request_is_run_reported_and_commented(published: Published, github: GitHub, tmp_path: Path) -> None:
    project = published.project
    project.git("switch", "--quiet", "--create", "slower", "main")
    project.set(lr=0.001)
    commit(project.folder, "--all")
    project.git("push", "--quiet", "origin", "slower")
    project.git("switch", "--quiet", "main")
    pipeline = Job("experiment", "pipeline", published.clone("slower", "slower"), tmp_path / "run", dict(CONTEXT))
    pipeline.run()
    assert "train: params.yaml: lr modified" in pipeline.ran["uv run --no-sync invoke in-step --pictures"]
    assert "Stage 'prepare' didn't change" in pipeline.ran[REPRO]  # it was pulled
    assert "Running stage 'train'" in pipeline.ran[REPRO]
    report = (pipeline.folder / "report/report.md").read_text(encoding="utf-8")
    assert "| lr | 0.0050 | 0.0010 |" in report
    assert "% on origin/main: " in report
    assert "commit the one that `uv run dvc repro` writes" in report
    assert "| lr | 0.0050 | 0.0010 |" in (tmp_path / "run/summary.md").read_text(encoding="utf-8")

    comment = Job("experiment", "comment", published.clone("base"), tmp_path / "comment", dict(CONTEXT))
    comment.environment = hub(github, tmp_path)
    shutil.copytree(pipeline.folder / "report", comment.folder / "report")  # the artifact
    comment.run()
    assert len(github.comments) == 1
    assert "| lr | 0.0050 | 0.0010 |" in github.comments[0]["body"]
    assert "/raw/" in github.comments[0]["body"]
    project.git("fetch", "--quiet", "origin", "reports")
    pushed = project.git("ls-tree", "-r", "--name-only", "FETCH_HEAD")
    assert pushed.split() == [f"pull-request-7/{name}.png" for name in ("confusion", "curves", "reliability")]


def test_what_was_run_elsewhere_is_pulled_and_not_run_again(published: Published, tmp_path: Path) -> None:
    project = published.project
    project.git("switch", "--quiet", "--create", "elsewhere", "main")
    project.set(coverage=0.8)
    project.dvc("repro")
    commit(project.folder, "--all")
    project.dvc("push")
    project.git("push", "--quiet", "origin", "elsewhere")
    project.git("switch", "--quiet", "main")
    job = Job("experiment", "pipeline", published.clone("elsewhere", "elsewhere"), tmp_path, dict(CONTEXT))
    job.run()
    assert "Running stage" not in job.ran[REPRO]
    report = (job.folder / "report/report.md").read_text(encoding="utf-8")
    assert "| coverage | 0.9500 | 0.8000 |" in report
    assert "commit the one" not in report


def test_a_closed_bucket_does_not_stop_a_pull_request(published: Published, tmp_path: Path) -> None:
    folder = published.clone("closed")
    (folder / ".dvc/config").write_text("[core]\nremote = storage\n['remote \"storage\"']\nurl = http://127.0.0.1:9/\n")
    job = Job("experiment", "pipeline", folder, tmp_path, dict(CONTEXT))
    job.run()
    assert "Running stage 'train'" in job.ran[REPRO]
    assert "right on the test split" in job.ran[REPORT]


# Pictures from a bucket


def picture(rng: np.random.Generator, file: Path, wide: bool) -> None:
    """A dark box on light ground: wide or tall."""
    canvas = rng.integers(225, 256, (40, 40), np.uint8)
    left, top = (4, 14) if wide else (14, 4)
    canvas[top : 40 - top, left : 40 - left] = rng.integers(0, 90, (40 - 2 * top, 40 - 2 * left))
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(canvas).save(file)


def fill(bucket: Path, numbers: range) -> None:
    rng = np.random.default_rng(numbers.start)
    for number in numbers:
        for name in ("tall", "wide"):
            picture(rng, bucket / name / f"{number}.png", name == "wide")


@pytest.fixture(scope="module")
def garments(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Its pictures are imported from a folder that stands for the bucket, 20 of each class."""
    tools()
    folder = tmp_path_factory.mktemp("garments")
    fill(folder / "bucket", range(20))
    published = Published(folder, dataset="image-folder", data_dir="data/garments", epochs=1, batch_size=8)
    published.project.dvc("import-url", str(folder / "bucket"), "data/garments")
    published.run()
    return published


def retrain(garments: Published, github: GitHub, tmp_path: Path, name: str) -> Job:
    """The job, with this machine in place of Vertex AI."""
    instead = {
        "uv run --no-sync invoke train --cloud": 'echo "run=atelier-1" >> "$GITHUB_OUTPUT"',
        'uv run --no-sync invoke results "$RUN"': "python -m dvc repro",
    }
    job = Job("data", "retrain", garments.clone(name), tmp_path / "run", dict(CLOUD), instead)
    job.environment = {key: value for key, value in hub(github, tmp_path).items() if key != "GH_TOKEN"}
    return job


def test_no_new_pictures_no_training(garments: Published, github: GitHub, tmp_path: Path) -> None:
    job = retrain(garments, github, tmp_path, "same")
    job.run()
    assert "dvc.lock is in step" in job.ran["uv run --no-sync invoke in-step --pictures"]
    assert "uv run --no-sync invoke train --cloud" not in job.ran
    assert (tmp_path / "gh.log").read_text().split()[:2] == ["pr", "list"]
    assert len((tmp_path / "gh.log").read_text().splitlines()) == 1


def test_pictures_that_are_not_fit_stop_it(garments: Published, github: GitHub, tmp_path: Path) -> None:
    bad = garments.folder / "bucket/wide/bad.png"
    bad.write_bytes(b"no picture")
    try:
        job = retrain(garments, github, tmp_path, "bad")
        job.run(ok=False)
    finally:
        bad.unlink()
    assert "bad.png" in job.ran["uv run --no-sync invoke check-data --newest"]
    assert "uv run --no-sync invoke in-step --pictures" not in job.ran


def test_new_pictures_become_a_pull_request(garments: Published, github: GitHub, tmp_path: Path) -> None:
    fill(garments.folder / "bucket", range(20, 30))
    job = retrain(garments, github, tmp_path, "new")
    job.run()
    assert "prepare: data/garments modified" in job.ran["uv run --no-sync invoke in-step --pictures"]
    project = garments.project
    project.git("fetch", "--quiet", "origin", "retrain")
    assert project.git("diff", "--name-only", "main", "FETCH_HEAD").split() == ["data/garments.dvc", "dvc.lock"]
    assert project.git("log", "--format=%s", "main..FETCH_HEAD").splitlines() == [
        "Train anew: atelier-1",
        "Take in new pictures",
    ]
    assert "pr create --base main --head retrain --title Train anew: atelier-1" in (tmp_path / "gh.log").read_text()
    assert "right on the test split" in github.comments[0]["body"]
    # What it proposes can be had: the pictures, too, are in DVC's remote.
    other = garments.clone("reviewer", "retrain")
    subprocess.run([sys.executable, "-m", "dvc", "pull", "--quiet", "data/garments.dvc"], cwd=other, check=True)
    assert len(list((other / "data/garments/wide").iterdir())) == 30


def test_while_a_pull_request_waits_nothing_is_trained(garments: Published, github: GitHub, tmp_path: Path) -> None:
    fill(garments.folder / "bucket", range(30, 32))
    job = retrain(garments, github, tmp_path, "waiting")
    job.environment = {**job.environment, "OPEN": "1"}
    job.run()
    assert "dvc.lock is behind" in job.ran["uv run --no-sync invoke in-step --pictures"]
    assert "uv run --no-sync invoke train --cloud" not in job.ran


# With what the job itself installs


@pytest.mark.parametrize(
    ("workflow", "name", "instead"),
    [
        ("images", "build", {"uv run --no-sync invoke build both": "uv run --no-sync invoke build both --dry-run"}),
        (
            "release",
            "release",
            {'uv run --no-sync invoke release "$TAG"': 'uv run --no-sync invoke release "$TAG" --dry-run'},
        ),
        ("docs", "build", {}),
    ],
)
def test_what_a_job_installs_is_enough(
    workflow: str, name: str, instead: dict[str, str], published: Published, tmp_path: Path
) -> None:
    folder = published.clone(f"installed-{workflow}")
    context = {**CLOUD, "github.ref_name": "model#prod#1", "github.event_name": "push"}
    job = Job(workflow, name, folder, tmp_path, context, instead)
    install = next(
        step["run"] for step in load(workflow)["jobs"][name]["steps"] if step.get("run", "").startswith("uv sync")
    )
    environment = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(tmp_path / "venv"), "UV_PYTHON": sys.executable}
    environment.pop("VIRTUAL_ENV", None)
    subprocess.run(["bash", "-c", f"{install} --quiet"], cwd=folder, env=environment, check=True)
    here = str(Path(sys.executable).parent)
    path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if part != here)
    job.environment = {"UV_PROJECT_ENVIRONMENT": str(tmp_path / "venv"), "PATH": path}
    job.run()
    said = "".join(job.ran.values())
    if workflow == "docs":
        assert (folder / "site/index.html").exists()
    else:
        assert "gcloud builds submit" in said
    if workflow == "release":
        assert "gcloud run services replace" in said
