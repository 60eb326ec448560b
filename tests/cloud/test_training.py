"""Training on Vertex AI: what it is handed, how a job is followed, and what is said of its end."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploy import training
from deploy.gcloud import CloudError, NotFoundError, Shell
from deploy.names import Names
from deploy.training import Plan
from tests.cloud.conftest import Cloud
from tests.cloud.fake import RefusedError
from tests.cloud.fake.build import Build, Objects
from tests.cloud.fake.registry import Registry
from tests.cloud.fake.vertex import Vertex, parsed
from tests.conftest import ROOT

COMMIT = "a" * 40
RUN = "20261125-090807-aaaaaaaa"
PLAN = Plan(RUN, COMMIT, ("lr=1e-3", "epochs=2"))
AIPLATFORM = r"aiplatform\.googleapis\.com"


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)


def job(state: str = "RUNNING", **more: Any) -> Any:
    """A job as gcloud describes it."""
    container = {"imageUri": f"host/project/repository/train:{COMMIT}", "args": ["--bucket=b", "-S", "lr=1e-3"]}
    spec = {"workerPoolSpecs": [{"containerSpec": container}]}
    name = "projects/1/locations/europe-west1/customJobs/123"
    return {"name": name, "displayName": RUN, "state": f"JOB_STATE_{state}", "jobSpec": spec, **more}


@dataclass(frozen=True)
class Told(Shell):
    """A shell to which Google's answers are told beforehand; an error is raised."""

    answers: list[Any] = field(default_factory=list)

    def ask(self, argv: Sequence[str]) -> Any:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


# What a job is


def test_a_job_runs_the_image_of_the_commit_as_the_trainer_with_the_settings(names):
    made = json.loads(training.config(names, PLAN))
    pool = made["workerPoolSpecs"][0]
    assert pool["containerSpec"] == {
        "imageUri": f"europe-west1-docker.pkg.dev/demo-project/atelier/train:{COMMIT}",
        "args": ["--bucket=demo-project-atelier", f"--run={RUN}", "-S", "lr=1e-3", "-S", "epochs=2"],
    }
    assert pool["machineSpec"] == {"machineType": "n1-standard-8"}
    assert made["serviceAccount"] == "atelier-trainer@demo-project.iam.gserviceaccount.com"
    assert made["baseOutputDirectory"] == {"outputUriPrefix": f"gs://demo-project-atelier/checkpoints/{RUN}"}
    assert made["scheduling"] == {
        "strategy": "STANDARD", "restartJobOnWorkerRestart": False, "timeout": "86400s"
    }  # fmt: skip


@pytest.mark.parametrize("value", ["a b", 'say "hi"', "it's", "$HOME", "${machine}", "a: b", "[a]", "# no", "\\n"])
def test_a_setting_reaches_the_container_as_it_was_typed(names, value):
    made = json.loads(training.config(names, Plan(RUN, COMMIT, (f"data_dir={value}",))))
    assert training.settings_of({"jobSpec": made}) == (f"data_dir={value}",)


def test_spot_machines_and_other_sizes(names):
    names = training.sized(names, machine="g2-standard-24", gpu="NVIDIA_L4", gpus=2, nodes=3)
    made = json.loads(training.config(names, Plan(RUN, COMMIT, spot=True)))
    first, others = made["workerPoolSpecs"]
    machine = {"machineType": "g2-standard-24", "acceleratorType": "NVIDIA_L4", "acceleratorCount": 2}
    assert first["machineSpec"] == others["machineSpec"] == machine
    assert first["containerSpec"] == others["containerSpec"]
    assert (first["replicaCount"], others["replicaCount"]) == (1, 2)
    assert (made["scheduling"]["strategy"], made["scheduling"]["restartJobOnWorkerRestart"]) == ("SPOT", True)


