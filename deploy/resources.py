"""What is to exist in the project: the commands that ask for it and make it, and what a thing that is there lacks."""

import configparser
import json
from pathlib import Path
from typing import Any

from deploy.access import POOL, WORKLOADS
from deploy.names import Names

HERE = Path(__file__).parent
LIFECYCLE, CLEANUP = HERE / "lifecycle.json", HERE / "cleanup.json"
APIS = (
    "aiplatform",
    "artifactregistry",
    "cloudbuild",
    "cloudresourcemanager",  # the project's policy
    "iam",
    "logging",
    "monitoring",  # `invoke alerts`
    "run",
    "serviceusage",
    "storage",
)
FEDERATION = ("iamcredentials", "sts")  # a workflow's token becomes the deployer's
PROVIDER = "repository"
ISSUER = "https://token.actions.githubusercontent.com"
MAPPING = {
    "google.subject": "assertion.sub",
    "attribute.repository": "assertion.repository",
    "attribute.ref": "assertion.ref",
}
REMOTE = "storage"


def project(names: Names) -> list[str]:
    """Ask for the project, and so for its number."""
    return ["gcloud", "projects", "describe", names.project, "--format=json"]


# APIs


def apis(names: Names) -> list[str]:
    """What has to be turned on."""
    wanted = [*APIS, *(FEDERATION if names.github else ())]
    return [f"{api}.googleapis.com" for api in wanted]


def list_apis(names: Names) -> list[str]:
    """Ask which are on."""
    return ["gcloud", "services", "list", "--enabled", _project(names), "--format=json"]


def enable(names: Names, missing: list[str]) -> list[str]:
    """Turn some on."""
    return ["gcloud", "services", "enable", *missing, _project(names)]


def enabled(found: Any) -> set[str]:
    """The APIs that are on."""
    return {service["config"]["name"] for service in found or []}


# The bucket, and the one for feedback


def bucket(names: Names, bucket: str) -> list[str]:
    """Ask for a bucket, in the words of its API."""
    return [
        "gcloud",
        "storage",
        "buckets",
        "describe",
        f"gs://{bucket}",
        _project(names),
        "--raw",
        "--format=json",
    ]


def create_bucket(names: Names, bucket: str) -> list[str]:
    """Make a bucket. `update_bucket` adds what gcloud cannot say here."""
    return [
        "gcloud",
        "storage",
        "buckets",
        "create",
        f"gs://{bucket}",
        _project(names),
        f"--location={names.region}",
        "--uniform-bucket-level-access",
        "--public-access-prevention",
        f"--lifecycle-file=deploy/{LIFECYCLE.name}",
    ]


def update_bucket(names: Names, bucket: str, flags: list[str]) -> list[str]:
    """Give a bucket what it lacks."""
    return ["gcloud", "storage", "buckets", "update", f"gs://{bucket}", _project(names), *flags]


def bucket_lacks(found: Any) -> list[str]:
    """The flags that `update_bucket` needs, from what Google says of the bucket."""
    iam = found.get("iamConfiguration", {})
    rules = json.loads(LIFECYCLE.read_text(encoding="utf-8"))["rule"]
    wanted = {
        "--uniform-bucket-level-access": iam.get("uniformBucketLevelAccess", {}).get("enabled"),
        "--public-access-prevention": iam.get("publicAccessPrevention") == "enforced",
        "--versioning": found.get("versioning", {}).get("enabled"),
        f"--lifecycle-file=deploy/{LIFECYCLE.name}": _sorted(found.get("lifecycle", {}).get("rule")) == _sorted(rules),
    }
    return [flag for flag, there in wanted.items() if not there]


# The repository of images


def repository(names: Names) -> list[str]:
    """Ask for the repository."""
    return [*_repository(names, "describe"), "--format=json"]


def create_repository(names: Names) -> list[str]:
    """Make the repository."""
    return [*_repository(names, "create"), "--repository-format=docker", "--description=images of atelier"]


def set_cleanup(names: Names) -> list[str]:
    """Say which images go."""
    return [
        *_repository(names, "set-cleanup-policies"),
        f"--policy=deploy/{CLEANUP.name}",
        "--no-dry-run",
        "--format=none",
    ]


