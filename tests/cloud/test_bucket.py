"""The bucket that the tests of training talk to: it has to hold exactly what it is given."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloud.bucket import Bucket, parts, serve
from tests.project import ENVIRONMENT

AWKWARD = [b"", b"\r", b"\n", b"a\r", b"a\r\n", b"\r\n\r\n", b"\n--", b"--==\n", bytes(range(256)), b"x\r" * 5000]


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with serve() as bucket:
        yield bucket


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["gcsfs", "gcloud"])
@pytest.mark.parametrize("quote", ["", "'", '"'])
@pytest.mark.parametrize("content", AWKWARD)
def test_a_multipart_body_is_cut_where_its_boundary_stands(content: bytes, quote: str, end: bytes) -> None:
    body = end.join([b"--==1==", b"Content-Type: a/b", b"", b"{}", b"--==1==", b"Content-Type: c/d", b"", content])
    found = parts(f"multipart/related; boundary={quote}==1=={quote}", body + end + b"--==1==--" + end)
    assert found == [(b"Content-Type: a/b", b"{}"), (b"Content-Type: c/d", content)]


def test_gcsfs_gets_back_what_it_gave(bucket: Bucket) -> None:
    import gcsfs

    files = gcsfs.GCSFileSystem(endpoint_url=bucket.address, token="anon")
    for number, content in enumerate(AWKWARD):
        files.pipe_file(f"{bucket.name}/folder/{number}", content)
        assert files.cat_file(f"{bucket.name}/folder/{number}") == content
    assert len(files.find(f"{bucket.name}/folder")) == len(AWKWARD)
    files.rm(f"{bucket.name}/folder", recursive=True)
    assert bucket.names() == []


def test_a_lost_network_comes_back(bucket: Bucket) -> None:
    import gcsfs

    files = gcsfs.GCSFileSystem(endpoint_url=bucket.address, token="anon")
    bucket.lose(requests=2)
    files.pipe_file(f"{bucket.name}/file", b"arrived")
    assert (bucket.refused, bucket.read("file")) == (2, b"arrived")


@pytest.mark.slow
def test_dvc_gets_back_files_that_end_in_a_carriage_return(bucket: Bucket, tmp_path: Path) -> None:
    environment = (
        ENVIRONMENT | bucket.environment | {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(tmp_path / "s")}
    )
    folder = tmp_path / "folder"
    folder.mkdir()
    for number, content in enumerate(AWKWARD):
        (folder / f"{number}.bin").write_bytes(content)
    for words in (
        ["init", "--no-scm"],
        ["remote", "add", "--default", "gcs", f"gs://{bucket.name}/dvc"],
        ["remote", "modify", "gcs", "verify", "true"],
        ["add", "folder"],
        ["push"],
        ["pull"],
    ):
        if words == ["pull"]:
            shutil.rmtree(folder)
            shutil.rmtree(tmp_path / ".dvc/cache")
        subprocess.run([sys.executable, "-m", "dvc", *words], cwd=tmp_path, env=environment, check=True)
    assert [(folder / f"{number}.bin").read_bytes() for number in range(len(AWKWARD))] == AWKWARD
