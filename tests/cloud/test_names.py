"""invoke.yaml's names: what is refused, and what follows from them."""

import subprocess
import sys

import pytest
import yaml

from deploy.gcloud import CloudError, trouble
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
        ({"colour": "red"}, r"gcp.colour is no name of ours"),
    ],
)
def test_a_wrong_name_is_refused_in_a_line(changes, said):
    with pytest.raises(CloudError, match=said) as error:
        Names.of({**GCP, **changes})
    assert "\n" not in str(error.value)


def test_invoke_yaml_lacks_nothing_but_the_project():
    values = yaml.safe_load((ROOT / "invoke.yaml").read_text(encoding="utf-8"))["gcp"]
    assert Names.of(values | {"project": "demo-project"}).bucket == "demo-project-atelier"


@pytest.mark.parametrize("words", ["build app", "build both", "deploy", "rollback", "status"])
def test_without_a_project_a_task_ends_in_a_line(words):
    done = subprocess.run(
        [sys.executable, "-m", "invoke", *words.split()], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("invoke.yaml: gcp.project is empty")
    assert len(done.stderr.splitlines()) == 1


def test_the_environment_names_the_project():
    import os

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
    ],
)
def test_what_gcloud_prints_becomes_a_line(printed, said):
    assert said in str(trouble(["gcloud", "run", "x"], printed))
