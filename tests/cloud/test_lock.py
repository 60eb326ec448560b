"""Whether dvc.lock is behind, asked of the real DVC in a pipeline of two copies."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy import lock
from deploy.gcloud import CloudError
from tests.project import ENVIRONMENT

pytestmark = pytest.mark.slow
PIPELINE = {
    "stages": {
        "first": {
            "cmd": "python repeat.py in.txt middle",
            "deps": ["repeat.py", "in.txt", "pictures"],
            "params": ["lr", "seed"],
            "outs": ["middle"],
        },
        "second": {"cmd": "python repeat.py middle last", "deps": ["repeat.py", "middle"], "outs": ["last"]},
    }
}


def dvc(folder: Path, *words: str) -> None:
    environment = {**ENVIRONMENT, "DVC_NO_ANALYTICS": "1"}
    subprocess.run([sys.executable, "-m", "dvc", *words], cwd=folder, env=environment, check=True)


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lock")
    dvc(folder, "init", "--no-scm")
    (folder / "repeat.py").write_text("import shutil, sys\nshutil.copy(*sys.argv[1:])\n")
    (folder / "in.txt").write_text("one")
    (folder / "pictures").mkdir()
    (folder / "pictures/a.png").write_text("a picture")
    (folder / "params.yaml").write_text("data_dir: pictures\nlr: 1\nseed: 1\n")
    (folder / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
    dvc(folder, "repro")
    return folder


@pytest.fixture
def folder(reproduced: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(reproduced, tmp_path / "copy"))


def test_code_params_and_commands_put_it_behind(folder: Path) -> None:
    (folder / "in.txt").unlink()
    (folder / "params.yaml").write_text("data_dir: pictures\nlr: 2\nseed: 2\n")
    pipeline = (folder / "dvc.yaml").read_text()
    (folder / "dvc.yaml").write_text(pipeline.replace("middle last", "middle  last"))
    assert lock.behind(folder) == [
        "first: in.txt deleted",
        "first: params.yaml: lr modified",
        "first: params.yaml: seed modified",
        "second: changed command",
    ]


def test_pictures_count_for_those_who_ask(folder: Path) -> None:
    (folder / "pictures/b.png").write_text("another")
    assert lock.behind(folder) == []
    assert lock.behind(folder, pictures=True) == ["first: pictures modified"]


def test_a_clone_has_no_outs_and_is_in_step(folder: Path) -> None:
    for name in ("middle", "last"):
        (folder / name).unlink()
    assert lock.behind(folder) == []
    assert lock.behind(folder, outs=True) == ["first: middle deleted", "second: middle deleted", "second: last deleted"]


def test_outs_of_an_earlier_run_count_only_for_those_who_ask(folder: Path) -> None:
    (folder / "last").unlink()
    (folder / "last").write_text("of another run")
    assert lock.behind(folder) == []
    assert lock.behind(folder, outs=True) == ["second: last modified"]


def test_a_stage_run_again_leaves_the_next_behind_in_a_clone_too(folder: Path) -> None:
    (folder / "in.txt").write_text("two")
    dvc(folder, "repro", "first")
    for name in ("middle", "last"):
        (folder / name).unlink()
    assert lock.behind(folder) == ["second: middle made anew since"]


def test_where_dvc_cannot_tell_it_says_why(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match=r"dvc status failed: ERROR: .*not.* inside of a DVC repository"):
        lock.behind(tmp_path)
