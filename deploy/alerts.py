"""Alerts of Google Cloud Monitoring: the policies of deploy/alerts/, who is told, and a check from outside.

Nothing here asks or changes anything: functions make commands, and compare what Google says with what is to be.
Ours are known by their labels, so that they can have any title, and others' things are left alone.
"""

import re
import string
from pathlib import Path
from typing import Any

import yaml

from deploy.gcloud import CloudError
from deploy.names import Names

TEMPLATES = Path(__file__).with_name("alerts")
METRIC = "latency"  # the file that is no policy
WRITTEN = Path(".atelier/alerts")  # the policies, filled in, as gcloud is handed them
BUDGET = 0.005  # the share of answers that may fail, or be slow
SLOW = 0.25  # s
FEW = 100  # answers an hour: with fewer, one that fails is too large a share to say anything
PERIOD = 5  # minutes between checks from outside
TIMEOUT = 30  # seconds: an instance that has to start first is not down
PLACES = {"europe": "EUROPE", "usa-virginia": "USA_VIRGINIA", "asia-pacific": "ASIA_PACIFIC"}  # Google wants three
ADDRESS = re.compile(r"[^@\s,=\"']+@[^@\s,=\"']+\.[A-Za-z0-9-]+")
# gcloud 528 has policies only here; later ones have them here too.
POLICIES = ["gcloud", "alpha", "monitoring", "policies"]
CHANNELS = ["gcloud", "beta", "monitoring", "channels"]
UPTIME = ["gcloud", "monitoring", "uptime"]
METRICS = ["gcloud", "logging", "metrics"]


def labels(names: Names) -> dict[str, str]:
    """By which ours are known: of this program, and of this service."""
    return {"managed_by": "atelier", "service": names.service, "region": names.region}


def ours(names: Names, found: Any) -> list[Any]:
    """Of what a list holds, what is ours."""
    return [thing for thing in found or [] if labels(names).items() <= thing.get("userLabels", {}).items()]


def policies(names: Names, check: str) -> dict[str, dict[str, Any]]:
    """Every policy, as Google takes it, by the name of its file.

    Args:
        check: ID of the uptime check.
    """
    made = {}
    for file in sorted(TEMPLATES.glob("*.yaml")):
        if file.stem != METRIC:
            made[file.stem] = _filled(names, file, check) | {"userLabels": labels(names) | {"alert": file.stem}}
    return made


def _filled(names: Names, file: Path, check: str = "") -> dict[str, Any]:
    where = f'monitored_resource="cloud_run_revision",service_name="{names.service}",location="{names.region}"'
    metric = re.sub(r"[^a-z0-9_]", "_", f"{names.service}-latency")  # PromQL knows no hyphens
    values = {
        **names.model_dump(),
        "these": where,
        "latency": f"logging_googleapis_com:user_{metric}",
        "budget": BUDGET,
        "slow": SLOW,
        "few": FEW,
        "several": str(names.max_instances > 1).lower(),
        "check": check,
    }
    filled: dict[str, Any] = yaml.safe_load(string.Template(file.read_text(encoding="utf-8")).substitute(values))
    return filled


def write(name: str, policy: dict[str, Any]) -> Path:
    """Put a policy where gcloud can read it."""
    WRITTEN.mkdir(parents=True, exist_ok=True)
    file = WRITTEN / f"{name}.yaml"
    file.write_text(yaml.safe_dump(policy, sort_keys=False), encoding="utf-8", newline="\n")
    return file


