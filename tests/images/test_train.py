"""The train image: the whole pipeline in it comes out as it does outside."""

import time
from pathlib import Path

import pytest
import yaml

from tests.images.conftest import COMMIT, Built, Source
from tests.images.engine import HARDENED, Engine, await_
from tests.project import SMALL

pytestmark = [pytest.mark.images, pytest.mark.timeout(1800)]

# The folder that the user owns; a new volume is a copy of what the image has there.
WRITABLE = ("--volume=/atelier",)
SETTINGS = tuple(word for key, value in SMALL.items() for word in ("-S", f"{key}={value}"))


def test_a_wrong_setting_ends_it_with_a_line(engine: Engine, train_image: Built) -> None:
    done = engine.run("run", "--rm", *HARDENED, *WRITABLE, train_image.name, "-S", "lr=fast")
    assert done.status == 1
    (line,) = done.said.strip().splitlines()
    assert line.startswith("job: ")
    assert "lr" in line


def test_it_holds_no_git_and_nothing_to_build_with(engine: Engine, train_image: Built) -> None:
    look = (
        "import os, shutil; print(os.getuid(), os.getgid()); print(*sorted(os.listdir('.')));"
        "print([name for name in ('git', 'gcc', 'cc', 'make', 'uv') if shutil.which(name)]);"
        "print(open('.dvc/config.local').read().split())"
    )
    said = engine("run", "--rm", *HARDENED, "--entrypoint=python", train_image.name, "-c", look)
    user, here, programs, config = said.strip().splitlines()
    assert user == "10001 10001"
    code = "app data deploy dvc.lock dvc.yaml invoke.yaml params.yaml pyproject.toml stages tasks.py"
    assert here == f".dvc .dvcignore {code}"
    assert programs == "[]"
    assert config == "['[core]', 'no_scm', '=', 'true']"  # and not the builder's own
    labels = engine.inspect(train_image.name)["Config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == COMMIT


def test_the_pipeline_comes_out_as_outside(engine: Engine, train_image: Built, source: Source, tmp_path: Path) -> None:
    began = time.monotonic()
    with engine.container(train_image.name, *SETTINGS, options=WRITABLE) as container:
        assert container.wait() == 0, container.logs()
        took = time.monotonic() - began
        print(f"\nthe whole pipeline on {SMALL['sketches']} sketches: {took:.0f} s in the container")
        engine("cp", f"{container.name}:/atelier/dvc.lock", str(tmp_path))
    assert yaml.safe_load((tmp_path / "dvc.lock").read_text()) == yaml.safe_load(source.lock.read_text())


def test_it_stops_when_it_is_told_to_and_goes_on_when_started_again(engine: Engine, train_image: Built) -> None:
    words = (*SETTINGS, "-S", "epochs=500")
    with engine.container(train_image.name, *words, options=WRITABLE) as container:
        await_("no training", container, "epoch 1/500", 240)  # before its first step there is nothing to keep
        began = time.monotonic()
        assert container.stop(60) == 143, container.logs()
        print(f"\nended {time.monotonic() - began:.1f} s after SIGTERM")
        assert "the checkpoint is kept" in container.logs()
        engine("start", container.name)
        await_("no checkpoint was found", container, "going on from epoch", 240)
