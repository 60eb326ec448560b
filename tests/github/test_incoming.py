"""Pictures that `.dvc` files name, with real DVC and a folder in place of the bucket."""

import shutil
from pathlib import Path

import pytest
import yaml

from deploy import incoming, lock
from deploy.gcloud import CloudError
from tests.github.conftest import Small

pytestmark = pytest.mark.slow  # DVC is started up to ten times a test


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    folder = tmp_path / "bucket"
    (folder / "hat").mkdir(parents=True)
    (folder / "hat/1.png").write_bytes(b"1")
    return folder


@pytest.fixture
def imported(small: Small, bucket: Path) -> Small:
    """The pipeline's pictures come from the bucket; run and committed."""
    small.dvc("import-url", str(bucket), "data/garments")
    small.set(data_dir="data/garments")
    small.dvc("repro")
    small.commit()
    return small


def pictures(small: Small) -> list[str]:
    return sorted(file.name for file in (small.folder / "data/garments/hat").iterdir())


def test_no_dvc_files_nothing_to_fetch(small: Small) -> None:
    assert incoming.fetch() == []
    assert incoming.fetch(newest=True) == []


def test_what_came_into_the_bucket_is_there_and_named(imported: Small, bucket: Path) -> None:
    (bucket / "hat/2.png").write_bytes(b"2")
    assert incoming.fetch() == []  # as it was when the file was written
    assert pictures(imported) == ["1.png"]
    assert incoming.fetch(newest=True) == ["data/garments.dvc"]
    assert pictures(imported) == ["1.png", "2.png"]
    assert incoming.fetch(newest=True) == []
    assert lock.behind() == []  # to try one's own pictures is no change
    assert lock.behind(pictures=True) == ["evaluate: data/garments modified"]


def test_a_clone_fetches_what_was_pushed(imported: Small, bucket: Path, tmp_path: Path) -> None:
    imported.dvc("remote", "add", "--default", "storage", str(tmp_path / "remote"))
    imported.dvc("push", "data/garments.dvc")
    shutil.rmtree(bucket)
    forget(imported)
    assert incoming.fetch() == []
    assert pictures(imported) == ["1.png"]


def test_what_nobody_pushed_is_only_to_be_had_anew(imported: Small, tmp_path: Path) -> None:
    imported.dvc("remote", "add", "--default", "storage", str(tmp_path / "remote"))
    forget(imported)
    with pytest.raises(CloudError, match=r"^data/garments\.dvc: .* failed to pull data from the cloud") as error:
        incoming.fetch()
    assert "\n" not in str(error.value)
    assert incoming.fetch(newest=True) == []
    assert pictures(imported) == ["1.png"]


def forget(imported: Small) -> None:
    """Be a clone."""
    shutil.rmtree(imported.folder / "data/garments")
    imported.forget()


def test_a_bucket_that_is_gone_is_said_in_a_line(imported: Small, bucket: Path) -> None:
    shutil.rmtree(bucket)
    with pytest.raises(CloudError, match=r"^data/garments\.dvc: its pictures could not be had: .*bucket") as error:
        incoming.fetch(newest=True)
    assert "\n" not in str(error.value)


def test_pictures_that_were_added_have_no_newer_ones(small: Small) -> None:
    (small.folder / "data/own").mkdir()
    (small.folder / "data/own/1.png").write_bytes(b"1")
    small.dvc("add", "data/own")
    small.commit()
    assert "deps" not in yaml.safe_load((small.folder / "data/own.dvc").read_text())
    shutil.rmtree(small.folder / "data/own")
    assert incoming.fetch(newest=True) == []
    assert (small.folder / "data/own/1.png").read_bytes() == b"1"