def cleans_up(found: Any) -> bool:
    """Whether the repository follows cleanup.json."""
    wanted = {
        policy["name"]: (policy["action"]["type"].upper(), *_when(policy))
        for policy in json.loads(CLEANUP.read_text(encoding="utf-8"))
    }
    there = {
        name: (policy["action"].upper(), *_when(policy)) for name, policy in found.get("cleanupPolicies", {}).items()
    }
    return there == wanted and not found.get("cleanupPolicyDryRun")


def _when(policy: Any) -> tuple[str, float, int]:
    condition = policy.get("condition", {})
    seconds = float(condition.get("olderThan", "0s").rstrip("s"))
    return condition.get("tagState", "").upper(), seconds, int(policy.get("mostRecentVersions", {}).get("keepCount", 0))


def _repository(names: Names, verb: str) -> list[str]:
    words = ["gcloud", "artifacts", "repositories", verb, names.repository]
    return [*words, _project(names), f"--location={names.region}"]


# Service accounts


def accounts(names: Names) -> list[str]:
    """Ask for all service accounts."""
    return ["gcloud", "iam", "service-accounts", "list", _project(names), "--format=json"]


def create_account(names: Names, short: str, title: str) -> list[str]:
    """Make a service account. It gets no key, now or later."""
    return ["gcloud", "iam", "service-accounts", "create", short, _project(names), f"--display-name={title}"]


# Workload Identity Federation: a workflow's own token, signed by GitHub, in place of a key


def pool(names: Names, verb: str = "describe") -> list[str]:
    """Ask for the pool; or `create` it, or `undelete` it in the thirty days after it was deleted."""
    words = ["gcloud", "iam", "workload-identity-pools", verb, POOL, _project(names), "--location=global"]
    return [*words, *{"describe": ["--format=json"], "create": ["--display-name=GitHub"]}.get(verb, [])]


def provider(names: Names, verb: str = "describe") -> list[str]:
    """Ask for the provider; or `create-oidc`, `update-oidc`, `undelete` it."""
    words = ["gcloud", "iam", "workload-identity-pools", "providers", verb, PROVIDER, _project(names)]
    words += ["--location=global", f"--workload-identity-pool={POOL}"]
    if verb == "describe":
        return [*words, "--format=json"]
    if verb == "undelete":
        return words
    mapping = ",".join(f"{key}={value}" for key, value in MAPPING.items())
    return [
        *words,
        f"--issuer-uri={ISSUER}",
        f"--attribute-mapping={mapping}",
        f"--attribute-condition={condition(names)}",
    ]


def condition(names: Names) -> str:
    """Whose tokens are taken: this repository's, of its main branch or of a job in the environment `production`."""
    trusted = "assertion.ref == 'refs/heads/main' || assertion.sub.endsWith(':environment:production')"
    return f"assertion.repository == '{names.github}' && ({trusted})"


def provider_fits(names: Names, found: Any) -> bool:
    """Whether the provider takes the tokens that it has to take, and no others."""
    said = (found.get("oidc", {}).get("issuerUri"), found.get("attributeMapping"), found.get("attributeCondition"))
    return said == (ISSUER, MAPPING, condition(names)) and not found.get("disabled")


def provider_name(names: Names, number: str) -> str:
    """The provider as the workflows have to name it."""
    return f"projects/{number}/{WORKLOADS}/providers/{PROVIDER}"


# DVC's remote


def add_remote(names: Names, default: bool) -> list[str]:
    """Name the bucket as DVC's remote, in .dvc/config."""
    words = ["dvc", "remote", "add", "--force", *(["--default"] if default else [])]
    return [*words, REMOTE, f"gs://{names.bucket}/dvc"]


def verify_remote() -> list[str]:
    """Have DVC compare what it pulls with its hash: silent damage becomes a failed pull."""
    return ["dvc", "remote", "modify", REMOTE, "verify", "true"]


def remote(config: Path = Path(".dvc/config")) -> tuple[dict[str, str], str]:
    """What .dvc/config says of our remote, and the name of the default one; empty if nothing."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(config, encoding="utf-8")
    sections = {name.strip("'"): dict(values) for name, values in parser.items()}
    return sections.get(f'remote "{REMOTE}"', {}), sections.get("core", {}).get("remote", "")


def _project(names: Names) -> str:
    return f"--project={names.project}"


def _sorted(rules: Any) -> list[str]:
    return sorted(json.dumps(rule, sort_keys=True) for rule in rules or [])
