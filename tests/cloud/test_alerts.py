"""Alerts: what the real gcloud makes, finds and mends. What they say is in test_policies.py."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy import alerts
from deploy.alerts_tasks import Alerts
from deploy.gcloud import CloudError, Shell
from deploy.names import Names
from tests.cloud.conftest import PROJECT, Cloud
from tests.cloud.fake import RefusedError
from tests.cloud.fake.monitoring import Monitoring
from tests.cloud.fake.run import Run
from tests.cloud.fake.services import Services
from tests.cloud.test_policies import ALERTS
from tests.conftest import ROOT

EMAIL = "night@example.com"
HOST = "atelier-abc123xyz-ew.a.run.app"
POSIX_SHELL = pytest.mark.skipif(
    os.name == "nt" or not shutil.which("bash"), reason="no bash here: nothing to paste the commands into"
)
OFF = "Cloud Monitoring API has not been used in project 123456789 before or it is disabled."


@dataclass(frozen=True)
class Place:
    """Google, as far as alerts see it."""

    cloud: Cloud
    monitoring: Monitoring
    services: Services

    def policy(self, name: str) -> dict[str, Any]:
        """A policy, as Google keeps it."""
        held = self.monitoring.held["alertPolicies"].values()
        (found,) = [policy for policy in held if policy.get("userLabels", {}).get("alert") == name]
        return found

    @property
    def written(self) -> list[str]:
        """What was changed since somebody looked."""
        written, self.monitoring.writes[:] = [*self.monitoring.writes], []
        return written


@pytest.fixture
def place(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    services = Services(cloud.google, "123456789")
    services.on.add("monitoring.googleapis.com")
    run = Run(cloud.google, {})
    status = {"url": f"https://{HOST}", "conditions": [{"type": "Ready", "status": "True"}]}
    for name in ("atelier", "trial"):
        metadata = {"name": name, "namespace": "123456789", "generation": 1}
        run.services[name] = {"metadata": metadata, "spec": {}, "status": status}
    return Place(cloud, Monitoring(cloud.google, services), services)


def running(names: Names, email: str = "") -> list[tuple[str, str, str]]:
    """Run it; what it found and made."""
    run = Alerts(Shell(), names, email)
    run.run()
    return [(row.what, row.name, row.state) for row in run.rows]


def states(rows: list[tuple[str, str, str]]) -> dict[str, str]:
    return {name: state for _, name, state in rows}


def invoke(*words: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """The task, as it is typed."""
    env = {**os.environ, "INVOKE_GCP_PROJECT": PROJECT, "COLUMNS": "200", **changes}
    command = [sys.executable, "-m", "invoke", "alerts", *words]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_the_first_run_makes_all_and_the_second_nothing(place: Place, names: Names) -> None:
    made = running(names, EMAIL)
    assert made == [
        ("notification channel", EMAIL, "made"),
        ("metric", "atelier-latency", "made"),
        ("uptime check", f"https://{HOST}/readyz", "made"),
        *(("alert policy", name, "made") for name in ALERTS),
    ]
    assert place.written == [
        "POST notificationChannels",
        "POST metrics",
        "POST uptimeCheckConfigs",
        *["POST alertPolicies"] * 6,
    ]
    ((channel, held),) = place.monitoring.held["notificationChannels"].items()
    assert held["labels"] == {"email_address": EMAIL}
    ((check, _),) = place.monitoring.held["uptimeCheckConfigs"].items()
    wanted = alerts.policies(names, check.rpartition("/")[2])
    for name in ALERTS:
        assert alerts.fits(wanted[name], place.policy(name))
        assert place.policy(name)["notificationChannels"] == [channel]

    assert states(running(names)) == dict.fromkeys(
        [EMAIL, "atelier-latency", f"https://{HOST}/readyz", *ALERTS], "found"
    )
    assert states(running(names, EMAIL)) == dict.fromkeys(
        [EMAIL, "atelier-latency", f"https://{HOST}/readyz", *ALERTS], "found"
    )
    assert place.written == []


def test_the_check_asks_readyz_by_https_from_three_places(place: Place, names: Names) -> None:
    running(names)
    (check,) = place.monitoring.held["uptimeCheckConfigs"].values()
    assert alerts.fits(alerts.uptime(names, HOST), check)
    assert "serviceAgentAuthentication" not in check["httpCheck"]
    assert (check["httpCheck"]["path"], check["period"], len(check["selectedRegions"])) == ("/readyz", "300s", 3)
    assert (check["httpCheck"]["useSsl"], check["httpCheck"]["validateSsl"]) == (True, True)


def test_a_closed_service_is_asked_with_a_token(place: Place, names: Names) -> None:
    running(names)
    assert states(running(names.model_copy(update={"public": False})))[f"https://{HOST}/readyz"] == "changed"
    (check,) = place.monitoring.held["uptimeCheckConfigs"].values()
    assert check["httpCheck"]["serviceAgentAuthentication"] == {"type": "OIDC_TOKEN"}
    assert states(running(names))[f"https://{HOST}/readyz"] == "changed"  # and without, once it is open again
    (check,) = place.monitoring.held["uptimeCheckConfigs"].values()
    assert "serviceAgentAuthentication" not in check["httpCheck"]


def test_what_somebody_changed_is_brought_back_and_what_is_gone_made_anew(place: Place, names: Names) -> None:
    running(names, EMAIL)
    slack = "projects/demo-project/notificationChannels/77"
    place.monitoring.held["notificationChannels"][slack] = {"name": slack, "type": "slack"}
    disabled, changed, told = place.policy("uptime"), place.policy("error-burst"), place.policy("instances")
    disabled["enabled"] = False
    changed["conditions"][0]["conditionPrometheusQueryLanguage"]["query"] = "vector(0) > 1"
    condition = changed["conditions"][0]["name"]
    told["notificationChannels"] = [slack]  # somebody's own, in place of ours
    gone = place.policy("drift")["name"]
    del place.monitoring.held["alertPolicies"][gone]
    (check,) = place.monitoring.held["uptimeCheckConfigs"].values()
    check["period"] = "900s"
    place.monitoring.metrics["atelier-latency"]["filter"] = "severity=ERROR"
    place.monitoring.writes.clear()

    assert {name: state for name, state in states(running(names)).items() if state != "found"} == {
        "atelier-latency": "changed",
        f"https://{HOST}/readyz": "changed",
        "drift": "made",
        "error-burst": "changed",
        "instances": "changed",
        "uptime": "changed",
    }
    patches = [written for written in place.written if written != "POST alertPolicies"]
    assert patches == [
        "PUT metrics",
        "POST uptimeCheckConfigs",
        *["PATCH alertPolicies"] * 3,
        "DELETE uptimeCheckConfigs",
    ]
    assert place.policy("uptime")["enabled"] is True
    assert place.policy("error-burst")["conditions"][0]["name"] == condition  # or Google closes the open incident
    ours = place.policy("drift")["notificationChannels"]
    assert place.policy("instances")["notificationChannels"] == [slack, *ours]
    assert set(states(running(names)).values()) == {"found"}


def test_another_address_takes_the_place_of_the_first(place: Place, names: Names) -> None:
    running(names, EMAIL)
    place.monitoring.writes.clear()
    assert states(running(names, "day@example.com"))["day@example.com"] == "changed"
    assert place.written == ["PATCH notificationChannels"]
    (channel,) = place.monitoring.held["notificationChannels"].values()
    assert channel["labels"] == {"email_address": "day@example.com"}
    assert channel["userLabels"] == alerts.labels(names)


def test_a_service_with_a_new_address_gets_a_new_check(place: Place, names: Names) -> None:
    running(names)
    (old,) = place.monitoring.held["uptimeCheckConfigs"].values()
    old["monitoredResource"]["labels"]["host"] = "atelier-old.a.run.app"
    found = states(running(names))
    assert (found[f"https://{HOST}/readyz"], found["uptime"], found["drift"]) == ("changed", "changed", "found")
    (check,) = place.monitoring.held["uptimeCheckConfigs"].values()
    assert check["name"].rpartition("/")[2] in place.policy("uptime")["conditions"][0]["conditionThreshold"]["filter"]


def test_others_and_other_services_are_left_alone(place: Place, names: Names) -> None:
    somebody = "projects/demo-project/alertPolicies/5"
    place.monitoring.held["alertPolicies"][somebody] = {"name": somebody, "displayName": "theirs"}
    running(names, EMAIL)
    before = {kind: {**held} for kind, held in place.monitoring.held.items()}
    trial = names.model_copy(update={"service": "trial"})
    assert set(states(running(trial)).values()) == {"made"}
    for kind, held in before.items():
        assert held.items() <= place.monitoring.held[kind].items()
    written = place.written
    assert written.count("POST alertPolicies") == 2 * len(ALERTS)
    assert {"PATCH alertPolicies", "DELETE uptimeCheckConfigs"}.isdisjoint(written)


# What stands in the way


def api_off(place: Place) -> None:
    place.services.on.discard("monitoring.googleapis.com")


def may_not_look(place: Place) -> None:
    message = "Permission monitoring.alertPolicies.list denied (or the resource may not exist)."
    place.cloud.google.refuse("GET", "/alertPolicies", RefusedError(403, "PERMISSION_DENIED", message))


def may_not_make(place: Place) -> None:
    message = "Permission monitoring.uptimeCheckConfigs.create denied (or the resource may not exist)."
    place.cloud.google.refuse("POST", "/uptimeCheckConfigs", RefusedError(403, "PERMISSION_DENIED", message))


def too_many(place: Place) -> None:
    message = "Quota exceeded for quota metric 'Alert policies'"
    place.cloud.google.refuse("POST", "/alertPolicies", RefusedError(429, "RESOURCE_EXHAUSTED", message), after=2)


@pytest.mark.parametrize(
    ("arrange", "said", "kept"),
    [
        (api_off, r"API.* is off in this project.*: type `uv run invoke cloud-setup`", 0),
        (may_not_look, r"permission denied: .*alertPolicies\.list.*; the owner of the project has to grant it", 0),
        (may_not_make, r"permission denied: .*uptimeCheckConfigs\.create.*; the owner of the project has to", 0),
        (too_many, "a quota is used up: ", 2),
    ],
    ids=["api off", "may not look", "may not make", "quota"],
)
def test_what_google_refuses_is_said_in_a_line(
    place: Place, names: Names, arrange: Callable[[Place], None], said: str, kept: int
) -> None:
    arrange(place)
    with pytest.raises(CloudError, match=said) as error:
        running(names)
    assert "\n" not in str(error.value)
    assert len(place.monitoring.held["alertPolicies"]) == kept
    place.cloud.google.traps.clear()
    place.services.on.add("monitoring.googleapis.com")
    running(names)
    assert len(place.monitoring.held["alertPolicies"]) == 6
    assert len(place.monitoring.held["uptimeCheckConfigs"]) == 1


@pytest.mark.parametrize("deployed", ["never", "without an address"])
def test_a_service_that_is_not_there_is_said_in_a_line(cloud: Cloud, names: Names, deployed: str) -> None:
    run, monitoring = Run(cloud.google, {}), Monitoring(cloud.google)
    if deployed != "never":
        run.services["atelier"] = {"metadata": {"name": "atelier"}, "spec": {}, "status": {"conditions": []}}
    done = invoke("--email", EMAIL)
    assert done.stderr == "atelier has no address in europe-west1 yet: type `uv run invoke deploy` first\n"
    assert done.returncode == 1
    assert monitoring.writes == []


def test_not_signed_in_is_said_in_a_line(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLOUDSDK_AUTH_DISABLE_CREDENTIALS")
    monkeypatch.setenv("CLOUDSDK_CORE_CHECK_GCE_METADATA", "false")  # else gcloud looks for a machine of Google's
    done = invoke()
    assert done.stderr == "not signed in to Google Cloud: type `gcloud auth login`\n"
    assert done.returncode == 1


def test_a_misspelt_key_in_a_policy_is_refused(
    place: Place, names: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(alerts.TEMPLATES, tmp_path / "policies")
    file = tmp_path / "policies/drift.yaml"
    file.write_text(file.read_text().replace("labelExtractors:", "labelExtractor:"))
    monkeypatch.setattr(alerts, "TEMPLATES", tmp_path / "policies")
    with pytest.raises(CloudError, match="labelExtractor") as error:
        running(names)
    assert "\n" not in str(error.value)


# As it is typed


def test_the_task_says_what_it_found_and_that_nobody_is_written_to(place: Place) -> None:
    done = invoke()
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if "fast-burn" in line and " made " in line]
    assert "nobody is written to yet" in done.stdout
    assert "nobody is written to yet" not in invoke("--email", EMAIL).stdout


def test_a_wrong_address_starts_nothing() -> None:
    done = invoke("--email", "night", PATH="")
    assert done.stderr == "--email 'night' is no address such as name@example.com\n"
    assert done.returncode == 1


@POSIX_SHELL
@pytest.mark.parametrize("email", ["", EMAIL])
def test_a_dry_run_runs_nothing_and_can_be_pasted(place: Place, names: Names, email: str) -> None:
    words = ["--email", email] if email else []
    done = invoke("--dry-run", *words, PATH="")  # nothing that it could run
    assert (done.returncode, done.stderr) == (0, "")
    assert place.cloud.google.seen == []
    pasted = subprocess.run(["bash", "-eu"], input=done.stdout, cwd=ROOT, capture_output=True, text=True, check=False)
    assert pasted.returncode == 0, pasted.stderr
    assert len(place.written) == len(ALERTS) + 2 + bool(email)
    # What was pasted is what a run would have made.
    assert set(states(running(names, email)).values()) == {"found"}


@POSIX_SHELL
def test_what_the_documents_say_removes_it_all(place: Place, names: Names) -> None:
    text = (ROOT / "docs/alerts.md").read_text(encoding="utf-8").partition("## Removing")[2]
    block = re.search(r"```sh[^\n]*\n(.*?)```", text, re.DOTALL)[1]
    somebody = {"name": f"projects/{PROJECT}/alertPolicies/5", "userLabels": {"service": "atelier"}, "conditions": []}
    place.monitoring.held["alertPolicies"][str(somebody["name"])] = somebody
    running(names, EMAIL)
    subprocess.run(["bash", "-eu"], input=block.replace("my-project", PROJECT), text=True, check=True)
    assert place.monitoring.held == {
        "alertPolicies": {somebody["name"]: somebody},
        "notificationChannels": {},
        "uptimeCheckConfigs": {},
    }
    assert place.monitoring.metrics == {}