def fits(wanted: Any, found: Any) -> bool:
    """Whether Google has what is wanted. What it adds of its own (names, times, defaults) does not count."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            key in found and fits(value, found[key]) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        same = isinstance(found, list) and len(wanted) == len(found)
        return same and all(fits(*pair) for pair in zip(wanted, found, strict=True))
    return bool(wanted == found)


def named(wanted: dict[str, Any], found: Any) -> dict[str, Any]:
    """The policy with the names that its conditions have: one without is new to Google, and closes open incidents."""
    known = {condition.get("displayName"): condition["name"] for condition in found.get("conditions", [])}
    conditions = [
        condition | ({"name": known[condition["displayName"]]} if condition["displayName"] in known else {})
        for condition in wanted["conditions"]
    ]
    return wanted | {"conditions": conditions}


def list_policies(names: Names) -> list[str]:
    """Ask for all policies of the project."""
    return [*POLICIES, "list", _project(names), "--format=json"]


def create_policy(names: Names, file: Path | str, told: list[str]) -> list[str]:
    """Make a policy; `told` are names of channels."""
    channels = [f"--notification-channels={','.join(told)}"] if told else []
    return [*POLICIES, "create", f"--policy-from-file={_path(file)}", *channels, _project(names), "--format=none"]


def update_policy(names: Names, name: str, file: Path, told: list[str]) -> list[str]:
    """Make a policy what its file says."""
    channels = [f"--set-notification-channels={','.join(told)}"] if told else []
    return [*POLICIES, "update", name, f"--policy-from-file={_path(file)}", *channels, _project(names), "--format=none"]


# Who is told


def checked(email: str) -> str:
    """An address, if it looks like one.

    Raises:
        CloudError: it does not.
    """
    if email and not ADDRESS.fullmatch(email):
        raise CloudError(f"--email {email!r} is no address such as name@example.com")
    return email


def list_channels(names: Names) -> list[str]:
    """Ask for all notification channels of the project."""
    return [*CHANNELS, "list", _project(names), "--format=json"]


def create_channel(names: Names, email: str) -> list[str]:
    """Make the channel that writes to an address."""
    return [
        *CHANNELS,
        "create",
        "--type=email",
        f"--display-name={names.service} alerts",
        f"--channel-labels=email_address={email}",
        f"--user-labels={_pairs(labels(names))}",
        _project(names),
        "--format=json",
    ]


def update_channel(names: Names, name: str, email: str) -> list[str]:
    """Have the channel write to another address."""
    words = [*CHANNELS, "update", name, f"--update-channel-labels=email_address={email}", "--enabled"]
    return [*words, _project(names), "--format=none"]


# The metric of REST answers


def metric(names: Names) -> dict[str, Any]:
    """The metric that Cloud Run's log of requests is turned into. It has no labels; its name says whose it is."""
    return _filled(names, TEMPLATES / f"{METRIC}.yaml")


def list_metrics(names: Names) -> list[str]:
    """Ask for all metrics of the project that are made of logs."""
    return [*METRICS, "list", _project(names), "--format=json"]


def set_metric(names: Names, verb: str, name: str, file: Path) -> list[str]:
    """Make the metric (`create`), or make it what its file says (`update`)."""
    return [*METRICS, verb, name, f"--config-from-file={_path(file)}", _project(names), "--format=none"]


# The check from outside


def uptime(names: Names, host: str) -> dict[str, Any]:
    """The check, as Google tells it: /readyz by HTTPS, with a certificate that holds."""
    signed = {} if names.public else {"serviceAgentAuthentication": {"type": "OIDC_TOKEN"}}
    return {
        "displayName": f"{names.service} readyz",
        "monitoredResource": {"type": "uptime_url", "labels": {"project_id": names.project, "host": host}},
        "httpCheck": {"path": "/readyz", "port": 443, "useSsl": True, "validateSsl": True, **signed},
        "period": f"{60 * PERIOD}s",
        "timeout": f"{TIMEOUT}s",
        "selectedRegions": list(PLACES.values()),
        "userLabels": labels(names),
    }


def check_fits(wanted: dict[str, Any], found: Any) -> bool:
    """Whether a check is the wanted one: it may have no token either, where none is wanted."""
    tokens = ["serviceAgentAuthentication" in check["httpCheck"] for check in (wanted, found) if "httpCheck" in check]
    return fits(wanted, found) and tokens[0] == tokens[1]


def list_uptime(names: Names) -> list[str]:
    """Ask for all checks of the project."""
    return [*UPTIME, "list-configs", _project(names), "--format=json"]


def create_uptime(names: Names, host: str) -> list[str]:
    """Make the check."""
    signed = [] if names.public else ["--service-agent-auth=oidc-token"]
    return [
        *UPTIME,
        "create",
        f"{names.service} readyz",
        "--resource-type=uptime-url",
        f"--resource-labels=host={host},project_id={names.project}",
        "--protocol=https",
        "--path=/readyz",
        "--validate-ssl=true",
        *signed,
        f"--period={PERIOD}",
        f"--timeout={TIMEOUT}",
        f"--regions={','.join(PLACES)}",
        f"--user-labels={_pairs(labels(names))}",
        _project(names),
        "--format=json",
    ]


def delete_uptime(names: Names, name: str) -> list[str]:
    """Remove a check that another has taken the place of.

    There is no `update`: Google does not let a host change, and gcloud 528 takes all labels away when it updates.
    """
    return [*UPTIME, "delete", name, _project(names)]


def check_id(found: Any) -> str:
    """A check's ID, by which its metric is known."""
    return str(found["name"]).rpartition("/")[2]


def host(service: Any) -> str:
    """The host of the service's address; empty if it has none yet."""
    return str((service.get("status") or {}).get("url") or "").partition("//")[2].strip("/")


def _pairs(values: dict[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in values.items())


def _path(file: Path | str) -> str:
    return file.as_posix() if isinstance(file, Path) else file


def _project(names: Names) -> str:
    return f"--project={names.project}"
