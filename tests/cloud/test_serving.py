"""Deploy, canary, rollback and status: the real gcloud, a fake Cloud Run, and the real app behind its addresses."""

import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.classifier import Classifier
from app.main import Settings, create_app
from deploy import serving, smoke
from deploy.access import PUBLIC
from deploy.gcloud import CloudError, Shell
from deploy.names import Names
from deploy.repository import served_sha256
from tests.app import tiny_model
from tests.app.served import served
from tests.cloud.conftest import Cloud
from tests.cloud.fake import RefusedError
from tests.cloud.fake.run import Run
from tests.conftest import ROOT

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
    """Where earlier deployments have opened the page."""
    monkeypatch.chdir(tmp_path)
    run = Run(cloud.google, {names.image("app", commit): good for commit in COMMITS})
    run.policies.held["atelier"] = [{"role": PUBLIC.role, "members": [PUBLIC.who]}]
    return run


@pytest.fixture
def names_of_revisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Revisions named after the commit alone: two deployments in a test may fall into one second."""
    monkeypatch.setattr(serving, "revision_name", lambda names, commit: f"atelier-{commit[:1]}")


def deploy(names: Names, commit: str, models: Path, canary: bool = False, version: str = "") -> None:
    serving.deploy(Shell(), names, commit=commit, models=models, canary=canary, version=version, patience=2)


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


def test_the_first_deployment_opens_the_page(cloud, run, names, models):
    run.policies.held.clear()
    deploy(names, COMMITS[0], models)
    assert run.policies.granted("atelier") == {("allUsers", "roles/run.invoker")}
    assert run.policies.writes == {"atelier": 1}
    deploy(names, COMMITS[1], models)
    assert run.policies.writes == {"atelier": 1}


def test_who_may_not_open_the_page_is_told_what_its_owner_types(cloud, run, names, models):
    """GitHub's workflows may not."""
    deploy(names, COMMITS[0], models)
    run.policies.held.clear()
    denied = RefusedError(403, "PERMISSION_DENIED", "Permission 'run.services.setIamPolicy' denied on resource")
    cloud.google.refuse("POST", ":setIamPolicy", denied)
    paste = (
        r"`gcloud run services add-iam-policy-binding atelier .*--member=allUsers .*` as its owner, then deploy again"
    )
    with pytest.raises(CloudError, match=rf"atelier is closed to .*: type {paste} \(permission denied: ") as error:
        deploy(names, COMMITS[1], models)
    assert "\n" not in str(error.value)
    assert run.shares() == {"atelier-a": 100}


def test_a_closed_page_is_tried_with_a_token(run, names, models, monkeypatch):
    """And an open one is closed. gcloud, signed in to nothing, has no token to give: something else does."""
    monkeypatch.setattr(serving, "identity", lambda: [sys.executable, "-c", 'print(\'{"id_token": "secret"}\')'])
    with served(guarded(app(models))) as address:
        run.backends = dict.fromkeys(run.backends, address)
        deploy(names.model_copy(update={"public": False}), COMMITS[0], models)
    assert run.policies.granted("atelier") == set()
    assert run.shares() == {"atelier-a": 100}


def guarded(inner):
    """An app that lets nobody in without the token, as Cloud Run does before it."""

    async def door(scope, receive, send):
        if scope["type"] == "http" and (b"authorization", b"Bearer secret") not in scope["headers"]:
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b"Forbidden"})
        else:
            await inner(scope, receive, send)

    return door


def test_a_page_that_asks_nobody_cannot_be_called_closed(run, names, models, tmp_path, monkeypatch):
    text = serving.TEMPLATE.read_text(encoding="utf-8")
    unchecked = f'  annotations:\n    {serving.UNCHECKED}: "true"\n'
    (tmp_path / "service.yaml").write_text(text.replace("  annotations:\n", unchecked, 1), "utf-8")
    monkeypatch.setattr(serving, "TEMPLATE", tmp_path / "service.yaml")
    run.policies.held.clear()
    deploy(names, COMMITS[0], models)  # without a role for everybody
    assert run.policies.writes == {}
    with pytest.raises(
        CloudError, match=rf"has {serving.UNCHECKED}, and invoke.yaml wants atelier closed: take it out"
    ):
        deploy(names.model_copy(update={"public": False}), COMMITS[1], models)
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
            r"is off in this project \(.*Cloud Run Admin API .*: type `uv run invoke cloud-setup`",
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


