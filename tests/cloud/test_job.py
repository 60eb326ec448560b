"""The job in its container, with real DVC, real stages and a bucket on loopback."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from deploy import job
from deploy.gcloud import CloudError
from deploy.runner import Runner
from tests.cloud.bucket import Bucket, serve
from tests.cloud.container import Container
from tests.project import Project

RUN = "20260101-120000-abcdef12"
CHECKPOINTS = f"runs/{RUN}/checkpoints"


def in_a_container(test: Callable[..., None]) -> Callable[..., None]:
    """A test that runs whole jobs."""
    linux = pytest.mark.skipif(sys.platform == "win32", reason="the train image is Linux")
    return pytest.mark.slow(pytest.mark.timeout(600)(linux(test)))


# The network


class Action:
    """Something over the network: it fails as often as it is told, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls = list(errors), 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def http(code: int) -> Exception:
    from gcsfs.retry import HttpError

    return HttpError({"code": code, "message": "says Google"})


def test_a_network_that_comes_back_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    import aiohttp
    import requests

    action = Action(
        ConnectionRefusedError("nobody there"), TimeoutError(), aiohttp.ServerDisconnectedError(), http(503),
        requests.ConnectionError("lost"),
    )  # fmt: skip
    assert job.patiently("the file cannot be written", action, [0] * 5) == "done"
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "# the file cannot be written: nobody there; again in 0 s"
    assert said[1] == "# the file cannot be written: TimeoutError; again in 0 s"
    assert len(said) == 5


def test_a_network_that_stays_away_is_said_in_a_line() -> None:
    action = Action(*(ConnectionResetError("line one\n   line two") for _ in range(9)))
    with pytest.raises(CloudError, match=r"^the file cannot be read: line one line two$"):
        job.patiently("the file cannot be read", action, [0, 0])
    assert action.calls == 3


@pytest.mark.parametrize(
    "error", [http(403), PermissionError("not yours"), FileNotFoundError("b/o"), ValueError("odd")]
)
def test_what_no_waiting_mends_is_said_at_once(error: Exception) -> None:
    action = Action(error)
    with pytest.raises(CloudError, match=r"^it cannot be done: "):
        job.patiently("it cannot be done", action, [0, 0])
    assert action.calls == 1


def test_a_mistake_of_ours_is_not_taken_for_the_network() -> None:
    with pytest.raises(ZeroDivisionError):
        job.patiently("it cannot be done", Action(ZeroDivisionError()), [0])


