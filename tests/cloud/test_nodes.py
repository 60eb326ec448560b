"""Two nodes of a job, each in a container of its own: they meet as CLUSTER_SPEC says, and one result is left."""

import json
import socket
import sys
from pathlib import Path

import pytest
import yaml

from tests.cloud.bucket import Bucket, serve
from tests.cloud.container import Container
from tests.project import ENVIRONMENT, Project

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux", reason="the train image is Linux, whose loopback is a whole network"),
]
RUN = "two-nodes"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def nodes(folder: Path, project: Project, bucket: Bucket) -> list[Container]:
    """The first of each pool, each with an address of its own."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    cluster = {"workerpool0": [f"127.0.0.1:{port}"], "workerpool1": [f"127.0.0.2:{port}"]}
    return [
        Container(
            folder / pool,
            project,
            bucket,
            RUN,
            CLUSTER_SPEC=json.dumps({"cluster": cluster, "task": {"type": pool, "index": 0}, "environment": "cloud"}),
            AIP_CHECKPOINT_DIR=f"gs://{bucket.name}/runs/{RUN}/checkpoints",
            **ONE_THREAD,
        )
        for pool in cluster
    ]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """What two processes make of it on one machine."""
    project = Project(tmp_path_factory.mktemp("nodes") / "project", epochs=8)
    project.set(devices=2)
    with pytest.MonkeyPatch.context() as patch:
        for key, value in ONE_THREAD.items():
            patch.setitem(ENVIRONMENT, key, value)
        project.dvc("repro", "train")
    project.git("restore", "params.yaml")
    return project


def made(bucket: Bucket) -> dict[str, str]:
    """What the training made, by the run's dvc.lock, of which there is one."""
    assert [name for name in bucket.names() if name.endswith("dvc.lock")] == [f"runs/{RUN}/dvc.lock"]
    lock = yaml.safe_load(bucket.read(f"runs/{RUN}/dvc.lock"))
    return {out["path"]: out["md5"] for out in lock["stages"]["train"]["outs"]}


def test_two_nodes_leave_one_result_which_is_that_of_two_processes(project: Project, tmp_path: Path) -> None:
    with serve() as bucket:
        first, second = nodes(tmp_path, project, bucket)
        with first.start() as one, second.start() as two:
            ends = [one.end(), two.end()]
        assert [status for status, _ in ends] == [0, 0], ends
        assert ", 2 processes" in one.said
        assert first.started == ["prepare", "train", "evaluate", "export"]
        assert second.started == ["prepare"]  # it trains beside DVC, not below it
        assert not (second.folder / "models/network.pt").exists()
        assert bucket.written.count(f"runs/{RUN}/dvc.lock") == 1
        assert made(bucket) == project.hashes()["train"]


def test_one_node_is_taken_back_both_stop_and_both_go_on(project: Project, tmp_path: Path) -> None:
    with serve() as bucket:
        first, second = nodes(tmp_path / "before", project, bucket)
        with first.start() as one, second.start() as two:
            one.saying("epoch 2/8")
            two.terminate()
            ends = [one.end(), two.end()]
        assert [status for status, _ in ends] == [143, 143], ends
        assert json.loads(bucket.read(f"runs/{RUN}/state.json"))["state"] == "stopped"
        assert len(bucket.names(f"runs/{RUN}/checkpoints")) == 1

        first, second = nodes(tmp_path / "after", project, bucket)
        with first.start() as one, second.start() as two:
            ends = [one.end(), two.end()]
        assert [status for status, _ in ends] == [0, 0], ends
        assert "going on from epoch" in one.said
        assert made(bucket) == project.hashes()["train"]
