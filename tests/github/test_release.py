"""`invoke release`: GTO's tags, and what follows from them."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from invoke.config import Config
from invoke.context import Context
from invoke.exceptions import Exit

from deploy import github_tasks, images, release, serving
from deploy.gcloud import CloudError
from deploy.release import Release
from deploy.repository import served_sha256
from tests.app import tiny_model
from tests.conftest import ROOT, commit

GCP = {**yaml.safe_load((ROOT / "invoke.yaml").read_text(encoding="utf-8"))["gcp"], "project": "demo-project"}
GTO = (sys.executable, "-m", "gto.cli")


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("v1.2.0", r"v1\.2\.0 is no tag of the registry: a version is model@v1\.2\.0, a stage model#prod#1"),
        ("model@1", "is no tag of the registry"),
        ("", "is no tag of the registry"),
        ("model@v1.2.0; rm -rf /", "is no tag of the registry"),
        ("network@v1.2.0", "dvc.yaml has no artifact 'network', but model"),
        ("model#dev#1", "nothing follows from the stage 'dev', only from 'prod'"),
        ("model@v1.2.0!", r"takes something back, and what serves stays: type `uv run invoke rollback`"),
        ("model#prod!#2", "takes something back"),
        ("model@deprecated", "takes something back"),
    ],
)
def test_a_tag_that_nothing_follows_from_is_said_in_a_line(tag: str, said: str) -> None:
    with pytest.raises(CloudError, match=said) as error:
        release.read(tag, ["model"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("tag", "found"),
    [
        ("model@v1.2.0", Release("model", version="v1.2.0")),
        ("model@v0.0.1-rc.1", Release("model", version="v0.0.1-rc.1")),
        ("model#prod#1", Release("model", stage="prod")),
        ("model#prod#17", Release("model", stage="prod")),
    ],
)
def test_tags_of_the_registry(tag: str, found: Release) -> None:
    assert release.read(tag, ["model"]) == found


def test_the_pipeline_offers_what_the_workflow_listens_for() -> None:
    assert release.artifacts(ROOT / "dvc.yaml") == ["model"]


# In a repository


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A commit with a model that git does not know, as working directory."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / ".gitignore").write_text("/models\n/.atelier\n")
    (folder / ".dvc").mkdir()  # where `gto` looks for the artifacts' names
    tiny_model.write(folder / "models")
    monkeypatch.chdir(folder)
    for command in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *command], check=True)
    commit(folder)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "test")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "test@localhost")
    return folder


def tag(name: str) -> None:
    subprocess.run(["git", "tag", name], check=True)


def head() -> str:
    return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()


def say(name: str, dry_run: bool = False) -> None:
    """`invoke release NAME`."""
    github_tasks.release.body(Context(Config(overrides={"gcp": GCP})), name, dry_run=dry_run)


def test_a_tag_of_another_commit_releases_nothing(repository: Path) -> None:
    tag("model@v1.2.0")
    commit(repository, "--allow-empty")
    with pytest.raises(Exit, match=r"model@v1\.2\.0 is no tag of this commit: type `git switch --detach"):
        say("model@v1.2.0")


def test_a_dry_run_shows_what_a_version_and_a_stage_do(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say("model@v1.2.0", dry_run=True)
    version = capsys.readouterr().out
    say("model#prod#1", dry_run=True)
    stage = capsys.readouterr().out
    assert [line.split()[:3] for line in version.splitlines()] == [["gcloud", "builds", "submit"]]
    assert stage.startswith(version)
    assert "gcloud run services replace" in stage
    assert "10 % of the traffic" in stage


def test_what_gto_itself_tags_is_read(repository: Path) -> None:
    for words in (["register", "model", "--version", "v1.2.0"], ["assign", "model", "--stage", "prod"]):
        subprocess.run([*GTO, *words], check=True)
    made = subprocess.run(["git", "tag"], capture_output=True, text=True, check=True).stdout.split()
    assert {release.read(name, ["model"]) for name in made} == {
        Release("model", version="v1.2.0"),
        Release("model", stage="prod"),
    }


class Cloud:
    """In place of Google: what was asked of it, in words. tests/cloud has the rest of the way."""

    def __init__(self, there: bool) -> None:
        self.there = there
        self.done: list[str] = []

    def is_there(self, *_: object) -> bool:
        return self.there

    def build(self, shell: object, names: object, which: str, *, commit: str, model: str) -> None:
        self.done.append(f"build {which} of {commit} with {model}")

    def deploy(self, shell: object, names: object, *, commit: str, models: Path, canary: bool, version: str) -> None:
        self.done.append(f"deploy {version} of {commit} from {models}, canary {canary}")


@pytest.mark.parametrize(("there", "built"), [(False, 1), (True, 0)])
def test_a_version_is_built_and_a_stage_deployed(
    there: bool, built: int, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = Cloud(there)
    monkeypatch.setattr(images, "is_there", cloud.is_there)
    monkeypatch.setattr(images, "build", cloud.build)
    monkeypatch.setattr(serving, "deploy", cloud.deploy)
    tag("model@v1.2.0")
    tag("model#prod#1")
    build = [f"build app of {head()} with {served_sha256(repository / 'models')}"] * built
    say("model@v1.2.0")
    assert cloud.done == build
    say("model#prod#1")
    assert cloud.done == [*build, *build, f"deploy v1.2.0 of {head()} from models, canary True"]


def test_what_git_does_not_hold_is_not_released(repository: Path) -> None:
    tag("model@v1.2.0")
    (repository / "new.py").write_text("")
    with pytest.raises(Exit, match=r"the work tree has changes \(new\.py"):
        say("model@v1.2.0")
