"""Building images: what Cloud Build is sent, what it makes of it, and what is said where it fails."""

import io
import os
import shutil
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy import images
from deploy.gcloud import CloudError, Shell
from deploy.names import Names
from tests.app import tiny_model
from tests.cloud.conftest import Cloud
from tests.cloud.fake import RefusedError
from tests.cloud.fake.build import Build, Objects
from tests.cloud.fake.registry import Registry
from tests.project import Project

COMMIT, MODEL = "a" * 40, "b" * 64


@dataclass(frozen=True)
class Place:
    """Google, as far as a build sees it, and the working directory that is sent."""

    cloud: Cloud
    objects: Objects
    build: Build
    folder: Path

    def sent(self) -> set[str]:
        """The files that a build was sent."""
        (archive,) = self.objects.held.values()
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            return {member.name.removeprefix("./") for member in files if member.isfile()}


@pytest.fixture
def place(cloud: Cloud, names: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    folder = Project(tmp_path / "project").folder
    shutil.rmtree(folder / "models", ignore_errors=True)
    tiny_model.write(folder / "models")
    for name in ("data/prepared/train.npz", "models/network.pt", "secret.json", ".atelier/service.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not to be sent")
    monkeypatch.chdir(folder)
    objects, registry = Objects(cloud.google, names.bucket), Registry(cloud.google, set())
    return Place(cloud, objects, Build(cloud.google, objects, registry.images, {names.account(names.deployer)}), folder)


def build(names: Names, which: str = "app") -> None:
    images.build(Shell(), names, which, commit=COMMIT, model=MODEL if which == "app" else "")


def test_an_image_is_built_from_what_it_needs_and_lands_in_the_registry(place, names):
    build(names)
    assert images.is_there(Shell(), names, "app", COMMIT)
    (made,) = place.build.builds
    words = [place.build.filled(made, word) for step in made["steps"] for word in step["args"]]
    assert words == [
        "build",
        "--file=dockerfiles/app.dockerfile",
        f"--tag={names.image('app', COMMIT)}",
        f"--build-arg=COMMIT={COMMIT}",
        f"--build-arg=MODEL_SHA256={MODEL}",
        ".",
    ]
    sent = place.sent()
    assert {"dockerfiles/app.dockerfile", "requirements/app.txt", "app/main.py", "models/serve.json"} <= sent
    assert {name for name in sent if name.endswith(".onnx")}
    tops = {Path(name).parts[0] for name in sent}
    assert tops.isdisjoint({".git", ".atelier", "tests", "docs", "secret.json", ".venv"})
    assert sent.isdisjoint({"data/prepared/train.npz", "models/network.pt"})


def test_the_train_image_gets_the_pipeline(place, names):
    build(names, "train")
    assert place.build.images == {names.image("train", COMMIT)}
    assert {"dvc.yaml", "params.yaml", "stages/train.py", "deploy/job.py", "requirements/train.txt"} <= place.sent()


def test_a_build_that_fails_is_said_and_nothing_is_in_the_registry(place, names):
    place.build.status = "FAILURE"
    with pytest.raises(CloudError, match=r'build .* completed with status "FAILURE"') as error:
        build(names)
    assert "\n" not in str(error.value)
    assert place.build.images == set()


@pytest.mark.parametrize(
    ("method", "where", "refused", "said"),
    [
        (
            "POST",
            r"cloudbuild\.",
            RefusedError(403, "PERMISSION_DENIED", "The caller does not have permission"),
            "permission denied: ",
        ),
        (
            "POST",
            r"cloudbuild\.",
            RefusedError(403, "PERMISSION_DENIED", "Cloud Build API has not been used in project 1 before or is off."),
            r"an API is off in this project \(.*\): type `uv run invoke cloud-setup`",
        ),
        (
            "POST",
            r"storage\..*/o$",
            RefusedError(403, "PERMISSION_DENIED", "somebody does not have storage.objects.create access"),
            "permission denied: ",
        ),
    ],
    ids=["build", "api", "upload"],
)
def test_what_google_refuses_is_said_in_a_line(place, names, method, where, refused, said):
    place.cloud.google.refuse(method, where, refused)
    with pytest.raises(CloudError, match=said) as error:
        build(names)
    assert "\n" not in str(error.value)
    assert place.build.images == set()


def test_a_deployer_that_is_not_there_is_said(place, names):
    place.build.accounts.clear()
    with pytest.raises(CloudError, match=r"service account .*atelier-deployer@.* does not exist"):
        build(names)


def test_gcloud_refuses_a_misspelt_key(place, names):
    file = place.folder / "deploy/cloudbuild.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("images:", "imagse:"), encoding="utf-8")
    with pytest.raises(CloudError, match="imagse"):
        build(names)
    assert place.build.builds == []


# On this machine


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A docker that writes down what it is told, and fails where a file says so; there is no other on the PATH."""
    if os.name == "nt":
        pytest.skip("the stand-in for docker is a script of a Unix shell")
    folder = tmp_path / "bin"
    folder.mkdir()
    script = "import pathlib, sys\npathlib.Path('told').open('a').write(sys.argv[1] + ' ' + sys.argv[-1] + '\\n')\n"
    script += "sys.exit(pathlib.Path('fails').exists() and 'no space left on device')\n"
    (folder / "docker").write_text(f"#!{sys.executable}\n{script}", encoding="utf-8")
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_local_build_is_pushed(engine, names):
    images.build(Shell(), names, "app", commit=COMMIT, model=MODEL, local=True)
    assert (engine / "told").read_text() == f"build .\npush {names.image('app', COMMIT)}\n"


def test_a_local_build_that_fails_is_not_pushed(engine, names):
    (engine / "fails").touch()
    with pytest.raises(CloudError, match=r"docker build .*: no space left on device"):
        images.build(Shell(), names, "app", commit=COMMIT, model=MODEL, local=True)
    assert (engine / "told").read_text() == "build .\n"


@pytest.mark.parametrize("engine", ["docker", "buildah"])
def test_both_engines_are_told_the_commit_and_the_model(names, engine):
    made, pushed = images.local_build(names, "train", COMMIT, "", engine)
    assert made[0] == pushed[0] == engine
    assert f"--tag={pushed[-1]}" in made
    assert [f"COMMIT={COMMIT}", "MODEL_SHA256="] == made[made.index("--build-arg") + 1 :: 2][:2]
