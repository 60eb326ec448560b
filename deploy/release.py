"""A tag in the registry's format says what is released: a version of the model, or the stage it is given.

The format is GTO's (github.com/iterative/gto), the registry that DVC's own tools read: `model@v1.2.0` registers a
version, `model#prod#3` gives the version at that commit the stage `prod`, for the third time.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from deploy.gcloud import CloudError

STAGE = "prod"  # the one that serves


@dataclass(frozen=True)
class Release:
    """What a tag asks for: an image if it registers a version, a deployment if it assigns the stage."""

    artifact: str
    version: str = ""
    stage: str = ""


def artifacts(pipeline: Path = Path("dvc.yaml")) -> list[str]:
    """The names of what dvc.yaml offers to the registry."""
    return list(yaml.safe_load(pipeline.read_text(encoding="utf-8")).get("artifacts", {}))


def read(tag: str, known: list[str]) -> Release:
    """Read a tag.

    Args:
        tag: without `refs/tags/`.
        known: the artifacts that there are.

    Raises:
        CloudError: it is no tag of the registry, or one that nothing follows from.
    """
    from gto.constants import Action
    from gto.exceptions import InvalidTagName
    from gto.tag import parse_name

    try:
        found = parse_name(tag)
    except InvalidTagName:
        raise CloudError(
            f"{tag} is no tag of the registry: a version is {known[0]}@v1.2.0, a stage {known[0]}#{STAGE}#1"
        ) from None
    if found["name"] not in known:
        raise CloudError(f"{tag}: dvc.yaml has no artifact {found['name']!r}, but {', '.join(known)}")
    action = found["action"]
    if action == Action.REGISTER:
        return Release(found["name"], version=found["version"])
    if action == Action.ASSIGN and found["stage"] == STAGE:
        return Release(found["name"], stage=STAGE)
    if action == Action.ASSIGN:
        raise CloudError(f"{tag}: nothing follows from the stage {found['stage']!r}, only from {STAGE!r}")
    raise CloudError(f"{tag} takes something back, and what serves stays: type `uv run invoke rollback` to go back")


def refuse_elsewhere(tag: str) -> None:
    """End unless the tag is of the commit that the work tree holds.

    Raises:
        CloudError: it is not.
    """
    here = subprocess.run(
        ["git", "tag", "--points-at", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.split()
    if tag not in here:
        raise CloudError(f"{tag} is no tag of this commit: type `git switch --detach '{tag}'` first")
