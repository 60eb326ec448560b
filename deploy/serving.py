"""Cloud Run: a new revision gets no traffic until it has proven itself; the one before stays at hand.

Tags say which revision is which: `candidate` the one that is tried, `live` the one that serves, `previous` the one
that a rollback goes to.
"""

import string
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from deploy import access, smoke
from deploy.access import PUBLIC
from deploy.gcloud import CloudError, NotFoundError, Shell, shown
from deploy.names import Names

TEMPLATE = Path(__file__).with_name("service.yaml")
CANARY = 10  # percent of the traffic
FEEDBACK = "/feedback"  # where the bucket for it is mounted
USER = 10001  # the app's, as dockerfiles/app.dockerfile has it
UNCHECKED = "run.googleapis.com/invoker-iam-disabled"  # an annotation: whoever calls is let in


@dataclass(frozen=True)
class Target:
    """A revision that the traffic goes to, or that a tag names."""

    revision: str
    percent: int = 0
    tag: str = ""


def revision_name(names: Names, commit: str, now: datetime | None = None) -> str:
    """A name that no earlier revision has: service, commit, time."""
    return f"{names.service}-{commit[:8]}-{(now or datetime.now(UTC)):%y%m%d%H%M%S}"


def manifest(names: Names, commit: str, model: str, revision: str, traffic: list[Target], version: str = "") -> str:
    """service.yaml filled in: the new revision tagged `candidate`, and the traffic where it was.

    Args:
        commit: what the image was built from.
        model: sha256 of the served model.
        revision: name of the new revision.
        traffic: where it goes now; empty if the service is new, and then all of it goes to the new revision.
        version: of the model in the registry, which the app tells; empty if it has none.
    """
    text = string.Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        names.model_dump(),
        account=names.account(names.app),
        commit=commit,
        image=names.image("app", commit),
        model=model[:40],  # a label has at most 63 characters
        revision=revision,
        traffic="on" if names.traffic_log else "off",
        version=version,
    )
    service = yaml.safe_load(text)
    if names.feedback:
        _mount(service["spec"]["template"]["spec"], names.feedback)
    # An earlier candidate keeps its share of the traffic and loses the tag.
    kept = [replace(target, tag="") if target.tag == "candidate" else target for target in traffic]
    candidate = Target(revision, 0 if traffic else 100, "candidate")
    service["spec"]["traffic"] = [_entry(target) for target in [*kept, candidate] if target.percent or target.tag]
    return yaml.safe_dump(service, sort_keys=False)


def _mount(pod: dict[str, Any], bucket: str) -> None:
    """Let the app keep feedback in a bucket, which it sees as a folder."""
    attributes = {"bucketName": bucket, "mountOptions": f"uid={USER},gid={USER}"}
    pod["volumes"] = [
        {"name": "feedback", "csi": {"driver": "gcsfuse.run.googleapis.com", "volumeAttributes": attributes}}
    ]
    (container,) = pod["containers"]
    container["volumeMounts"] = [{"name": "feedback", "mountPath": FEEDBACK}]
    container["env"].append({"name": "FEEDBACK_DIR", "value": FEEDBACK})


def _entry(target: Target) -> dict[str, Any]:
    entry: dict[str, Any] = {"revisionName": target.revision, "percent": target.percent}
    return entry | ({"tag": target.tag} if target.tag else {})


# The commands


def describe(names: Names) -> list[str]:
    """Ask for the service."""
    return ["gcloud", "run", "services", "describe", names.service, *_where(names), "--format=json"]


def list_revisions(names: Names) -> list[str]:
    """Ask for the service's revisions."""
    return ["gcloud", "run", "revisions", "list", f"--service={names.service}", *_where(names), "--format=json"]


def replace_service(names: Names, file: Path) -> list[str]:
    """Make the service what a manifest says."""
    return ["gcloud", "run", "services", "replace", file.as_posix(), *_where(names)]