@pytest.mark.parametrize(
    ("sizes", "spot"),
    [({}, False), ({"gpu": "NVIDIA_TESLA_T4"}, True), ({"gpu": "NVIDIA_L4", "gpus": 4, "nodes": 2}, False)],
)
def test_googles_own_definition_knows_every_key(names, sizes, spot):
    spec = json.loads(training.config(training.sized(names, **sizes), Plan(RUN, COMMIT, ("lr=1e-3",), spot)))
    body = {"displayName": RUN, "jobSpec": spec, "labels": {"run": RUN, "commit": COMMIT}}
    assert parsed(body)["jobSpec"]["scheduling"]["strategy"] == spec["scheduling"]["strategy"]
    with pytest.raises(RefusedError, match="acceleratorTyp"):
        spec["workerPoolSpecs"][0]["machineSpec"] = {"acceleratorTyp": "NVIDIA_L4"}
        parsed(body)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"machine": "big"}, "--machine is 'big'; it has to be "),
        ({"gpu": "t4"}, "--gpu is 't4'; it has to be empty, or an accelerator of Vertex AI such as NVIDIA_TESLA_T4"),
        ({"gpu": "NVIDIA_L4", "gpus": 0}, "--count is 0; it has to be "),
        ({"nodes": 0}, "--nodes is 0; it has to be "),
        ({"gpus": 2}, "--count 2: of which? add --gpu"),
    ],
)
def test_a_size_that_cannot_be_is_said_by_its_flag(names, sizes, said):
    with pytest.raises(CloudError) as error:
        training.sized(names, **sizes)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_what_is_not_asked_for_stays_as_invoke_yaml_has_it(names):
    names = training.sized(names, gpu="NVIDIA_L4", gpus=2)
    assert training.sized(names, machine=None, gpu=None, gpus=4, nodes=None).gpus == 4
    assert training.sized(names, machine="n1-standard-4").gpu == "NVIDIA_L4"


# How a job ended


@pytest.mark.parametrize(
    ("ended", "left", "said"),
    [
        (job("CANCELLED"), {"state": "stopped"}, f"{RUN} was cancelled: `uv run invoke train --cloud --run {RUN}`"),
        (job("EXPIRED"), {"state": "running"}, f"{RUN} took longer than vertex.yaml's timeout: `uv run invoke train"),
        (
            job("FAILED", error={"message": "The replica workerpool0-0 exited with a non-zero status of 1."}),
            {"state": "failed", "reason": "train: the loss is nan in epoch 3"},
            f"{RUN} failed: train: the loss is nan in epoch 3",
        ),
        (
            job("FAILED", error={"message": "The replica workerpool0-0\nexited with a non-zero status of 143."}),
            {"state": "running"},
            f"{RUN} was stopped, its machine was taken back (The replica workerpool0-0 exited with a non-zero status "
            f"of 143.): `uv run invoke train --cloud --run {RUN}` goes on from its checkpoint",
        ),
        (
            job("FAILED", error={"message": "Job is preempted by Compute Engine"}),
            None,
            f"{RUN} was stopped, its machine was taken back (Job is preempted by Compute Engine): ",
        ),
        (job("FAILED"), {"state": "stopped"}, f"{RUN} was stopped, its machine was taken back: `uv run"),
        (
            job("FAILED", error={"message": "The following quota metrics exceed quota limits: a/b"}),
            None,
            f"{RUN} failed before it wrote anything: The following quota metrics exceed quota limits: a/b",
        ),
        (
            job("FAILED", error={"message": "exited with a non-zero status of 137."}),
            {"state": "running"},
            f"{RUN} failed: exited with a non-zero status of 137.",
        ),
        (job("FAILED"), None, f"{RUN} failed before it wrote anything: Vertex gives no reason"),
        (job("FAILED"), {"state": "failed", "reason": ""}, f"{RUN} failed: Vertex gives no reason"),
    ],
)
def test_the_end_is_said_in_a_line_with_what_to_do(ended, left, said):
    line = training.verdict(ended, left)
    assert line.startswith(said)
    assert "\n" not in line


