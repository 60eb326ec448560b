"""Who may do what: every role that is granted, on the smallest thing that Google lets it be granted on, and why."""

from dataclasses import dataclass
from typing import Any, Literal

from deploy.names import Names

POOL = "github"
WORKLOADS = f"locations/global/workloadIdentityPools/{POOL}"


@dataclass(frozen=True)
class Place:
    """What a role is granted on; `name` is a service account's short name, or of a bucket that is not the main one."""

    kind: Literal["project", "bucket", "repository", "account", "service"]
    name: str = ""


@dataclass(frozen=True)
class Grant:
    """A role of somebody on something.

    Attributes:
        who: short name of a service account, or a whole member of a policy.
    """

    on: Place
    who: str
    role: str
    why: str


PROJECT, BUCKET, REPOSITORY = Place("project"), Place("bucket"), Place("repository")
# Granted by `deploy`, since the service is not there before.
PUBLIC = Grant(Place("service"), "allUsers", "roles/run.invoker", "anyone may open the page")


def grants(names: Names, number: str) -> list[Grant]:
    """Every role, the trainer's first.

    The app has none but where it keeps feedback: what it prints reaches the log without, and its model is inside.

    Args:
        number: the project's, which federated identities are named with.
    """
    trainer, deployer = names.trainer, names.deployer
    found = [
        Grant(PROJECT, trainer, "roles/logging.logWriter", "its own log"),
        Grant(BUCKET, trainer, "roles/storage.objectUser", "pull data; push runs and checkpoints"),
        Grant(BUCKET, trainer, "roles/storage.legacyBucketReader", "DVC asks whether the bucket is there"),
        Grant(REPOSITORY, trainer, "roles/artifactregistry.reader", "its image"),
        Grant(PROJECT, deployer, "roles/serviceusage.serviceUsageConsumer", "call the project's APIs"),
        Grant(PROJECT, deployer, "roles/cloudbuild.builds.editor", "start a build"),
        Grant(PROJECT, deployer, "roles/aiplatform.user", "start a training"),
        Grant(PROJECT, deployer, "roles/run.developer", "deploy; not: decide who may call the service"),
        Grant(PROJECT, deployer, "roles/logging.logWriter", "the log of builds, which run as it"),
        Grant(PROJECT, deployer, "roles/logging.viewer", "follow a build's and a training's log"),
        Grant(BUCKET, deployer, "roles/storage.objectUser", "hand a build its files; pull and push with DVC"),
        Grant(BUCKET, deployer, "roles/storage.legacyBucketReader", "gcloud and DVC ask whether the bucket is there"),
        Grant(REPOSITORY, deployer, "roles/artifactregistry.writer", "push images"),
    ]
    for account, why in (
        (trainer, "start a training as it"),
        (names.app, "deploy a service that runs as it"),
        (deployer, "start a build as itself"),
    ):
        found.append(Grant(Place("account", account), deployer, "roles/iam.serviceAccountUser", why))
    if names.feedback:
        found.append(Grant(Place("bucket", names.feedback), names.app, "roles/storage.objectUser", "keep feedback"))
    if names.github:
        member = f"principalSet://iam.googleapis.com/projects/{number}/{WORKLOADS}/attribute.repository/{names.github}"
        why = "act as the deployer, without a key"
        found.append(Grant(Place("account", deployer), member, "roles/iam.workloadIdentityUser", why))
    return found


def member(names: Names, grant: Grant) -> str:
    """Who it is, as a policy writes it."""
    whole = ":" in grant.who or grant is PUBLIC
    return grant.who if whole else f"serviceAccount:{names.account(grant.who)}"


def policy(names: Names, place: Place) -> list[str]:
    """Ask who has which role on something."""
    return [*_words(names, place, "get-iam-policy"), "--format=json"]


def bind(names: Names, grant: Grant, verb: str = "add") -> list[str]:
    """Grant a role, or `remove` it."""
    return [
        *_words(names, grant.on, f"{verb}-iam-policy-binding"),
        f"--member={member(names, grant)}",
        f"--role={grant.role}",
        "--condition=None",  # else gcloud refuses where somebody else's binding has a condition
        "--format=none",  # not the whole policy
    ]


def has(names: Names, policy: Any, grant: Grant) -> bool:
    """Whether a policy, as Google gave it, holds a grant. A binding under a condition does not count."""
    return any(
        binding["role"] == grant.role and member(names, grant) in binding["members"] and not binding.get("condition")
        for binding in (policy or {}).get("bindings") or []
    )


def where(names: Names, place: Place) -> str:
    """What the thing is called."""
    return {
        "project": names.project,
        "bucket": f"gs://{place.name or names.bucket}",
        "repository": names.repository,
        "account": place.name,
        "service": names.service,
    }[place.kind]


def _words(names: Names, place: Place, verb: str) -> list[str]:
    project = f"--project={names.project}"
    if place.kind == "project":
        return ["gcloud", "projects", verb, names.project]
    if place.kind == "bucket":
        return ["gcloud", "storage", "buckets", verb, where(names, place), project]
    if place.kind == "repository":
        words = ["gcloud", "artifacts", "repositories", verb, names.repository, project]
        return [*words, f"--location={names.region}"]
    if place.kind == "service":
        return ["gcloud", "run", "services", verb, names.service, project, f"--region={names.region}"]
    return ["gcloud", "iam", "service-accounts", verb, names.account(place.name), project]
