"""A grid on Vertex AI: some jobs at a time, each point's end for itself, and what they made as experiments."""

import itertools
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploy import results, settings, sweep, training
from deploy.gcloud import CloudError, NotFoundError, Shell
from deploy.names import Names
from deploy.sweep import Point
from tests.cloud.conftest import Cloud
from tests.cloud.fake import RefusedError
from tests.cloud.fake.build import Objects
from tests.cloud.fake.registry import Registry
from tests.cloud.fake.vertex import Vertex
from tests.conftest import ROOT, commit

COMMIT = "a" * 40
BASE = "20261125-090807-aaaaaaaa"
GRID = [{"lr": lr, "epochs": epochs} for lr, epochs in itertools.product(("1e-3", "2e-3"), ("2", "3"))]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)


def grid(spot: bool = False) -> list[Point]:
    return sweep.points(GRID, BASE, COMMIT, spot)


@pytest.mark.parametrize(
    ("grid", "parallel", "said"),
    [
        (GRID, 0, "--parallel 0: at least 1"),
        ([{"colour": "red"}], 1, "'colour' is no param"),
        ([{"lr": "1e-3"}, {"lr": "quick"}], 1, "lr: 'quick' is not allowed"),
        ([{"epochs": ""}], 1, "-S epochs=: give a value"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_before_the_first_job(grid, parallel, said):
    with pytest.raises(CloudError) as error:
        sweep.check(grid, parallel)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_grid_that_can_be():
    sweep.check(GRID, 1)


def test_points_have_ids_that_begin_alike_and_names_that_tell():
    todo = grid(spot=True)
    assert [point.plan.run for point in todo] == [f"{BASE}-01", f"{BASE}-02", f"{BASE}-03", f"{BASE}-04"]
    assert [point.name for point in todo][:2] == ["lr1e-3-epochs2", "lr1e-3-epochs3"]
    assert todo[2].plan == training.Plan(f"{BASE}-03", COMMIT, ("lr=2e-3", "epochs=2"), spot=True)
    assert all(training.runs.is_id(point.plan.run) for point in todo)


# Without gcloud


@dataclass(frozen=True)
class Told(Shell):
    """Google as far as a sweep asks it: each look at the jobs finds them one state on.

    Attributes:
        ends: how a job ends, by the last digits of its run's ID, if not well; an error: it is not even taken.
        trouble: what happens at the next looks at the jobs; None is nothing.
        open: how many jobs were open, each time that one was submitted.
    """

    ends: dict[str, Any] = field(default_factory=dict)
    trouble: list[BaseException | None] = field(default_factory=list)
    jobs: dict[str, Any] = field(default_factory=dict)
    open: list[int] = field(default_factory=list)

    def ask(self, argv: Sequence[str]) -> Any:
        if argv[3] == "create":
            return self.create(next(word.partition("=")[2] for word in argv if word.startswith("--display-name=")))
        if argv[3] == "list":
            if self.trouble and (error := self.trouble.pop(0)):
                raise error
            for run, job in self.jobs.items():
                end = self.ends.get(run[-2:], "SUCCEEDED")
                job["state"] = {"PENDING": "RUNNING", "RUNNING": end}.get(job["state"], job["state"])
            return list(self.jobs.values())
        assert list(argv[1:3]) == ["storage", "cat"], argv
        raise NotFoundError("it left nothing")

    def create(self, run: str) -> Any:
        if isinstance(error := self.ends.get(run[-2:]), BaseException):
            raise error
        self.jobs[run] = {"name": f"projects/1/locations/r/customJobs/{run[-2:]}", "displayName": run}
        self.jobs[run]["state"] = "PENDING"
        self.open.append(sum(job["state"] in ("PENDING", "RUNNING") for job in self.jobs.values()))
        return {**self.jobs[run]}


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The experiments that were brought home, in order."""
    names: list[str] = []
    monkeypatch.setattr(sweep, "bring", lambda shell, _, point: names.append(point.name))
    monkeypatch.setattr(training, "image", lambda shell, names, commit: None)
    monkeypatch.setattr(training, "EVERY", 0)
    return names


@pytest.mark.parametrize("parallel", [1, 2, 3, 9])
def test_never_more_jobs_at_a_time_than_asked_for(names, brought, parallel):
    shell, todo = Told(), grid()
    sweep.sweep(shell, names, todo, parallel)
    assert max(shell.open) == min(parallel, 4)
    assert [point.state for point in todo] == ["here"] * 4
    assert sorted(brought) == sorted(point.name for point in todo)


def test_a_point_that_fails_does_not_end_the_others(names, brought, capsys):
    shell = Told(ends={"01": CloudError("a quota is used up: GPUs"), "03": "FAILED"})
    todo = grid()
    sweep.sweep(shell, names, todo, 1)
    assert [point.state for point in todo] == ["failed", "here", "failed", "here"]
    assert brought == ["lr1e-3-epochs3", "lr2e-3-epochs3"]
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"{BASE}-01 (lr1e-3-epochs2): a quota is used up: GPUs"
    assert second.startswith(f"{BASE}-03 (lr2e-3-epochs2): {BASE}-03 failed before it wrote anything")


def test_results_that_cannot_be_brought_home_are_that_points_failure(names, brought, monkeypatch):
    def bring(shell: Shell, names: Names, point: Point) -> None:
        if point.plan.run.endswith("2"):
            raise CloudError("missing in the bucket: models/network.pt")

    monkeypatch.setattr(sweep, "bring", bring)
    todo = grid()
    sweep.sweep(Told(), names, todo, 2)
    assert [point.reason for point in todo] == ["", "missing in the bucket: models/network.pt", "", ""]


def test_a_sweep_of_which_no_job_is_taken_ends(names, brought):
    todo = grid()
    sweep.sweep(Told(ends={f"0{n}": CloudError("permission denied") for n in range(1, 5)}), names, todo, 2)
    assert [point.state for point in todo] == ["failed"] * 4


def test_a_network_that_is_lost_for_a_while_is_waited_for(names, brought, capsys):
    lost = CloudError("Google Cloud cannot be reached: reset")
    todo = grid()
    sweep.sweep(Told(trouble=[lost, None, lost, lost]), names, todo, 4)
    assert [point.state for point in todo] == ["here"] * 4
    assert capsys.readouterr().out.count("cannot be reached: reset; asking again") == 3


def test_a_network_that_stays_lost_is_given_up_and_the_jobs_are_not(names, brought, monkeypatch):
    monkeypatch.setattr(training, "PATIENCE", -1.0)
    with pytest.raises(CloudError) as error:
        sweep.sweep(Told(trouble=[None, None, CloudError("lost")]), names, grid(), 2)
    assert str(error.value) == f"lost; the jobs go on: `uv run invoke results ID` for each of {BASE}-03 {BASE}-04"
    assert len(brought) == 2


def test_ctrl_c_says_which_runs_go_on(names, brought):
    with pytest.raises(KeyboardInterrupt, match=f"`uv run invoke results ID` for each of {BASE}-01 {BASE}-02$"):
        sweep.sweep(Told(trouble=[KeyboardInterrupt()]), names, grid(), 2)


def test_ctrl_c_during_a_submission_names_that_run_too(names, brought):
    with pytest.raises(KeyboardInterrupt, match=f"for each of {BASE}-01 {BASE}-02$"):
        sweep.sweep(Told(ends={"02": KeyboardInterrupt()}), names, grid(), 2)


def test_a_dry_run_prints_each_job_and_runs_nothing(names, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    sweep.sweep(Shell(dry_run=True), names, grid(), 2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1:4] for line in lines if line.startswith("gcloud ai")] == [
        ["ai", "custom-jobs", "create"]
    ] * 4
    assert lines[-1] == "# 2 at a time, and what they made comes back as experiments"
    assert len(list(Path(".atelier/vertex").iterdir())) == 4


# The real gcloud


def test_a_sweep_on_vertex(cloud: Cloud, names, brought, capfd):
    images = {names.image("train", COMMIT)}
    Registry(cloud.google, images)
    vertex = Vertex(cloud.google, images, {names.account(names.trainer)})
    objects = Objects(cloud.google, names.bucket)
    vertex.courses[f"{BASE}-02"] = ["PENDING", "RUNNING", "FAILED"]
    objects.held[f"gs://{names.bucket}/runs/{BASE}-02/state.json"] = {"state": "failed", "reason": "train: loss is nan"}
    vertex.error = "The replica workerpool0-0 exited with a non-zero status of 1."
    cloud.google.refuse(
        "POST", "aiplatform", RefusedError(403, "PERMISSION_DENIED", "Permission 'create' denied"), times=1, after=2
    )
    todo = grid()
    sweep.sweep(Shell(), names, todo, 2)
    assert [point.state for point in todo] == ["here", "failed", "failed", "here"]
    assert todo[1].reason == f"{BASE}-02 failed: train: loss is nan"
    assert todo[2].reason.startswith("permission denied: ")
    assert vertex.most_open == 2
    assert [training.settings_of(job) for job in reversed(vertex.jobs)] == [
        ("lr=1e-3", "epochs=2"), ("lr=1e-3", "epochs=3"), ("lr=2e-3", "epochs=3")
    ]  # fmt: skip
    assert f"{BASE}-04 is here, as the experiment lr2e-3-epochs3" in capfd.readouterr().out


# Experiments, with the real DVC


@pytest.mark.slow
def test_what_a_run_made_becomes_an_experiment_beside_the_work(names, tmp_path, monkeypatch):
    def dvc(*words: str) -> str:
        done = subprocess.run([*sweep.DVC, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def bring(shell: Shell, names: Names, job: Any, folder: Path) -> None:
        """What Vertex made, made here."""
        settings.apply(training.settings_of(job), folder / "params.yaml")
        subprocess.run([*sweep.DVC, "repro", "--quiet"], cwd=folder, check=True)

    write = "import pathlib, yaml; pathlib.Path('out.json').write_text(str(yaml.safe_load(open('params.yaml'))['lr']))"
    Path("stage.py").write_text(write, encoding="utf-8")
    stage = {"cmd": "python stage.py", "params": ["lr"], "metrics": ["out.json"]}
    Path("dvc.yaml").write_text(json.dumps({"stages": {"train": stage}}), encoding="utf-8")
    subprocess.run(["git", "init", "--quiet"], check=True)
    dvc("init", "--quiet")
    Path(".gitignore").write_text("/out.json\n", encoding="utf-8")
    subprocess.run(["git", "add", "--all"], check=True)
    commit(tmp_path)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    Path("notes.txt").write_text("of mine", encoding="utf-8")  # work that is not committed
    before = {path.name for path in tmp_path.iterdir()}

    monkeypatch.setattr(results, "bring", bring)
    container = {"imageUri": f"h/train:{head}", "args": ["-S", "lr=1e-3"]}
    job = {"displayName": f"{BASE}-01", "jobSpec": {"workerPoolSpecs": [{"containerSpec": container}]}}
    point = Point("lr1e-3", training.Plan(f"{BASE}-01", head, ("lr=1e-3",)), job=job)
    for _ in range(2):  # a name that was given before is given anew
        sweep.bring(Shell(), names, point)
    assert {path.name for path in tmp_path.iterdir()} == before
    shown = json.loads(dvc("exp", "show", "--json"))
    found = [e["revs"][0]["data"] for row in shown for e in row.get("experiments") or [] if e["name"] == "lr1e-3"]
    assert [data["metrics"]["out.json"]["data"] for data in found] == [0.001]
    assert [data["params"]["params.yaml"]["data"]["lr"] for data in found] == [0.001]
    # Its outs are in the cache of this repository: nothing is fetched to look at them.
    assert dvc("get", ".", "out.json", "--rev", "lr1e-3", "--out", "got.json") is not None
    assert Path("got.json").read_text() == "0.001"


@pytest.mark.slow
def test_a_commit_that_is_not_here_is_said(names, tmp_path):
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run([*sweep.DVC, "init", "--quiet"], check=True)
    commit(tmp_path, "--allow-empty")
    with pytest.raises(CloudError, match=r"git switch --quiet --detach: \w+"):
        sweep.bring(Shell(), names, Point("x", training.Plan(f"{BASE}-01", "f" * 40), job={}))