@pytest.mark.parametrize(
    ("answer", "commit", "given", "said"),
    [
        ([], COMMIT, [], f"there is no run {RUN} in demo-project, europe-west1"),
        ([job("RUNNING")], COMMIT, [], rf"{RUN} is not at its end \(running\): `uv run invoke results {RUN}`"),
        ([job("PENDING")], COMMIT, [], r"is not at its end \(pending\)"),
        ([job("FAILED")], "b" * 40, [], f"{RUN} is of commit aaaaaaaa, here is bbbbbbbb: `git switch --detach`"),
        ([job("FAILED")], COMMIT, ["lr=0.1"], f"{RUN} had -S lr=1e-3: leave -S out, or start a new run"),
    ],
)
def test_a_run_goes_on_only_from_what_it_was(names, answer, commit, given, said):
    with pytest.raises(CloudError, match=said):
        training.again(Told(answers=[answer]), names, RUN, commit, given)


@pytest.mark.parametrize("given", [[], ["lr=1e-3"]])
@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "EXPIRED", "SUCCEEDED"])
def test_a_run_that_has_stopped_goes_on_with_its_settings(names, state, given):
    shell = Told(answers=[[job(state), job("FAILED")]])
    assert training.again(shell, names, RUN, COMMIT, given) == ("lr=1e-3",)


# Following it, without gcloud


