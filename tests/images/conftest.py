"""Both images, built by the commands that `invoke build --local` gives, from a project as a user has it."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy import images
from deploy.names import Image, Names
from deploy.repository import served_sha256
from tests.cloud.conftest import GCP
from tests.conftest import ROOT
from tests.images import engine as engines
from tests.images import standins
from tests.images.engine import Done, Engine
from tests.project import Project

COMMIT = "c0ffee" + "0" * 34
SECRET = "nobody-may-read-this"
# Never for an image, nor for Cloud Build.
SECRETS = (".env", "key.json", "app/.env", "app/key.pem", "deploy/key.json", "dockerfiles/.env", "models/key.pem")
SECRETS += (".dvc/config.local", "stages/notes.txt")


@dataclass(frozen=True)
class Built:
    """An image."""

    name: str
    size: float  # in MB, unpacked
    seconds: float


@dataclass(frozen=True)
class Source:
    """A project in which the pipeline ran, with the lock of that run."""

    folder: Path
    lock: Path

    @property
    def models(self) -> Path:
        return self.folder / "models"

    def build(self, engine: Engine, which: Image, model: str) -> Done:
        """Build an image by the command that is meant for it."""
        docker, build, *words = images.local_build(Names.of(GCP), which, COMMIT, model, "docker")[0]
        assert (docker, build, words[-1]) == ("docker", "build", ".")
        # There is no bridge to have a network of its own on.
        return engine.run(build, "--network=host", "--progress=plain", *words[:-1], str(self.folder))


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    try:
        with engines.running() as engine:
            standins.provide(engine, tmp_path_factory.mktemp("stand-ins"))
            yield engine
    except engines.UnavailableError as error:
        pytest.skip(f"no images can be built here: {error}")


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Read only: the next test sees it too."""
    folder = tmp_path_factory.mktemp("source")
    project = Project(folder / "project")
    project.dvc("repro")
    shutil.move(project.folder / "dvc.lock", folder / "dvc.lock")
    shutil.copy(ROOT / "dvc.lock", project.folder / "dvc.lock")  # the train image brings what was published
    for name in SECRETS:
        (project.folder / name).write_text(SECRET)
    # As people have files whose umask keeps everything for themselves.
    subprocess.run(["chmod", "-R", "go-rwx", "app", "models"], cwd=project.folder, check=True)
    return Source(project.folder, folder / "dvc.lock")


def built(engine: Engine, source: Source, which: Image, model: str) -> Built:
    began = time.monotonic()
    done = source.build(engine, which, model)
    assert done.status == 0, done.said[-4000:]
    name = Names.of(GCP).image(which, COMMIT)
    image = Built(name, engine.inspect(name)["Size"] / 1e6, time.monotonic() - began)
    print(f"\n{which} image: {image.size:.0f} MB unpacked, built in {image.seconds:.0f} s (with what was kept before)")
    return image


@pytest.fixture(scope="session")
def app_image(engine: Engine, source: Source) -> Built:
    return built(engine, source, "app", served_sha256(source.models))


@pytest.fixture(scope="session")
def train_image(engine: Engine, source: Source) -> Built:
    return built(engine, source, "train", "")
