"""The hand-off: what a job made in its container comes to clones of the repository, and nothing is run there."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import lock, results, runs, training
from deploy.gcloud import CloudError, NotFoundError, Shell
from deploy.names import Names
from tests.cloud import container
from tests.cloud.bucket import Bucket, serve
from tests.cloud.conftest import GCP
from tests.cloud.container import Container, cloned
from tests.project import ENVIRONMENT, Project

RUN = "20260101-120000-abcdef12"
SETTINGS = ("epochs=2", "lr=4e-3")


def a_job(state: str = "SUCCEEDED", **more: Any) -> dict[str, Any]:
    """A job as gcloud describes it."""
    arguments = ["--bucket=demo-project-atelier", f"--run={RUN}"] + [word for s in SETTINGS for word in ("-S", s)]
    spec = {"containerSpec": {"imageUri": f"registry/train:{'a' * 40}", "args": arguments}}
    name = "projects/1/locations/europe-west1/customJobs/77"
    return {
        "name": name,
        "displayName": RUN,
        "state": f"JOB_STATE_{state}",
        "jobSpec": {"workerPoolSpecs": [spec]},
    } | more


@dataclass(frozen=True)
class Answers(Shell):
    """What gcloud would answer: a job, and what lies in the bucket."""

    bucket: Bucket | None = None
    job: Any = None

    def read(self, argv: Any) -> str:
        if argv[1:4] == ["ai", "custom-jobs", "list"]:
            return json.dumps([self.job] if self.job else [])
        assert argv[1:3] == ["storage", "cat"], argv
        name = argv[3].partition("/runs/")[2]
        if self.bucket is None or f"runs/{name}" not in self.bucket.names("runs/"):
            raise NotFoundError(f"{argv[3]} matched no objects")
        assert argv[3] == f"gs://{self.bucket.name}/runs/{name}"
        return self.bucket.read(f"runs/{name}").decode()


# A job that has not ended well


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (None, f"there is no run {RUN} in demo-project, europe-west1"),
        (a_job("RUNNING", startTime="2026-01-01T12:00:00Z"),
         f"{RUN} is not at its end, it is running since 2026-01-01T12:00:00Z: `gcloud ai custom-jobs stream-logs 77 "),
        (a_job("PENDING"), f"{RUN} is not at its end, it is pending since just now: "),
        (a_job("CANCELLED"), f"{RUN} was cancelled: `uv run invoke train --cloud --run {RUN}` goes on"),
        (a_job("FAILED", error={"message": "no capacity"}), f"{RUN} failed before it wrote anything: no capacity"),
    ],
    ids=["none", "running", "pending", "cancelled", "failed"],
)  # fmt: skip
def test_a_run_that_has_nothing_to_bring_says_why(names: Names, job: Any, said: str) -> None:
    with pytest.raises(CloudError) as error:
        results.results(Answers(job=job), names, RUN)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("failed", f"{RUN} failed: train: the loss is nan"),
        (
            "stopped",
            f"{RUN} was stopped, its machine was taken back: `uv run invoke train --cloud --run {RUN}` goes on",
        ),
    ],
)
def test_what_the_container_left_tells_more_than_vertex(names: Names, state: str, said: str) -> None:
    with serve() as bucket:
        left = {"state": state, "reason": "train: the loss is nan"}
        bucket.write(f"runs/{RUN}/state.json", json.dumps(left).encode())
        with pytest.raises(CloudError) as error:
            results.results(Answers(bucket=bucket, job=a_job("FAILED")), names, RUN)
    assert str(error.value).startswith(said)


def test_a_finished_run_whose_lock_is_gone_is_said(names: Names, tmp_path: Path) -> None:
    with pytest.raises(CloudError, match=rf"gs://demo-project-atelier/runs/{RUN}/dvc.lock is not there"):
        results.bring(Answers(), names, a_job(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_no_run_has_is_refused_before_anybody_is_asked(names: Names) -> None:
    with pytest.raises(CloudError, match="is no run's ID"):
        results.results(Answers(), names, "--all")


def test_a_dry_run_asks_nobody(
    names: Names, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    results.results(Shell(dry_run=True), names, RUN)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines[:2]] == [
        ["gcloud", "ai", "custom-jobs", "list"],
        ["gcloud", "storage", "cat", f"gs://demo-project-atelier/runs/{RUN}/dvc.lock"],
    ]
    assert lines[2].startswith("# then")


@pytest.mark.parametrize("error", [CloudError("no"), KeyboardInterrupt()])
def test_files_are_as_before_after_an_error(tmp_path: Path, error: BaseException) -> None:
    there, absent = tmp_path / "there", tmp_path / "absent"
    there.write_bytes(b"before\r\n")
    with pytest.raises(type(error)), results.kept_on_error([there, absent]):
        there.write_text("after")
        absent.write_text("after")
        raise error
    assert there.read_bytes() == b"before\r\n"
    assert not absent.exists()


def test_outs_that_differ_are_those_with_another_hash_or_none() -> None:
    mine, theirs = (
        yaml.safe_dump({"stages": {"s": {"outs": [{"path": path, "md5": md5} for path, md5 in outs.items()]}}})
        for outs in ({"a": "1", "b": "1", "gone": "1"}, {"a": "1", "b": "2", "new": "1"})
    )
    assert results.differing(mine, theirs) == ("b", "gone", "new")
    assert results.differing("", theirs) == ("a", "b", "new")
    assert results.differing(theirs, theirs) == ()


@pytest.mark.parametrize(
    ("status", "printed", "said"),
    [
        (0, "WARNING: Some do not exist", "missing or damaged in the bucket: one (gs://b/dvc/files/md5/11/aa), d ("),
        (255, "ERROR: failed to transfer '22aa' - b/b/o/dvc%2Ffiles\nERROR: unexpected error - x",
         "missing or damaged in the bucket: a file of d (gs://b/dvc/files/md5/22/aa); remove it there, and run"),
        (1, "ERROR: failed to transfer '22aa' - b/dvc/files/md5/22\nERROR: failed to fetch data from the cloud",
         "missing or damaged in the bucket: a file of d (gs://b/dvc/files/md5/22/aa); remove it there, and run"),
        (255, "ERROR: unexpected error - object 33aa.dir is corrupted: Expecting value",
         "missing or damaged in the bucket: d (gs://b/dvc/files/md5/33/aa.dir); "),
        (255, "ERROR: failed to transfer '11aa' - Cannot connect to host\nERROR: unexpected error - Cannot connect",
         "not everything could be pulled from gs://b/dvc: unexpected error - Cannot connect"),
    ],
    ids=["missing", "missing in a folder", "missing and alone", "no folder", "no network"],
)  # fmt: skip
def test_a_lost_network_is_not_taken_for_a_damaged_bucket(status: int, printed: str, said: str) -> None:
    lost = {"one": "11aa", "d": "33aa.dir"}
    fetched = subprocess.CompletedProcess([], status, "", printed)
    assert results.unfetched("gs://b/dvc", fetched, lost).startswith(said)


# The hand-off


@dataclass
class HandedOver:
    """A finished run: the project it was made from, the bucket that holds it."""

    project: Project
    bucket: Bucket
    names: Names

    def place(self, path: str) -> str:
        """Where the bucket has an out."""
        hashes = lock.hashes(lock.stages(self.lock))
        if path in hashes:
            md5 = hashes[path]
        else:  # a file of a folder
            folder, _, name = path.rpartition("/")
            md5 = next(e["md5"] for e in json.loads(self.bucket.read(self.place(folder))) if e["relpath"] == name)
        return f"dvc/files/md5/{md5[:2]}/{md5[2:]}"

    @property
    def lock(self) -> str:
        """The run's dvc.lock."""
        return self.bucket.read(f"runs/{RUN}/dvc.lock").decode()


