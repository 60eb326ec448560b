"""invoke.yaml's names: what is refused, and what follows from them."""

import os
import subprocess
import sys

import pytest
import yaml

from deploy.gcloud import ApiOffError, CloudError, ConflictError, NotFoundError, trouble
from deploy.names import Names
from tests.cloud.conftest import GCP
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"project": ""}, r"gcp.project is empty; it has to be .*INVOKE_GCP_PROJECT=my-project"),
        ({"project": "No Such"}, r"gcp.project is 'No Such'"),
        ({"memory": "1GB"}, r"gcp.memory is '1GB'; it has to be a size such as 512Mi or 2Gi"),
        ({"max_instances": 0}, r"gcp.max_instances is 0; it has to be .*greater than or equal to 1"),
        ({"public": "perhaps"}, r"gcp.public is 'perhaps'"),
        ({"github": "garments"}, r"gcp.github is 'garments'; it has to be empty, or owner/repository"),
        ({"feedback": "demo-project-atelier"}, "gcp.feedback is 'demo-project-atelier', the bucket of data"),
        ({"colour": "red"}, r"gcp.colour is no name of ours"),
    ],
)
def test_a_wrong_name_is_refused_in_a_line(changes: dict[str, object], said: str) -> None:
    with pytest.raises(CloudError, match=said) as error:
        Names.of({**GCP, **changes})
    assert "\n" not in str(error.value)


def test_invoke_yaml_lacks_nothing_but_the_project() -> None:
    values = yaml.safe_load((ROOT / "invoke.yaml").read_text(encoding="utf-8"))["gcp"]
    assert Names.of(values | {"project": "demo-project"}).bucket == "demo-project-atelier"


@pytest.mark.parametrize("words", ["cloud-setup", "build app", "deploy", "rollback", "status"])
def test_without_a_project_a_task_ends_in_a_line(words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "invoke", *words.split()], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("invoke.yaml: gcp.project is empty")
    assert len(done.stderr.splitlines()) == 1


def test_the_environment_names_the_project() -> None:
    env = {**os.environ, "INVOKE_GCP_PROJECT": "my-project", "INVOKE_GCP_MAX_INSTANCES": "5"}
    command = [sys.executable, "-m", "invoke", "status", "--dry-run"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert "--project=my-project" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("ERROR: (gcloud.run.x) You do not currently have an active account selected.", "type `gcloud auth login`"),
        ("ERROR: (gcloud.run.x) PERMISSION_DENIED: The caller does not have permission", "the owner of the project"),
        ("ERROR: (gcloud.builds.submit) build 12 completed with status FAILURE", "completed with status FAILURE"),
        ("", "it printed nothing"),
        (
            "ERROR: (gcloud.services.enable) FAILED_PRECONDITION: Billing account for project '1' is not found.",
            "billing is off for this project",
        ),
        (
            "ERROR: (gcloud.x) RESOURCE_EXHAUSTED: Quota exceeded for 'Writes'.",
            "a quota is used up: RESOURCE_EXHAUSTED",
        ),
        ("ERROR: (gcloud.x) unable to connect to the server", "Google Cloud cannot be reached"),
        (
            "ERROR: (gcloud.x) PERMISSION_DENIED: Cloud Run Admin API has not been used in project 1 before.\n"
            "- '@type': type.googleapis.com/google.rpc.ErrorInfo\n  reason: SERVICE_DISABLED",
            "type `uv run invoke cloud-setup`",
        ),
    ],
)
def test_what_gcloud_prints_becomes_a_line(printed: str, said: str) -> None:
    assert said in str(trouble(["gcloud", "run", "x"], printed))


@pytest.mark.parametrize(
    ("printed", "kind"),
    [
        ("ERROR: (gcloud.x) NOT_FOUND: Requested entity was not found.", NotFoundError),
        ("ERROR: gs://b not found: 404.", NotFoundError),
        ("API [run.googleapis.com] not enabled on project [1].", ApiOffError),
        ("ERROR: (gcloud.x) ABORTED: There were concurrent policy changes.", ConflictError),
    ],
)
def test_what_can_be_waited_for_is_told_apart(printed: str, kind: type[CloudError]) -> None:
    assert type(trouble(["gcloud", "x"], printed)) is kind


def test_of_much_that_gcloud_prints_the_reason_stays() -> None:
    printed = "Creating...\nWARNING: old\nERROR: (gcloud.run.x) Invalid value:\n- no such region\n\nTo see more, type\n"
    assert str(trouble(["gcloud", "run", "x"], printed)) == "gcloud run x: Invalid value: no such region"


@pytest.mark.parametrize(("said", "public"), [("0", False), ("1", True)])
def test_the_environment_closes_the_page(said: str, public: bool) -> None:
    code = (
        "from invoke import Config; from deploy.names import Names;"
        "c = Config(project_location='.'); c.load_project(); c.load_shell_env(); print(Names.of(c.gcp).public)"
    )
    env = {**os.environ, "INVOKE_GCP_PROJECT": "my-project", "INVOKE_GCP_PUBLIC": said}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.stdout == f"{public}\n", done.stderr
