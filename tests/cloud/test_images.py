"""Building: what Cloud Build and a local engine are told."""

import subprocess
from pathlib import Path

import pytest
import yaml

from deploy import images, repository
from deploy.gcloud import CloudError, Shell
from deploy.names import Names
from tests.cloud.conftest import Cloud
from tests.cloud.fake import RefusedError
from tests.cloud.fake.registry import Registry
from tests.conftest import commit

COMMIT = "a" * 40


def test_an_image_is_there_or_not(cloud: Cloud, names: Names) -> None:
    registry = Registry(cloud.google, set())
    assert not images.is_there(Shell(), names, "app", COMMIT)
    registry.images.add(names.image("app", "b" * 40))
    assert not images.is_there(Shell(), names, "app", COMMIT)
    registry.images.add(names.image("app", COMMIT))
    assert images.is_there(Shell(), names, "app", COMMIT)
    cloud.google.refuse("GET", "artifactregistry", RefusedError(403, "PERMISSION_DENIED", "Permission denied on it"))
    with pytest.raises(CloudError, match="permission denied"):
        images.is_there(Shell(), names, "app", COMMIT)


def test_cloud_build_is_told_what_its_file_asks_for(names: Names) -> None:
    argv = images.cloud_build(names, "app", COMMIT, "b" * 64)
    given = dict(
        pair.split("=") for word in argv if word.startswith("--substitutions=") for pair in word[16:].split(",")
    )
    assert given.keys() == yaml.safe_load(images.CONFIG.read_text())["substitutions"].keys()
    assert given["_IMAGE"] == f"europe-west1-docker.pkg.dev/demo-project/atelier/app:{COMMIT}"


def test_without_an_engine_a_local_build_says_so(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CloudError, match="neither docker nor buildah"):
        images.build(Shell(), names, "app", commit=COMMIT, model="", local=True)


def test_a_commit_is_clean_or_allowed_to_be_dirty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CloudError, match="no git repository"):
        repository.commit()
    subprocess.run(["git", "init", "--quiet"], check=True)
    commit(tmp_path, "--allow-empty")
    clean = repository.commit()
    assert len(clean) == 40
    Path("new.txt").write_text("x")
    with pytest.raises(CloudError, match=r"the work tree has changes \(new.txt"):
        repository.commit()
    assert repository.commit(allow_dirty=True) == clean


def test_no_model_to_build_with(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="uv run dvc repro"):
        repository.served_sha256(tmp_path)