@pytest.fixture(scope="module")
def handed_over(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HandedOver]:
    folder = tmp_path_factory.mktemp("results")
    project = Project(folder / "project")
    with serve() as bucket:
        words = [word for setting in SETTINGS for word in ("-S", setting)]
        status, said = Container(folder / "container", project, bucket, RUN).run(*words)
        assert status == 0, said
        yield HandedOver(project, bucket, Names.of(GCP))


@dataclass
class Laptop:
    """A clone, in which every stage that is started leaves a line."""

    clone: Project
    log: Path
    handed: HandedOver

    @property
    def started(self) -> list[str]:
        """The stages that were."""
        return container.started(self.log)

    def bring(self) -> None:
        """`invoke results`."""
        results.results(Answers(bucket=self.handed.bucket, job=a_job()), self.handed.names, RUN)

    def state(self) -> dict[str, bytes]:
        """All files that are not DVC's scratch."""
        files = (path for path in self.clone.folder.rglob("*") if path.is_file())
        names = {path.relative_to(self.clone.folder).as_posix(): path for path in files}
        return {
            name: path.read_bytes()
            for name, path in names.items()
            if not name.startswith((".git/", ".dvc/cache", ".dvc/tmp"))
        }


@pytest.fixture
def laptop(handed_over: HandedOver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Laptop:
    clone = cloned(handed_over.project, tmp_path / "clone")
    for key, value in container.environment(handed_over.bucket, tmp_path / "started.log").items():
        if os.environ.get(key) != value:
            monkeypatch.setenv(key, value)
            monkeypatch.setitem(ENVIRONMENT, key, value)
    monkeypatch.chdir(clone.folder)
    return Laptop(clone, tmp_path / "started.log", handed_over)


def by_hand(test: Callable[..., None]) -> Callable[..., None]:
    """A test with a run that was handed over."""
    posix = pytest.mark.skipif(sys.platform == "win32", reason="the train image is Linux")
    return pytest.mark.slow(pytest.mark.timeout(300)(posix(test)))


@by_hand
def test_results_are_brought_and_nothing_is_run(
    laptop: Laptop, handed_over: HandedOver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    laptop.clone.dvc("remote", "add", "--default", "mine", str(tmp_path / "mine"))  # and nothing is there
    config = (laptop.clone.folder / ".dvc/config").read_bytes()
    laptop.bring()
    said = capsys.readouterr().out
    assert f"dvc.lock is gs://{handed_over.bucket.name}/runs/{RUN}/dvc.lock" in said
    assert "other than in the dvc.lock that was: data/prepared, models/README.md" in said
    assert Path("dvc.lock").read_text() == handed_over.lock
    assert "epochs: 2\n" in Path("params.yaml").read_text()
    assert lock.behind(outs=True) == []
    assert json.loads(Path("models/serve.json").read_text())["file"].startswith("model")
    assert Path(".dvc/config").read_bytes() == config
    assert not Path(".dvc/config.local").exists()
    changed = {line.split()[-1] for line in laptop.clone.git("status", "--porcelain").splitlines()}
    assert changed == {"dvc.lock", "params.yaml", ".dvc/config"}
    assert "up to date" in laptop.clone.dvc("repro")

    laptop.bring()
    assert f"{RUN} is here, and equal to the dvc.lock that was: the same bits" in capsys.readouterr().out
    lines = Path("dvc.lock").read_text()
    other = lock.hashes(lock.stages(lines))["models/mistakes.png"]
    Path("dvc.lock").write_text(lines.replace(other, "0" * 32))
    laptop.bring()
    assert capsys.readouterr().out.endswith("other than in the dvc.lock that was: models/mistakes.png\n")
    assert Path("dvc.lock").read_text() == handed_over.lock
    assert laptop.started == []


@by_hand
def test_plain_dvc_pulls_it_too_and_runs_nothing(laptop: Laptop, handed_over: HandedOver) -> None:
    laptop.clone.dvc("remote", "add", "--default", "gcs", runs.remote(handed_over.bucket.name))
    laptop.clone.set(epochs=2, lr=0.004)
    said = laptop.clone.dvc("repro", "--pull")
    assert said.count("is cached - skipping run, checking out outputs") == 4
    assert laptop.started == []
    assert Path("dvc.lock").read_text() == handed_over.lock
    assert lock.behind(outs=True) == []


@by_hand
@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("params.yaml", "width: 24", "train: params.yaml: width modified"),
        ("stages/evaluate.py", "# another", "evaluate: stages/evaluate.py modified"),
        ("dvc.yaml", "python -W error -m stages.export", "export: changed command"),
    ],
)
def test_a_tree_that_is_not_the_runs_is_refused_and_left(laptop: Laptop, file: str, text: str, said: str) -> None:
    before = Path(file).read_text()
    changed = before.replace("width: 16", text).replace("python -m stages.export", text)
    Path(file).write_text(changed if changed != before else f"{before}{text}\n")
    state = laptop.state()
    with pytest.raises(CloudError) as error:
        laptop.bring()
    assert str(error.value) == (
        f"{RUN} was made from something else than is here ({said}): "
        f"`git switch --detach {'a' * 12}`, then `uv run invoke results {RUN}`"
    )
    assert laptop.state() == state
    assert laptop.started == []


