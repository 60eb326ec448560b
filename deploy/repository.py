"""What an image or a revision is made from: the commit, and the model that is served."""

import hashlib
import subprocess
from pathlib import Path

import yaml

from deploy.gcloud import CloudError


def commit(allow_dirty: bool = False) -> str:
    """The commit that the work tree holds, 40 digits.

    Raises:
        CloudError: there is none, or the tree has changes that it does not hold.
    """
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CloudError("this is no git repository with a commit: an image is named after the commit it is built from")
    if not allow_dirty and (first := changed()):
        raise CloudError(f"the work tree has changes ({first}, ...): commit them, or give --allow-dirty")
    return done.stdout.strip()


def changed() -> str:
    """The first file that differs from the commit; empty if none does."""
    listed = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    return listed.splitlines()[0][3:] if listed else ""


def served_sha256(models: Path = Path("models")) -> str:
    """The sha256 of the model file that the app serves.

    Raises:
        CloudError: there is no exported model.
    """
    try:
        file = models / yaml.safe_load((models / "serve.json").read_text(encoding="utf-8"))["file"]
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except (OSError, KeyError, TypeError, yaml.YAMLError):
        raise CloudError(f"{models}/ holds no exported model: type `uv run dvc repro`, or `uv run dvc pull`") from None
