"""Where a run in the cloud keeps what: the names that the job in the container and the laptop have to agree on."""

import re
from datetime import UTC, datetime

FILES = ("dvc.lock", "params.yaml", "metrics.json", "state.json")
REMOTE = "atelier-bucket"  # what DVC calls the bucket, in settings that are ours alone
_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,60}[a-z0-9])?")


def new_id(commit: str, now: datetime | None = None) -> str:
    """A name for a run that a person can read: date, time (UTC) and commit."""
    return f"{now or datetime.now(UTC):%Y%m%d-%H%M%S}-{commit[:8]}"


def is_id(run: str) -> bool:
    """Whether a run may be called so: it becomes a label and a folder."""
    return _ID.fullmatch(run) is not None


def remote(bucket: str) -> str:
    """DVC's remote."""
    return f"gs://{bucket}/dvc"


def file(bucket: str, run: str, name: str) -> str:
    """A file that the run's job leaves beside what DVC holds, one of FILES."""
    return f"gs://{bucket}/runs/{run}/{name}"