def test_a_move_that_cannot_be_taken_back_says_what_puts_it_back(cloud, run, names, models):
    for commit in COMMITS[:2]:
        deploy(names, commit, models)
    cloud.google.refuse("PUT", SERVICE, RefusedError(403, "PERMISSION_DENIED", "no more"), after=2)
    with pytest.raises(
        CloudError, match=r"nor put back to atelier-b \(.*\): type `gcloud run .*` when it can"
    ) as error:
        deploy(names, COMMITS[2], models, canary=True)
    assert run.shares() == {"atelier-c": 10, "atelier-b": 90}
    cloud.google.traps.clear()
    Shell().run(shlex.split(str(error.value).split("`")[1]))
    assert run.shares() == {"atelier-b": 100}


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
    deploy(names, COMMITS[0], models)
    deploy(names, COMMITS[1], models, version="v1.2.0")
    rows = serving.status(Shell(), names)
    model = served_sha256(models)[:12]
    assert rows == [
        ("atelier-b", "100 %", "candidate live", "b" * 12, model, "v1.2.0"),
        ("atelier-a", "0 %", "previous", "a" * 12, model, ""),
    ]


# Without gcloud


def test_a_dry_run_runs_nothing(names, models, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    serving.deploy(Shell(dry_run=True), names, commit=COMMITS[0], models=models, canary=False)
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert [line.split()[:4] for line in lines] == [
        ["gcloud", "run", "services", "replace"],
        ["gcloud", "run", "services", "add-iam-policy-binding"],
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


def test_smoke_says_that_it_was_not_let_in(models):
    with served(guarded(app(models))) as address:
        smoke.check(address, models, patience=1, token="secret")
        with pytest.raises(CloudError, match="/readyz says 403 after 0 s: Forbidden"):
            smoke.check(address, models, patience=0.2, token="other")


def test_a_dry_run_of_a_closed_page_opens_nothing(names, models, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    closed = names.model_copy(update={"public": False})
    serving.deploy(Shell(dry_run=True), closed, commit=COMMITS[0], models=models, canary=True)
    assert "allUsers" not in capsys.readouterr().out


def test_smoke_without_a_model_says_what_to_do(tmp_path):
    with pytest.raises(CloudError, match="uv run dvc repro"):
        smoke.expected(tmp_path)


def test_feedback_is_kept_in_a_bucket_and_each_answer_logged(run, names, models):
    kept = names.model_copy(update={"feedback": "demo-feedback"})
    deploy(kept, COMMITS[0], models)
    pod = run.services["atelier"]["spec"]["template"]["spec"]
    (container,), (volume,) = pod["containers"], pod["volumes"]
    environment = {variable["name"]: variable.get("value", "") for variable in container["env"]}
    assert environment["TRAFFIC_LOG"] == "on"
    assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": environment["FEEDBACK_DIR"]}]
    assert volume["csi"]["driver"] == "gcsfuse.run.googleapis.com"
    assert volume["csi"]["volumeAttributes"]["bucketName"] == "demo-feedback"
    dockerfile = (ROOT / "dockerfiles/app.dockerfile").read_text(encoding="utf-8")
    assert f"USER {serving.USER}:{serving.USER}" in dockerfile

    deploy(names.model_copy(update={"traffic_log": False}), COMMITS[1], models)
    pod = run.services["atelier"]["spec"]["template"]["spec"]
    assert "volumes" not in pod
    assert {"name": "TRAFFIC_LOG", "value": "off"} in pod["containers"][0]["env"]