class Clock:
    """Time that passes only where a job is waited for, and not before its log has shown something."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for _ in range(3_000):
            if Path("seen").exists():
                return
            time.sleep(0.01)
        pytest.fail("the log was not shown")


@dataclass(frozen=True)
class Followed:
    """A job's log, which never ends by itself, as gcloud's does not, and the clock by which it is followed."""

    clock: Clock = field(default_factory=Clock)
    started: list[Any] = field(default_factory=list)

    def is_ended(self) -> bool:
        return [process.poll() is not None for process in self.started] == [True]


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> Followed:
    followed, start = Followed(), subprocess.Popen
    code = "import time; print('epoch 1', flush=True); open('seen', 'w').close(); time.sleep(60)"

    def popen(argv: list[str]) -> Any:
        followed.started.append(start(argv))
        return followed.started[-1]

    monkeypatch.setattr(training, "stream", lambda names, number: [sys.executable, "-c", code])
    monkeypatch.setattr(training, "image", lambda shell, names, commit: None)
    monkeypatch.setattr(training, "time", followed.clock)
    monkeypatch.setattr(subprocess, "Popen", popen)
    return followed


LOST = CloudError("Google Cloud cannot be reached: Connection refused")


def test_a_network_that_is_lost_for_a_while_is_said_and_waited_for(names, followed, capfd):
    patient = [LOST] * 29  # nearly ten minutes, twice
    shell = Told(answers=[job("PENDING"), *patient, job("RUNNING"), *patient, job("SUCCEEDED")])
    training.train(shell, names, PLAN)
    said = capfd.readouterr().out
    assert said.count("# Google Cloud cannot be reached: Connection refused; asking again") == 58
    assert "epoch 1" in said
    assert followed.is_ended()


def test_a_network_that_stays_lost_is_given_up_and_the_job_is_not(names, followed):
    lost = rf"cannot be reached: Connection refused; the job goes on: `uv run invoke results {RUN}`"
    with pytest.raises(CloudError, match=lost):
        training.train(Told(answers=[job("PENDING"), LOST]), names, PLAN)
    assert followed.clock.now > training.PATIENCE
    assert followed.is_ended()


@pytest.mark.parametrize("answers", [[KeyboardInterrupt()], [job("PENDING"), job("RUNNING"), KeyboardInterrupt()]])
def test_ctrl_c_leaves_the_job_and_says_how_to_come_back(names, followed, answers):
    with pytest.raises(KeyboardInterrupt, match=f"`uv run invoke results {RUN}`"):
        training.train(Told(answers=answers), names, PLAN)
    assert followed.started == [] or followed.is_ended()


def test_what_a_run_left_is_read_and_nothing_is_nothing(names):
    assert training.left_state(Told(answers=[{"state": "failed"}]), names, RUN) == {"state": "failed"}
    assert training.left_state(Told(answers=[NotFoundError("no")]), names, RUN) is None


# The real gcloud


@dataclass(frozen=True)
class Place:
    """Google, as far as a training sees it."""

    cloud: Cloud
    vertex: Vertex
    objects: Objects
    images: set[str]

    def left(self, run: str, **state: Any) -> None:
        """What the container leaves."""
        self.objects.held[f"gs://demo-project-atelier/runs/{run}/state.json"] = state


@pytest.fixture
def place(cloud: Cloud, names: Names, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(training, "EVERY", 0.2)
    images = {names.image("train", COMMIT)}
    accounts = {names.account(names.trainer), names.account(names.deployer)}
    Registry(cloud.google, images)
    objects = Objects(cloud.google, names.bucket)
    Build(cloud.google, objects, images, accounts)
    return Place(cloud, Vertex(cloud.google, images, accounts), objects, images)


def train(names: Names, plan: Plan = PLAN) -> None:
    training.train(Shell(), names, plan)


def test_a_run_is_submitted_and_followed_to_its_end(place, names, capfd):
    place.vertex.log = ["epoch 1: 0.81", "epoch 2: 0.86"]
    train(names)
    said = capfd.readouterr().out
    assert f"{RUN} is submitted; Ctrl-C leaves it running" in said
    assert "workerpool0-0\tepoch 2: 0.86" in said
    assert said.endswith(f"{RUN} is finished: `uv run invoke results {RUN}` brings home what it made\n")
    job = place.vertex.jobs[0]
    assert job["labels"] == {"app": "atelier", "run": RUN, "commit": COMMIT}
    assert training.settings_of(job) == PLAN.settings
    assert training.commit_of(job) == COMMIT


def test_a_stage_that_failed_is_said_in_its_own_words(place, names):
    place.vertex.course = ["PENDING", "RUNNING", "FAILED"]
    place.vertex.error = "The replica workerpool0-0 exited with a non-zero status of 1."
    place.left(RUN, state="failed", reason="export: accuracy 0.91 is below min_accuracy 0.93")
    with pytest.raises(CloudError, match=f"^{RUN} failed: export: accuracy 0.91 is below min_accuracy 0.93$"):
        train(names)


def test_a_job_that_left_nothing_is_said_in_googles_words(place, names):
    place.vertex.course = ["PENDING", "FAILED"]
    place.vertex.error = "Internal error occurred. Please retry in a few minutes."
    with pytest.raises(CloudError, match=f"{RUN} failed before it wrote anything: Internal error occurred"):
        train(names)


def test_a_machine_that_was_taken_back_and_the_run_goes_on(place, names):
    place.vertex.course = ["RUNNING", "FAILED"]
    place.vertex.error = "The replica workerpool0-0 exited with a non-zero status of 143."
    place.left(RUN, state="stopped", reason="its machine was taken back")
    with pytest.raises(
        CloudError, match=rf"machine was taken back \(.* 143\.\): `uv run invoke train --cloud --run {RUN}`"
    ):
        train(names, Plan(RUN, COMMIT, ("lr=1e-3",), spot=True))
    chosen = training.again(Shell(), names, RUN, COMMIT, ())
    place.vertex.courses[RUN] = ["PENDING", "SUCCEEDED"]
    train(names, Plan(RUN, COMMIT, chosen, spot=True))
    first, second = place.vertex.jobs
    assert first["jobSpec"] == second["jobSpec"]  # the same image, settings and folder of checkpoints
    assert training.newest(Shell(), names, RUN)["name"] == first["name"]


def test_a_job_that_somebody_cancelled(place, names):
    place.vertex.course = ["RUNNING", "CANCELLED"]
    with pytest.raises(CloudError, match=f"{RUN} was cancelled: .* goes on from its checkpoint"):
        train(names)


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (
            RefusedError(403, "PERMISSION_DENIED", "Permission 'aiplatform.customJobs.create' denied on resource"),
            "permission denied: .*aiplatform.customJobs.create.*; the owner of the project has to grant it",
        ),
        (
            RefusedError(403, "PERMISSION_DENIED", "Vertex AI API has not been used in project 1 before or is off."),
            r"an API is off in this project \(.*\): type `uv run invoke cloud-setup`",
        ),
    ],
    ids=["permission", "api"],
)
def test_what_google_refuses_is_said_in_a_line(place, names, refused, said):
    place.cloud.google.refuse("POST", AIPLATFORM, refused)
    with pytest.raises(CloudError, match=said) as error:
        train(names)
    assert "\n" not in str(error.value)
    assert place.vertex.jobs == []


def test_gpus_beyond_the_quota_say_where_to_ask_for_more(place, names):
    place.vertex.quota = {"NVIDIA_TESLA_T4": 1}
    with pytest.raises(CloudError, match=r"a quota is used up: .*custom_model_training_nvidia_t4_gpus"):
        train(training.sized(names, gpu="NVIDIA_TESLA_T4", nodes=2))
    place.vertex.quota = {"NVIDIA_TESLA_T4": 2}
    train(training.sized(names, gpu="NVIDIA_TESLA_T4", nodes=2))
    assert [len(job["jobSpec"]["workerPoolSpecs"]) for job in place.vertex.jobs] == [2]


def test_an_image_that_is_gone_by_then_is_said(place, names):
    place.images.clear()
    with pytest.raises(CloudError, match=rf"Image '.*/train:{COMMIT}' not found"):
        training.submit(Shell(), names, PLAN)


def test_a_commit_without_an_image_gets_one_first(place, names):
    place.images.clear()
    (Path("deploy")).mkdir()
    shutil.copy(ROOT / "deploy/cloudbuild.yaml", "deploy")
    shutil.copy(ROOT / ".dockerignore", ".dockerignore")
    train(names)
    assert place.images == {names.image("train", COMMIT)}
    assert training.state_of(place.vertex.jobs[0]) == "SUCCEEDED"


def test_a_wrong_setting_ends_before_anything_is_asked(place, names):
    with pytest.raises(CloudError, match="'colour' is no param"):
        train(names, Plan(RUN, COMMIT, ("colour=red",)))
    assert place.cloud.google.seen == []


def test_a_misspelt_key_in_vertex_yaml_is_refused(place, names, tmp_path, monkeypatch):
    text = training.TEMPLATE.read_text(encoding="utf-8").replace("serviceAccount:", "serviceAcount:")
    (tmp_path / "vertex.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(training, "TEMPLATE", tmp_path / "vertex.yaml")
    with pytest.raises(CloudError, match="serviceAcount"):
        train(names)


def test_half_a_minute_without_google_while_a_job_runs(place, names, capfd):
    """gcloud itself asks five times, within half a minute: once for the log, once for the state."""
    down = RefusedError(503, "UNAVAILABLE", "The service is currently unavailable.")
    place.cloud.google.refuse("GET", AIPLATFORM + ".*/customJobs/", down, times=10)
    train(names)
    said = capfd.readouterr().out
    assert "# Google Cloud cannot be reached: " in said
    assert f"{RUN} is finished" in said


@pytest.mark.parametrize("seen", ["is submitted", "epoch 1"])
def test_ctrl_c_at_the_terminal(place, names, seen):
    """The whole process group gets it, as from a terminal: gcloud's log ends too, the job does not."""
    place.vertex.course = ["PENDING", "RUNNING"]
    place.vertex.log = ["epoch 1"]
    code = f"""
from deploy import training
from deploy.gcloud import Shell
from deploy.names import Names
from deploy.training import Plan
training.train(Shell(), Names.of({names.model_dump()!r}), {PLAN!r})
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert any(seen in line for line in process.stdout)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert said.splitlines()[-1] == f"KeyboardInterrupt: `uv run invoke results {RUN}`"
    assert place.vertex.open() == [RUN]