@by_hand
@pytest.mark.parametrize("path", ["models/network.pt", "reports/evaluation", "reports/evaluation/confusion.csv"])
@pytest.mark.parametrize("fault", ["damaged", "missing"])
def test_what_is_not_whole_in_the_bucket_is_named_and_nothing_is_left_of_it(
    laptop: Laptop, handed_over: HandedOver, fault: str, path: str
) -> None:
    bucket, place = handed_over.bucket, handed_over.place(path)
    good, state = bucket.read(place), laptop.state()
    if fault == "missing":
        bucket.remove(place)
    else:
        bucket.write(place, good[:-1] + bytes([good[-1] ^ 1]))
    try:
        with pytest.raises(CloudError) as error:
            laptop.bring()
    finally:
        bucket.write(place, good)
    assert "missing or damaged in the bucket: " in str(error.value)
    if (fault, path) == ("missing", "reports/evaluation/confusion.csv"):  # DVC leaves out the folder's list, then
        path = "a file of reports/evaluation"
    assert f"{path} (gs://{bucket.name}/{place})" in str(error.value)
    assert "\n" not in str(error.value)
    assert laptop.state() == state
    laptop.bring()  # now that it is mended
    assert lock.behind(outs=True) == []
    assert laptop.started == []


@by_hand
def test_the_real_gcloud_reads_what_a_run_left(
    handed_over: HandedOver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("gcloud") is None:
        pytest.skip("gcloud is not on the PATH")
    for key, value in {
        "CLOUDSDK_CONFIG": str(tmp_path),
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": f"{handed_over.bucket.address}/storage/v1/",
    }.items():
        monkeypatch.setenv(key, value)
    assert Shell().read(training.cat(handed_over.names, RUN, "dvc.lock")) == handed_over.lock
    assert training.left_state(Shell(), handed_over.names, RUN)["state"] == "finished"
    with pytest.raises(NotFoundError):
        Shell().read(training.cat(handed_over.names, "another", "dvc.lock"))