class Failing(Runner):
    """DVC whose push fails some times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times, self.calls = times, 0

    def run(self, argv: object) -> tuple[int, list[str]]:
        self.calls += 1
        return (255, ["ERROR: failed to push"]) if self.calls <= self.times else (0, [])


def test_a_push_is_tried_again_and_in_the_end_given_up() -> None:
    job.push(runner := Failing(2), [0, 0], "--run-cache")
    assert runner.calls == 3
    with pytest.raises(CloudError, match=r"^the results are not in the bucket: failed to push$"):
        job.push(Failing(3), [0, 0], "--run-cache")


# What is told


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["train: the loss is nan", "ERROR: failed to reproduce 'train'", ""], "train: the loss is nan"),
        (["x", "ERROR: failed to reproduce 'train': killed"], "failed to reproduce 'train': killed"),
        (["something", ""], "something"),
        ([], "it printed nothing"),
    ],
)
def test_the_reason_is_the_stages_own_line_before_dvcs(lines: list[str], said: str) -> None:
    assert job.reason(lines) == said


@pytest.mark.parametrize(
    "spec", ["{", "[]", '"x"', '{"task": 3}', '{"task": {"index": "first"}}', '{"task": {"index": null}}']
)
def test_a_cluster_spec_that_vertex_would_not_set_is_said(monkeypatch: pytest.MonkeyPatch, spec: str) -> None:
    monkeypatch.setenv("CLUSTER_SPEC", spec)
    with pytest.raises(CloudError, match=r"^CLUSTER_SPEC is not what Vertex AI sets: "):
        job.is_first()


@pytest.mark.parametrize(
    ("spec", "first"),
    [
        ("", True),
        ('{"cluster": {"workerpool0": ["a:1"]}, "task": {"type": "workerpool0", "index": 0}}', True),
        ('{"cluster": {}, "task": {"type": "workerpool1", "index": 0}}', False),
        ('{"cluster": {}, "task": {"type": "workerpool0", "index": 1}}', False),
    ],
)
def test_one_node_is_the_first(monkeypatch: pytest.MonkeyPatch, spec: str, first: bool) -> None:
    monkeypatch.setenv("CLUSTER_SPEC", spec)
    assert job.is_first() is first


@pytest.mark.parametrize("words", [["--bucket=b"], ["--bucket=b", "--run=UPPER"], ["--bucket=b", "--run=../other"]])
def test_a_bucket_wants_a_run(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        job.main(words)
    assert end.value.code == 2
    assert "--bucket wants --run" in capsys.readouterr().err


def test_a_run_ends_once_and_a_failure_from_before_is_of_another_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as bucket:
        for key, value in bucket.environment.items():
            monkeypatch.setenv(key, value)
        theirs = job.Bucket(bucket.name, RUN, ["lr=0.1"], waits=[])
        now = datetime.now(UTC).replace(microsecond=0)
        before, after = now - timedelta(seconds=5), now + timedelta(hours=1)
        assert theirs.end_since(before) == ""
        theirs.say("running")
        assert theirs.end_since(before) == ""
        for state in ("failed", "stopped"):
            theirs.say(state, "why")
            assert (theirs.end_since(before), theirs.end_since(after)) == (state, "")
        theirs.say("finished")
        assert (theirs.end_since(before), theirs.end_since(after)) == ("finished", "finished")
        assert state_of(bucket)["settings"] == ["lr=0.1"]
        assert theirs.get("dvc.lock") is None


# The whole job


@dataclass
class Finished:
    """A run that has ended well, and the bucket that holds it."""

    project: Project
    bucket: Bucket
    container: Container
    said: str


def state_of(bucket: Bucket, run: str = RUN) -> dict[str, object]:
    state: dict[str, object] = json.loads(bucket.read(f"runs/{run}/state.json"))
    return state


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("job")
    project = Project(folder / "project", epochs=8)
    with serve() as bucket:
        checkpoints = f"gs://{bucket.name}/{CHECKPOINTS}"
        container = Container(folder / "container", project, bucket, RUN, AIP_CHECKPOINT_DIR=checkpoints)
        status, said = container.run("-S", "lr=4e-3")
        assert status == 0, said
        yield Finished(project, bucket, container, said)


@in_a_container
def test_wrong_settings_end_it_in_a_line(finished: Finished, tmp_path: Path) -> None:
    container = Container(tmp_path, finished.project, finished.bucket, "wrong")
    status, said = container.run("-S", "lr=fast")
    assert (status, said) == (1, "job: -S: lr: 'fast' is not allowed; it is a number, above 0, at most 10\n")
    assert state_of(finished.bucket, "wrong")["state"] == "failed"
    assert container.started == []


@in_a_container
def test_a_run_leaves_its_files_and_no_checkpoint(finished: Finished) -> None:
    bucket, folder = finished.bucket, finished.container.folder
    assert finished.container.started == ["prepare", "train", "evaluate", "export"]
    assert bucket.names(f"runs/{RUN}/") == [
        f"runs/{RUN}/{name}" for name in ("dvc.lock", "metrics.json", "params.yaml", "state.json")
    ]
    assert bucket.read(f"runs/{RUN}/dvc.lock") == (folder / "dvc.lock").read_bytes()
    assert yaml.safe_load(bucket.read(f"runs/{RUN}/params.yaml"))["lr"] == 0.004
    metrics = json.loads(bucket.read(f"runs/{RUN}/metrics.json"))[""]["data"]
    assert 0 <= metrics["reports/evaluation/metrics.json"]["data"]["accuracy"] <= 1
    state = state_of(bucket)
    assert (state["state"], state["settings"]) == ("finished", ["lr=4e-3"])
    assert any(name.startswith(CHECKPOINTS) for name in bucket.written)


@in_a_container
def test_the_same_again_trains_nothing(finished: Finished, tmp_path: Path) -> None:
    container = Container(tmp_path, finished.project, finished.bucket, "again")
    status, said = container.run("-S", "lr=4e-3")
    assert status == 0, said
    assert container.started == []
    assert finished.bucket.read("runs/again/dvc.lock") == finished.bucket.read(f"runs/{RUN}/dvc.lock")


@in_a_container
def test_a_stage_that_fails_is_quoted_and_what_came_before_is_kept(finished: Finished, tmp_path: Path) -> None:
    words = ("-S", "lr=4e-3", "-S", "coverage=0.8", "-S", "min_accuracy=1.0")
    container = Container(tmp_path / "one", finished.project, finished.bucket, "fails")
    status, said = container.run(*words)
    assert status == 1, said
    state = state_of(finished.bucket, "fails")
    assert state["state"] == "failed"
    assert str(state["reason"]).startswith("export: ")
    assert said.endswith(f"job: {state['reason']}\n")
    assert container.started == ["evaluate", "export"]
    assert finished.bucket.names("runs/fails/") == ["runs/fails/state.json"]
    other = Container(tmp_path / "two", finished.project, finished.bucket, "fails")
    other.run(*words)
    assert other.started == ["export"]


@in_a_container
def test_a_cluster_spec_of_garbage_ends_it_in_a_line(finished: Finished, tmp_path: Path) -> None:
    container = Container(tmp_path, finished.project, finished.bucket, "garbage", CLUSTER_SPEC="{garbage")
    status, said = container.run()
    assert status == 1
    assert said.splitlines()[-1] == "job: CLUSTER_SPEC is not what Vertex AI sets: {garbage"
    assert "Traceback" not in said


@in_a_container
def test_a_network_lost_before_the_push_is_waited_for(finished: Finished, tmp_path: Path) -> None:
    container, bucket = Container(tmp_path, finished.project, finished.bucket, "lost"), finished.bucket
    before = bucket.refused
    with container.start("-S", "lr=4e-3", "-S", "coverage=0.85") as running:
        running.saying("Use `dvc push`")
        bucket.lose(seconds=12)
        status, said = running.end()
    assert status == 0, said
    assert bucket.refused > before
    assert state_of(bucket, "lost")["state"] == "finished"
    whole(bucket)


@in_a_container
@pytest.mark.parametrize(("kind", "count", "coverage"), [("runs", 4, 0.9), ("files", 3, 0.92)])
def test_killed_amid_the_push_and_run_again_it_is_complete(
    finished: Finished, tmp_path: Path, kind: str, count: int, coverage: float
) -> None:
    # DVC sends first what each of the four stages made of what, and then what they made.
    bucket, run = finished.bucket, f"killed-{kind}"
    words = ("-S", "lr=4e-3", "-S", f"coverage={coverage}")
    known = set(bucket.names("dvc/files/"))
    with Container(tmp_path / "one", finished.project, bucket, run).start(*words) as running:
        running.saying("Use `dvc push`")
        bucket.lose_after(count, f"dvc/{kind}/")
        running.until(lambda: bucket.is_away)
        running.kill()
    bucket.lose(seconds=0)
    assert len(set(bucket.names("dvc/files/")) - known) == (count if kind == "files" else 0)
    assert bucket.names(f"runs/{run}/") == [f"runs/{run}/state.json"]
    assert state_of(bucket, run)["state"] == "running"

    status, said = Container(tmp_path / "two", finished.project, bucket, run).run(*words)
    assert status == 0, said
    assert state_of(bucket, run)["state"] == "finished"
    there = bucket.names("dvc/files/")
    for stage in yaml.safe_load(bucket.read(f"runs/{run}/dvc.lock"))["stages"].values():
        for out in stage["outs"]:
            assert f"dvc/files/md5/{out['md5'][:2]}/{out['md5'][2:]}" in there
    whole(bucket)


@in_a_container
def test_taken_back_in_training_another_machine_ends_with_the_same_bits(finished: Finished, tmp_path: Path) -> None:
    with serve() as bucket:  # an empty one, or it would find the finished run
        checkpoints = f"gs://{bucket.name}/{CHECKPOINTS}"
        first, second = (
            Container(tmp_path / name, finished.project, bucket, RUN, AIP_CHECKPOINT_DIR=checkpoints)
            for name in ("first", "second")
        )
        with first.start("-S", "lr=4e-3") as running:
            running.saying("epoch 2/8")
            running.terminate()
            status, said = running.end()
        assert status == 143, said
        assert said.endswith("job: asked to end; the checkpoint is kept\n")
        assert state_of(bucket)["state"] == "stopped"
        assert len(bucket.names(CHECKPOINTS)) == 1
        assert first.started == ["prepare", "train"]

        status, said = second.run("-S", "lr=4e-3")
        assert status == 0, said
        assert "going on from epoch" in said
        assert "epoch 1/8" not in said
        assert bucket.read(f"runs/{RUN}/dvc.lock") == finished.bucket.read(f"runs/{RUN}/dvc.lock")
        assert bucket.names(CHECKPOINTS) == []


def whole(bucket: Bucket) -> None:
    """What DVC put into the bucket is what its name says."""
    for name in bucket.names("dvc/files/md5/"):
        content = bucket.read(name)
        assert hashlib.md5(content).hexdigest() == "".join(name.split("/")[-2:]).removesuffix(".dir"), name
