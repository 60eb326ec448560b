"""Setting up a project: what is made, what is found, and what is said where Google refuses."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploy import access, resources, setup
from deploy.gcloud import ApiOffError, Argv, CloudError, ConflictError, NotFoundError, Shell
from deploy.names import Names
from deploy.setup import Setup
from tests.cloud.conftest import GCP, PROJECT, Cloud
from tests.cloud.fake import Google, RefusedError
from tests.cloud.fake.everything import NUMBER, Everything
from tests.cloud.fake.policies import CONCURRENT
from tests.conftest import ROOT
from tests.project import Project

REPOSITORY, FEEDBACK = "somebody/garments", "demo-project-feedback"
POSIX_SHELL = pytest.mark.skipif(
    os.name == "nt" or not shutil.which("bash"), reason="no bash here: nothing to paste the commands into"
)


@pytest.fixture
def names() -> Names:
    return Names.of({**GCP, "github": REPOSITORY, "feedback": FEEDBACK})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the repository as working directory, with no remote of DVC; this Python's dvc is on the PATH."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    project = Project(tmp_path / "project")
    (project.folder / ".dvc/config").write_text("")
    monkeypatch.chdir(project.folder)
    return project.folder


@pytest.fixture
def there(cloud: Cloud, names: Names) -> Everything:
    return Everything(cloud.google, names)


def running(names: Names) -> Setup:
    return Setup(Shell(), names, pauses=(0, 0, 0))


def invoke(*words: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """A task, as it is typed, in the working directory."""
    env = {**os.environ, "INVOKE_GCP_PROJECT": PROJECT, "INVOKE_GCP_GITHUB": REPOSITORY, "COLUMNS": "200"}
    env |= {"INVOKE_GCP_FEEDBACK": FEEDBACK, **changes}
    command = [sys.executable, "-m", "invoke", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def written(google: Google) -> list[str]:
    """The last words of what was asked for that changes something."""
    seen = [r for r in google.seen if r.method != "GET" and not r.path.endswith(":getIamPolicy")]
    return [f"{r.method} {r.path.rpartition('/')[2]}" for r in seen]


# All of it


def test_the_first_set_up_makes_all_and_the_second_nothing(
    cloud: Cloud, there: Everything, names: Names, folder: Path
) -> None:
    # What Google does on a new project: an API and an account take a while until they are known everywhere.
    there.services.lag |= {"artifactregistry": 1, "iam": 1}
    late = RefusedError(400, "INVALID_ARGUMENT", f"Service account {names.account(names.trainer)} does not exist.")
    cloud.google.refuse("POST", "cloudresourcemanager.*:setIamPolicy", late, times=1)
    run = running(names)
    assert run.run() == NUMBER
    assert {row.state for row in run.rows} == {"found", "made", "made 8"}

    assert set(resources.apis(names)) <= there.services.on
    assert [r.path for r in cloud.google.seen].count(f"/v1/projects/{PROJECT}/services:batchEnable") == 1
    for bucket in (there.buckets.held[names.bucket], there.buckets.held[FEEDBACK]):
        assert bucket["location"] == "EUROPE-WEST1"
        assert resources.bucket_lacks(bucket) == []
    assert resources.cleans_up(there.repositories.held["atelier"])
    assert there.iam.accounts == {names.account(n) for n in ("atelier-trainer", "atelier-app", "atelier-deployer")}
    provider = there.iam.providers["repository"]
    assert provider["name"] == resources.provider_name(names, NUMBER)
    assert f"assertion.repository == '{REPOSITORY}'" in provider["attributeCondition"]
    assert there.granted() == access.grants(names, NUMBER)
    assert there.others() == set()

    cloud.google.seen.clear()
    done = invoke("cloud-setup")
    assert done.returncode == 0, done.stderr
    assert written(cloud.google) == []
    assert " made" not in done.stdout
    assert not [
        line for line in done.stdout.splitlines() if line.startswith(("gcloud", "dvc")) and "billing" not in line
    ]
    rows = [line for line in done.stdout.splitlines() if " found " in line]
    assert len(rows) == len(run.rows)
    assert f"GCP_WORKLOAD_IDENTITY_PROVIDER=projects/{NUMBER}/locations/global/" in done.stdout
    assert resources.remote() == ({"url": f"gs://{names.bucket}/dvc", "verify": "true"}, "storage")


def test_what_an_earlier_set_up_left_undone_is_done_and_nothing_else(
    cloud: Cloud, there: Everything, names: Names, folder: Path
) -> None:
    there.complete()
    there.services.on.discard("run.googleapis.com")
    there.buckets.held[names.bucket]["versioning"] = {"enabled": False}
    there.repositories.held["atelier"]["cleanupPolicyDryRun"] = True
    there.iam.accounts.discard(names.account(names.app))
    there.iam.policies.held.pop(names.account(names.app))
    there.iam.pools["github"]["state"] = "DELETED"
    there.iam.providers["repository"]["state"] = "DELETED"
    # The deployer's role, but only until a certain day: that is somebody's, it stays, and does not count.
    roles = there.projects.policies.held[PROJECT]
    binding = next(b for b in roles if b["role"] == "roles/run.developer")
    binding["condition"] = {"title": "until Friday", "expression": "request.time < timestamp('2026-12-04T00:00:00Z')"}
    roles.append({"role": "roles/owner", "members": ["user:owner@example.com"]})
    before = [dict(b, members=[*b["members"]]) for b in roles]

    run = running(names)
    run.run()
    assert [(row.what, row.state) for row in run.rows if row.state != "found"] == [
        ("APIs", "made 1"),
        ("bucket", "changed"),
        ("repository", "changed"),
        ("service account", "made"),
        ("identity pool", "changed"),
        ("identity provider", "changed"),
        ("role", "made"),
        ("role", "made"),
        ("DVC's remote", "made"),
    ]
    assert there.granted() == access.grants(names, NUMBER)
    assert resources.bucket_lacks(there.buckets.held[names.bucket]) == []
    assert resources.cleans_up(there.repositories.held["atelier"])
    assert {held["state"] for held in (there.iam.pools["github"], there.iam.providers["repository"])} == {"ACTIVE"}
    assert [b for b in before if b not in there.projects.policies.held[PROJECT]] == []


def test_a_provider_of_another_repository_is_set_right(cloud: Cloud, there: Everything, names: Names) -> None:
    there.complete()
    there.iam.providers["repository"]["attributeCondition"] = "assertion.repository == 'stranger/garments'"
    running(names).federation()
    assert written(cloud.google) == ["PATCH repository"]
    assert there.iam.providers["repository"]["attributeCondition"] == resources.condition(names)
    assert there.iam.providers["repository"]["attributeMapping"] == resources.MAPPING


# What Google refuses


def other_bucket(there: Everything) -> None:
    there.buckets.put(there.names.bucket, {}, number="987654321")


def closed_bucket(there: Everything) -> None:
    there.buckets.closed.add(there.names.bucket)


def deleted(there: Everything) -> None:
    there.projects.state = "DELETE_REQUESTED"


def no_billing(there: Everything) -> None:
    there.services.billing = False


def api_off(there: Everything) -> None:
    there.services.on.discard("iam.googleapis.com")


def nothing(there: Everything) -> None:
    pass


def the_bucket(run: Setup) -> None:
    run.bucket(NUMBER, run.names.bucket)


@pytest.mark.parametrize(
    ("arrange", "act", "said"),
    [
        (nothing, lambda run: run.project(), "permission denied: .*does not have permission"),
        (deleted, lambda run: run.project(), "the project demo-project is being deleted: choose another"),
        (no_billing, lambda run: run.apis(), "billing is off for this project: link an account on console.cloud"),
        (api_off, lambda run: run.accounts(), r"is off in this project.*: type `uv run invoke cloud-setup`"),
        (other_bucket, the_bucket, "gs://demo-project-atelier is a bucket of another project"),
        (closed_bucket, the_bucket, "permission denied: .*its name is taken: choose another"),
    ],
    ids=[
        "somebody's project",
        "project being deleted",
        "no billing",
        "api off",
        "a bucket of mine elsewhere",
        "somebody's bucket",
    ],
)
def test_what_stands_in_the_way_is_said_in_a_line(
    there: Everything, names: Names, arrange: Callable[[Everything], None], act: Callable[[Setup], Any], said: str
) -> None:
    arrange(there)
    if arrange is nothing:
        names = names.model_copy(update={"project": "somebodys-project"})
    with pytest.raises(CloudError, match=said) as error:
        act(running(names))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (RefusedError(403, "PERMISSION_DENIED", "Permission 'iam.serviceAccounts.create' denied"), "permission denied"),
        (RefusedError(429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Writes'"), "a quota is used up"),
    ],
    ids=["permission", "quota"],
)
def test_what_was_made_before_a_refusal_is_said_and_stays(
    cloud: Cloud, there: Everything, names: Names, folder: Path, refused: RefusedError, said: str
) -> None:
    there.complete()
    there.iam.accounts.clear()
    cloud.google.refuse("POST", "iam.googleapis.com/.*/serviceAccounts$", refused, after=1)
    done = invoke("cloud-setup")
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if "atelier-trainer" in line and " made " in line]
    assert done.stderr.splitlines()[-1].startswith(said)
    assert "Traceback" not in done.stderr
    assert there.iam.accounts == {names.account(names.trainer)}


def test_somebody_elses_change_at_the_same_moment_is_waited_for(
    cloud: Cloud, there: Everything, names: Names, capfd: pytest.CaptureFixture[str]
) -> None:
    there.complete()
    grant = access.grants(names, NUMBER)[0]
    there.projects.policies.held[PROJECT].clear()
    cloud.google.refuse("POST", ":setIamPolicy", CONCURRENT, times=2)
    running(names).make("", access.bind(names, grant))
    assert there.granted()[0] == grant
    assert capfd.readouterr().out.count("again in 0 s: somebody else changed the same roles just then") == 2


def test_not_signed_in_is_said_in_a_line(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("CLOUDSDK_AUTH_DISABLE_CREDENTIALS")
    monkeypatch.setenv("CLOUDSDK_CORE_CHECK_GCE_METADATA", "false")  # else gcloud looks for a machine of Google's
    done = invoke("cloud-setup")
    assert done.stderr == "not signed in to Google Cloud: type `gcloud auth login`\n"
    assert done.returncode == 1


# DVC's remote, by the real DVC


@pytest.mark.slow
def test_dvcs_remote_is_added_once(names: Names, folder: Path) -> None:
    run = running(names)
    run.remote()
    assert resources.remote() == ({"url": "gs://demo-project-atelier/dvc", "verify": "true"}, "storage")
    before = Path(".dvc/config").read_text()
    run.remote()
    assert Path(".dvc/config").read_text() == before
    assert [row.state for row in run.rows] == ["made", "found"]


@pytest.mark.slow
def test_another_default_remote_stays_the_default(names: Names, folder: Path) -> None:
    Path(".dvc/config").write_text("[core]\n    remote = nas\n['remote \"nas\"']\n    url = /mnt/nas\n")
    run = running(names)
    run.remote()
    there, default = resources.remote()
    assert (there["verify"], default) == ("true", "nas")
    assert run.rows[0].name.endswith("(the default stays nas)")


# Without gcloud


def test_no_gcloud_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = invoke("cloud-setup", PATH="")
    assert done.stderr.startswith("gcloud is not on the PATH: install it from cloud.google.com/sdk")
    assert len(done.stderr.splitlines()) == 1


STUB = """#!/bin/sh
{ printf '%s\\t' "${0##*/}" "$@"; echo; } >> "$TOLD"
case "$*" in *projectNumber*) echo 123456789;; *billingAccountName*) echo billingAccounts/0123-ABCD;; esac
"""


def paste(folder: Path, text: str) -> list[list[str]]:
    """Run lines in a shell where gcloud and uv only note what they are told; that, in words."""
    for program in ("gcloud", "uv"):
        (folder / program).write_text(STUB)
        (folder / program).chmod(0o755)
    env = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "TOLD": str(folder / "told")}
    subprocess.run(["bash", "-e"], input=text, env=env, text=True, check=True)
    return [line.split("\t")[:-1] for line in (folder / "told").read_text().splitlines()]


@POSIX_SHELL
def test_a_dry_run_runs_nothing_and_can_be_pasted(
    tmp_path: Path, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    printed = invoke("cloud-setup", "--dry-run", PATH="").stdout  # nothing that it could run
    told = paste(tmp_path, printed)
    accounts = [(line[4], line[-1]) for line in told if line[1:4] == ["iam", "service-accounts", "create"]]
    assert [short for short, _ in accounts] == ["atelier-trainer", "atelier-app", "atelier-deployer"]
    grants = [access.bind(names, grant) for grant in access.grants(names, NUMBER)]
    assert [line for line in told if "add-iam-policy-binding" in line] == grants
    for expected in (
        resources.enable(names, resources.apis(names)),
        resources.create_bucket(names, names.bucket),
        resources.update_bucket(names, names.bucket, ["--versioning"]),
        resources.create_bucket(names, FEEDBACK),
        resources.update_bucket(names, FEEDBACK, ["--versioning"]),
        resources.create_repository(names),
        resources.set_cleanup(names),
        resources.pool(names, "create"),
        resources.provider(names, "create-oidc"),
        ["uv", "run", *resources.add_remote(names, default=True)],
        ["uv", "run", *resources.verify_remote()],
    ):
        assert expected in told
    assert len(told) == 1 + len(accounts) + len(grants) + 11


@POSIX_SHELL
def test_the_budgets_line_finds_the_billing_account_itself(tmp_path: Path, names: Names) -> None:
    told = paste(tmp_path, setup.budget(names))
    assert [line[1:4] for line in told[:2]] == [
        ["services", "enable", "billingbudgets.googleapis.com"],
        ["billing", "projects", "describe"],
    ]
    assert told[2][1:4] == ["billing", "budgets", "create"]
    assert {"--billing-account=billingAccounts/0123-ABCD", f"--filter-projects=projects/{PROJECT}"} <= set(told[2])


@dataclass(frozen=True)
class Told(Shell):
    """A shell to which is told beforehand how commands end."""

    ends: list[Any] = field(default_factory=list)

    def ask(self, argv: Argv) -> Any:
        if isinstance(end := self.ends.pop(0), CloudError):
            raise end
        return end

    def run(self, argv: Argv) -> None:
        self.ask(argv)


@pytest.mark.parametrize("kind", [ConflictError, ApiOffError, NotFoundError])
def test_patience_has_an_end(names: Names, kind: type[CloudError]) -> None:
    run = Setup(Told(ends=[kind("no")] * 4), names, pauses=(0, 0, 0), made={"apis"})
    with pytest.raises(kind):
        run.make("", [])


@pytest.mark.parametrize("kind", [ApiOffError, NotFoundError])
def test_what_this_run_did_not_make_is_not_waited_for(names: Names, kind: type[CloudError]) -> None:
    run = Setup(Told(ends=[kind("no"), None]), names, pauses=(0,))
    with pytest.raises(kind):
        run.make("", [])


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"versioning": {"enabled": False}}, "--versioning"),
        ({"versioning": None}, "--versioning"),
        ({"lifecycle": {"rule": []}}, "--lifecycle-file=deploy/lifecycle.json"),
        ({"iamConfiguration": {"publicAccessPrevention": "inherited"}}, "--public-access-prevention"),
        ({"iamConfiguration": {}}, "--uniform-bucket-level-access"),
    ],
)
def test_a_bucket_is_given_what_it_lacks(names: Names, changes: dict[str, Any], flag: str) -> None:
    there = Everything(Google(), names)
    there.complete()
    bucket = there.buckets.held[names.bucket]
    assert resources.bucket_lacks(bucket) == []
    changed = {key: value for key, value in (bucket | changes).items() if value is not None}
    assert flag in resources.bucket_lacks(changed)


def test_the_files_that_google_is_handed_are_there_and_keep_what_is_needed() -> None:
    rules = json.loads(resources.LIFECYCLE.read_text())["rule"]
    for rule in rules:  # the live data, runs and DVC's remote are nobody's to throw away
        condition = rule["condition"]
        assert condition.get("matchesPrefix") in (["checkpoints/"], ["builds/"]) or (
            "daysSinceNoncurrentTime" in condition or rule["action"]["type"] == "AbortIncompleteMultipartUpload"
        )
    kept = [p for p in json.loads(resources.CLEANUP.read_text()) if p["action"]["type"] == "KEEP"]
    assert kept[0]["mostRecentVersions"]["keepCount"] >= 2  # what serves, and what a rollback goes to


@pytest.mark.parametrize(
    "changes",
    [
        {"disabled": True},
        {"attributeCondition": ""},
        {"oidc": {"issuerUri": "https://example.com"}},
        {"attributeMapping": {"google.subject": "assertion.sub"}},
    ],
)
def test_a_provider_that_takes_other_tokens_does_not_fit(names: Names, changes: dict[str, Any]) -> None:
    there = Everything(Google(), names)
    there.complete()
    provider = there.iam.providers["repository"]
    assert resources.provider_fits(names, provider)
    assert not resources.provider_fits(names, provider | changes)


def test_without_github_nobody_outside_is_let_in(names: Names, capsys: pytest.CaptureFixture[str]) -> None:
    closed = names.model_copy(update={"github": ""})
    Setup(Shell(dry_run=True), closed).run()
    printed = capsys.readouterr().out
    assert "workload-identity" not in printed
    assert "principalSet" not in printed
    assert "sts.googleapis.com" not in printed
    assert any("set gcp.github in invoke.yaml" in line for line in setup.next_steps(closed, NUMBER))
