"""What is let through to a build, by docker and by gcloud; and the dockerfiles' style."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.images.conftest import SECRETS, Source
from tests.images.engine import Engine

pytestmark = [pytest.mark.images, pytest.mark.timeout(1800)]

ALLOWED = (
    *("dockerfiles/*.dockerfile", "requirements/*.txt", "stages/*.py", "stages/sketches/*.py"),
    *("app/*.py", "app/*.css", "app/*.js", "app/*.png", "deploy/*.py", "deploy/*.yaml"),
    *("models/README.md", "models/*.json", "models/*.onnx", "models/mistakes.png", "models/samples/**/*"),
    *("data/.gitignore", "data/*/README.md", ".dvcignore", ".dvc/config"),
    *("dvc.yaml", "dvc.lock", "params.yaml", "pyproject.toml", "invoke.yaml", "tasks.py"),
)
# Pointers to data that DVC fetches, however deep; the data itself stays.
POINTERS = ("data/more.dvc", "data/a/b/deep.dvc", "data/pictures/hat.dvc", "data/pictures/.gitignore")
PICTURE = "data/pictures/hat/0.png"
OTHERS = (".git/config", "models/network.pt", "models/.gitignore", "data/prepared", "tests", "README.md")


@pytest.fixture(scope="module")
def folder(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that also has pictures of its user's."""
    folder = tmp_path_factory.mktemp("context") / "project"
    shutil.copytree(source.folder, folder, symlinks=True)
    for name in (*POINTERS, PICTURE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("outs: []\n")
    return folder


def allowed(folder: Path) -> set[str]:
    found = {file for pattern in ALLOWED for file in folder.glob(pattern) if file.is_file()}
    return {file.relative_to(folder).as_posix() for file in found} | set(POINTERS)


def test_docker_is_given_what_is_allowed_and_nothing_else(engine: Engine, folder: Path, tmp_path: Path) -> None:
    all_of_it = b"FROM scratch\nCOPY . /\n"
    engine("build", f"--output={tmp_path}", "--file=-", str(folder), given=all_of_it)
    got = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()}
    assert got == allowed(folder)


def test_gcloud_uploads_what_is_allowed_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    if not shutil.which("gcloud"):
        pytest.skip("gcloud is not on the PATH")
    # Its --ignore-file is read as this file would be.
    ignore = folder / ".gcloudignore"
    shutil.copy(folder / ".dockerignore", ignore)
    try:
        done = subprocess.run(
            ["gcloud", "meta", "list-files-for-upload", str(folder)],
            env={**os.environ, "CLOUDSDK_CONFIG": str(tmp_path), "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true"},
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        ignore.unlink()
    assert set(done.stdout.splitlines()) == allowed(folder)


def test_there_was_something_to_keep_out(folder: Path) -> None:
    for name in (*SECRETS, PICTURE, *OTHERS):
        assert (folder / name).exists()
    assert not {*SECRETS, PICTURE} & allowed(folder)


@pytest.mark.parametrize("file", sorted((ROOT / "dockerfiles").iterdir()), ids=lambda file: file.stem)
def test_hadolint_finds_nothing(file: Path) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if not hadolint:
        pytest.skip("hadolint is not beside this Python")
    done = subprocess.run([hadolint, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
