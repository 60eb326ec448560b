"""Deploy, canary, rollback and status: the real gcloud, a fake Cloud Run, and the real app behind its addresses."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.classifier import Classifier
from app.main import Settings, create_app
from deploy import serving, smoke
from deploy.gcloud import CloudError, Shell
from deploy.names import Names
from deploy.repository import served_sha256
from tests.app import tiny_model
from tests.app.served import served
from tests.cloud.conftest import Cloud
from tests.cloud.fake import RefusedError
from tests.cloud.fake.run import Run

COMMITS = ("a" * 40, "b" * 40, "c" * 40)
SERVICE = r"run\.googleapis\.com/apis/.*/services"


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return tiny_model.write(tmp_path_factory.mktemp("serving") / "models")


def app(models: Path):
    return create_app(Settings(model_dir=models, page=False), Classifier.from_directory(models))


@pytest.fixture(scope="module")
def good(models) -> Iterator[str]:
    with served(app(models)) as address:
        yield address


@pytest.fixture(scope="module")
def other(models, tmp_path_factory) -> Iterator[str]:
    """The app with another model file, as an image that was built before the last training would have it."""
    folder = tmp_path_factory.mktemp("other") / "models"
    shutil.copytree(models, folder)
    import onnx

    file = folder / json.loads((folder / "serve.json").read_text())["file"]
    model = onnx.load(file)
    model.doc_string = "another"
    onnx.save(model, file)
    with served(app(folder)) as address:
        yield address


@pytest.fixture
def run(cloud: Cloud, names: Names, good: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return Run(cloud.google, {names.image("app", commit): good for commit in COMMITS})


@pytest.fixture
def names_of_revisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Revisions named after the commit alone: two deployments in a test may fall into one second."""
    monkeypatch.setattr(serving, "revision_name", lambda names, commit: f"atelier-{commit[:1]}")


def deploy(names: Names, commit: str, models: Path, canary: bool = False) -> None:
    serving.deploy(Shell(), names, commit=commit, models=models, canary=canary, patience=2)


pytestmark = pytest.mark.usefixtures("names_of_revisions")


def test_a_wrong_model_on_the_candidate_leaves_the_traffic(run, names, models, other):
    deploy(names, COMMITS[0], models)
    run.backends[names.image("app", COMMITS[1])] = other
    with pytest.raises(
        CloudError, match=r"atelier-b is not fit to serve, the traffic was not touched: .* serves the model"
    ):
        deploy(names, COMMITS[1], models)
    assert run.shares() == {"atelier-a": 100}


def test_an_unhealthy_candidate_leaves_the_traffic(run, names, models):
    deploy(names, COMMITS[0], models)
    run.backends[names.image("app", COMMITS[1])] = "http://127.0.0.1:9"  # nobody listens
    with pytest.raises(CloudError, match=r"the traffic was not touched: .*/readyz says 0 after 2 s: .*refused"):
        deploy(names, COMMITS[1], models)
    assert run.shares() == {"atelier-a": 100}


def test_a_missing_image_is_said(run, names, models):
    with pytest.raises(CloudError, match=r"Image '.*' not found"):
        deploy(names, "d" * 40, models)
    assert run.services == {}


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (
            RefusedError(403, "PERMISSION_DENIED", "Permission 'run.services.get' denied on resource"),
            "permission denied: .*",
        ),
        (
            RefusedError(429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Write requests'"),
            "a quota is used up: ",
        ),
        (
            RefusedError(
                403, "PERMISSION_DENIED", "Cloud Run Admin API has not been used in project 1 or is disabled."
            ),
            r"is off in this project \(.*Cloud Run Admin API .*: turn it on with `gcloud services enable`",
        ),
    ],
    ids=["permission", "quota", "api"],
)
def test_what_google_refuses_is_said_in_a_line(cloud, run, names, models, refused, said):
    cloud.google.refuse("GET", SERVICE, refused)
    with pytest.raises(CloudError, match=said) as error:
        deploy(names, COMMITS[0], models)
    assert "\n" not in str(error.value)


def test_a_move_that_fails_half_way_is_taken_back(cloud, run, names, models):
    deploy(names, COMMITS[0], models)
    # Of a canary's PUTs the first two, the candidate and its share, go through; the last move does not.
    cloud.google.refuse("PUT", SERVICE, RefusedError(403, "PERMISSION_DENIED", "no more"), times=1, after=2)
    with pytest.raises(CloudError, match=r"could not be moved, and is back at atelier-a: permission denied"):
        deploy(names, COMMITS[1], models, canary=True)
    assert run.shares() == {"atelier-a": 100}


def test_the_first_revision_gets_the_traffic_and_later_ones_after_their_trial(run, names, models, capfd):
    deploy(names, COMMITS[0], models)
    assert run.shares() == {"atelier-a": 100}
    deploy(names, COMMITS[1], models, canary=True)
    assert run.shares() == {"atelier-b": 100}
    said = capfd.readouterr().out
    assert "--to-revisions=atelier-b=10,atelier-a=90" in said
    assert said.count("10 pictures as here") + said.count("3 pictures as here") >= 3


def test_rollback_goes_to_the_revision_before_and_stays_there(run, names, models):
    for commit in COMMITS[:2]:
        deploy(names, commit, models)
    serving.rollback(Shell(), names)
    assert run.shares() == {"atelier-a": 100}
    with pytest.raises(CloudError, match="serves already"):
        serving.rollback(Shell(), names)
    deploy(names, COMMITS[2], models)
    serving.rollback(Shell(), names)
    assert run.shares() == {"atelier-a": 100}


def test_no_revision_before_nothing_to_roll_back_to(run, names, models):
    deploy(names, COMMITS[0], models)
    with pytest.raises(CloudError, match="has no revision before atelier-a"):
        serving.rollback(Shell(), names)


def test_status_says_what_runs_where(run, names, models):
    with pytest.raises(CloudError, match=r"[Cc]annot find service"):
        serving.status(Shell(), names)
    for commit in COMMITS[:2]:
        deploy(names, commit, models)
    rows = serving.status(Shell(), names)
    model = served_sha256(models)[:12]
    assert rows == [
        ("atelier-b", "100 %", "candidate live", "b" * 12, model),
        ("atelier-a", "0 %", "previous", "a" * 12, model),
    ]


# Without gcloud


def test_a_dry_run_runs_nothing(names, models, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    serving.deploy(Shell(dry_run=True), names, commit=COMMITS[0], models=models, canary=False)
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert [line.split()[:4] for line in lines] == [
        ["gcloud", "run", "services", "replace"],
        ["gcloud", "run", "services", "update-traffic"],
    ]


def test_no_gcloud_says_where_to_get_it(names, models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CloudError, match="gcloud is not on the PATH: install it"):
        deploy(names, COMMITS[0], models)


def test_smoke_finds_a_service_that_answers_otherwise(good, models, monkeypatch):
    sha256, pictures = smoke.expected(models)
    data, name, probability = pictures[0]
    monkeypatch.setattr(smoke, "expected", lambda _: (sha256, [(data, "Hat", probability)]))
    with pytest.raises(CloudError, match=rf"calls test picture 0 {name} .*; the local model: Hat"):
        smoke.check(good, models, patience=1)


def test_smoke_without_a_model_says_what_to_do(tmp_path):
    with pytest.raises(CloudError, match="uv run dvc repro"):
        smoke.expected(tmp_path)