def move(names: Names, shares: dict[str, int], tags: dict[str, str] | None = None) -> list[str]:
    """Send the traffic to these revisions, in percent; tags go with it in the same step."""
    words = ["gcloud", "run", "services", "update-traffic", names.service, *_where(names)]
    words.append("--to-revisions=" + ",".join(f"{revision}={share}" for revision, share in shares.items()))
    if tags:
        words.append("--update-tags=" + ",".join(f"{tag}={revision}" for tag, revision in tags.items()))
    return words


def identity() -> list[str]:
    """Ask for the token that a service which is not open to all wants from its callers."""
    return ["gcloud", "auth", "print-identity-token", "--format=json(id_token)"]


def _where(names: Names) -> list[str]:
    return [f"--project={names.project}", f"--region={names.region}"]


# What the service says of itself


def traffic_of(service: Any) -> list[Target]:
    """Where the traffic goes, and the tags."""
    entries = service.get("status", {}).get("traffic") or []
    return [Target(e.get("revisionName", ""), e.get("percent") or 0, e.get("tag", "")) for e in entries]


def tagged(service: Any, tag: str) -> str:
    """The revision that a tag names; empty if there is none."""
    return next((target.revision for target in traffic_of(service) if target.tag == tag), "")


def serving(service: Any) -> str:
    """The revision that most of the traffic goes to."""
    shares: dict[str, int] = {}
    for target in traffic_of(service):
        shares[target.revision] = shares.get(target.revision, 0) + target.percent
    return max(shares, key=lambda revision: shares[revision], default="")


def address(service: Any, tag: str) -> str:
    """The address of a tagged revision.

    Raises:
        CloudError: the service has none.
    """
    for entry in service.get("status", {}).get("traffic") or []:
        if entry.get("tag") == tag and entry.get("url"):
            return str(entry["url"])
    raise CloudError(f"Cloud Run gave the revision tagged {tag} no address: type `uv run invoke status`")


# The tasks


def deploy(
    shell: Shell,
    names: Names,
    *,
    commit: str,
    models: Path,
    canary: bool,
    version: str = "",
    patience: float = 60,
) -> None:
    """Put the image of a commit beside what serves now, try it, and only then move the traffic.

    Raises:
        CloudError: why it was not done. The traffic is where it was.
    """
    model, _ = smoke.expected(models)
    revision = revision_name(names, commit)
    before = [] if shell.dry_run else _current(shell, names)
    file = Path(".atelier/service.yaml")
    file.parent.mkdir(exist_ok=True)
    file.write_text(manifest(names, commit, model, revision, before, version), "utf-8", newline="\n")
    shell.run(replace_service(names, file))
    if shell.dry_run:
        if names.public:
            print("# only the first time: whoever has the address may open the page")
            shell.run(access.bind(names, PUBLIC))
        print(f"# then {names.service}'s candidate is tried at its own address, and only if it answers well:")
        if canary:
            print(f"# (first {CANARY} % of the traffic, the rest stays where it is)")
        shell.run(move(names, {revision: 100}, {"live": revision}))
        return
    service = shell.ask(describe(names))
    _open_or_close(shell, names, service)
    token = "" if names.public else shell.ask(identity())["id_token"]
    url = address(service, "candidate")
    try:
        smoke.check(url, models, patience, token)
    except CloudError as error:
        where = "the traffic was not touched" if before else "it is the service's first revision, so it has the traffic"
        raise CloudError(f"{revision} is not fit to serve, {where}: {error}") from None
    old = max(before, key=lambda target: target.percent).revision if before else ""
    tags = {"live": revision} | ({"previous": old} if old and old != revision else {})
    try:
        if canary and old:
            shell.run(move(names, {revision: CANARY, old: 100 - CANARY}))
            smoke.check(url, models, patience, token)
        shell.run(move(names, {revision: 100}, tags))
    except CloudError as error:
        raise CloudError(_restore(shell, names, old, error)) from None
    print(f"{revision} serves: {shell.ask(describe(names))['status']['url']}")


