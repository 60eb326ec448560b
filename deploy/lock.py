"""Whether dvc.lock is in step: what was changed since it was written, stage by stage."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from deploy.gcloud import CloudError

PICTURES = ("data_dir", "extra_dir")  # params that name a folder of the user's own


def behind(folder: Path = Path(), *, pictures: bool = False, outs: bool = False) -> list[str]:
    """What each stage would run again for, a line each; empty if nothing.

    Args:
        folder: of the work tree.
        pictures: whether changed pictures in the folders that params.yaml names count. For a person who tries
            pictures of their own they do not; for the machine that takes in new data they are the point.
        outs: whether what the stages make has to be here, and to be what dvc.lock says. A clone has none of it.

    Raises:
        CloudError: DVC could not tell.
    """
    status = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"], cwd=folder, capture_output=True, text=True, check=False
    )
    if status.returncode:
        raise CloudError(f"dvc status failed: {' '.join(status.stderr.split())[:300]}")
    params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    own = {params[name] for name in PICTURES if name in params}
    lock = stages(folder / "dvc.lock")
    made = hashes(lock)
    changed = [] if outs else list(_parted(lock, made))
    for stage, entries in json.loads(status.stdout).items():
        for entry in entries:
            if isinstance(entry, str):  # "changed command"
                changed.append(f"{stage}: {entry}")
                continue
            for path, state in entry.get("changed deps", {}).items():
                if isinstance(state, dict):  # keys of a file of params
                    changed += [f"{stage}: {path}: {key} {how}" for key, how in state.items()]
                elif path in own:
                    if pictures and (outs or state != "deleted"):  # DVC may have them, and a clone not yet
                        changed.append(f"{stage}: {path} {state}")
                elif outs or path not in made:
                    changed.append(f"{stage}: {path} {state}")
            if outs:
                changed += [f"{stage}: {path} {state}" for path, state in entry.get("changed outs", {}).items()]
    return changed


def _parted(lock: dict[str, Any], made: dict[str, str]) -> Iterator[str]:
    """Where a stage was run again, and those that read what it made were not."""
    for name, stage in lock.items():
        for dep in stage.get("deps", []):
            if dep["path"] in made and made[dep["path"]] != dep.get("md5"):
                yield f"{name}: {dep['path']} made anew since"


def stages(lock: Path | str) -> dict[str, Any]:
    """The stages of a dvc.lock, a file or its text; a file that is not there has none."""
    if isinstance(lock, Path):
        lock = lock.read_text(encoding="utf-8") if lock.exists() else ""
    return (yaml.safe_load(lock) or {}).get("stages") or {}


def hashes(lock: dict[str, Any]) -> dict[str, str]:
    """Out -> hash, of all stages."""
    return {out["path"]: out.get("md5", "") for stage in lock.values() for out in stage.get("outs", [])}