def _current(shell: Shell, names: Names) -> list[Target]:
    """Where the traffic goes; empty if there is no service yet."""
    try:
        return traffic_of(shell.ask(describe(names)))
    except NotFoundError:
        return []


def _open_or_close(shell: Shell, names: Names, service: Any) -> None:
    """Let everybody call the service, or only those with a role, as invoke.yaml says. Mostly it is so already.

    Who deploys need not have the right to change this, and GitHub's workflows do not: the first deployment is the
    owner's.
    """
    # In an organisation that forbids roles for everybody, service.yaml may turn the check itself off instead.
    if service["metadata"].get("annotations", {}).get(UNCHECKED) == "true":
        if not names.public:
            raise CloudError(
                f"{TEMPLATE.name} has {UNCHECKED}, and invoke.yaml wants {names.service} closed: take it out"
            )
        return
    is_open = access.has(names, shell.ask(access.policy(names, PUBLIC.on)), PUBLIC)
    if is_open == names.public:
        return
    argv = access.bind(names, PUBLIC, "add" if names.public else "remove")
    try:
        shell.run(argv)
    except CloudError as error:
        state = "open to all" if is_open else "closed to whoever is not signed in"
        paste = f"type `{shown(argv)}` as its owner, then deploy again"
        raise CloudError(f"{names.service} is {state}, and invoke.yaml wants it otherwise: {paste} ({error})") from None


def _restore(shell: Shell, names: Names, old: str, reason: CloudError) -> str:
    """After a move that failed half-way: all traffic back to where it was; what to say of it."""
    if not old:
        return f"the traffic could not be moved: {reason}"
    try:
        shell.run(move(names, {old: 100}))
    except CloudError as error:
        # No rollback: the tag `previous` names the revision before the old one still.
        paste = f"`{shown(move(names, {old: 100}))}`"
        return f"the traffic could not be moved ({reason}), nor put back to {old} ({error}): type {paste} when it can"
    return f"the traffic could not be moved, and is back at {old}: {reason}"


def rollback(shell: Shell, names: Names) -> None:
    """All traffic to the revision that served before.

    Raises:
        CloudError: there is none.
    """
    if shell.dry_run:
        print("# the revision tagged `previous`, which the first command tells:")
        shell.run(describe(names))
        shell.run(move(names, {"PREVIOUS": 100}, {"live": "PREVIOUS"}))
        return
    service = shell.ask(describe(names))
    previous, now = tagged(service, "previous"), serving(service)
    if not previous:
        raise CloudError(f"{names.service} has no revision before {now}: nothing was changed")
    if previous == now:
        raise CloudError(f"{now} is the revision before, and serves already: nothing was changed")
    # The tag `previous` stays: a second rollback does not bring the bad revision back.
    shell.run(move(names, {previous: 100}, {"live": previous}))
    print(f"{previous} serves again, in place of {now}")


def status(shell: Shell, names: Names) -> list[tuple[str, str, str, str, str, str]]:
    """What runs where: revision, its percent, tags, commit, model and version, the newest first.

    Raises:
        CloudError: there is no service.
    """
    targets = traffic_of(shell.ask(describe(names)))
    rows = []
    for revision in shell.ask(list_revisions(names)) or []:
        name, labels = revision["metadata"]["name"], revision["metadata"].get("labels", {})
        share = sum(target.percent for target in targets if target.revision == name)
        tags = " ".join(sorted(target.tag for target in targets if target.revision == name and target.tag))
        commit, model = (labels.get(key, "?")[:12] for key in ("commit", "model"))
        rows.append((name, f"{share} %", tags, commit, model, _version(revision)))
    return rows


def _version(revision: Any) -> str:
    """The version of the model that a revision was told to tell; empty if it has none."""
    containers = revision.get("spec", {}).get("containers") or [{}]
    return next((e.get("value", "") for e in containers[0].get("env") or [] if e.get("name") == "MODEL_VERSION"), "")
