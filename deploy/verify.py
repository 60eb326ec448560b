"""Whether this commit makes again what its dvc.lock names: a fresh clone runs the pipeline from raw data, and the locks
are compared.

An out that is not equal to the bit may be as good: other processors and numbers of cores add in another order. It
passes if the new run's accuracy lies within the 95 % interval that the committed run states of its own.
"""

import contextlib
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy import incoming, lock
from deploy.gcloud import CloudError

EQUAL, WITHIN, DIFFERS = "equal to the bit", "within tolerance", "differs"
DVC = (sys.executable, "-m", "dvc")
EVALUATION, EXPORT = "reports/evaluation", "reports/export"
DATA = "data/prepared"  # no arithmetic that another processor may do otherwise
HERE = "original"  # what the clone calls the repository's own cache
Metrics = dict[str, Any]


def clone(root: Path, folder: Path) -> str:
    """Clone the commit that is checked out, with a DVC cache of its own; return the commit.

    Raises:
        CloudError: this is no repository with a commit, or it has no dvc.lock.
    """
    head = _git(root, "rev-parse", "HEAD")
    _git(root, "clone", "--quiet", "--no-checkout", str(root), str(folder))
    _git(folder, "checkout", "--quiet", "--detach", head)
    if not (folder / "dvc.lock").exists():
        raise CloudError(f"commit {head[:8]} has no dvc.lock: run `uv run dvc repro`, and commit it")
    # What a person has set for all repositories may name a shared cache, in which everything would be found.
    _dvc(folder, "cache", "dir", "--local", str(folder / ".dvc/cache"))
    _dvc(folder, "remote", "add", "--local", HERE, _dvc(root, "cache", "dir"))
    return head


def reproduce(folder: Path) -> None:
    """Run the whole pipeline there, from raw data.

    Raises:
        CloudError: it failed; the reason has been printed.
    """
    for file in incoming.files(folder):  # raw data that DVC keeps: from where it was added, else from the remote
        try:
            _dvc(folder, "pull", "--remote", HERE, file.as_posix())
        except CloudError:
            _dvc(folder, "pull", file.as_posix())
    if subprocess.run([*DVC, "repro", "--no-run-cache"], cwd=folder, check=False).returncode:
        raise CloudError("the pipeline failed in the clone; the reason stands above")


def compare(before: str, after: str, good: bool) -> dict[str, str]:
    """Out -> EQUAL, WITHIN or DIFFERS.

    Args:
        before: text of the committed dvc.lock.
        after: text of the one that was made anew.
        good: whether the new run's metrics are within tolerance.
    """
    mine, theirs = (lock.hashes(lock.stages(text)) for text in (before, after))
    found = {}
    for path in mine | theirs:
        other = WITHIN if good and path != DATA and path in mine and path in theirs else DIFFERS
        found[path] = EQUAL if mine.get(path) == theirs.get(path) else other
    return found


def tolerance(before: Mapping[str, Metrics], after: Mapping[str, Metrics]) -> list[str]:
    """What of the new run lies outside the interval that the old one states; a line each, empty if nothing.

    Args:
        before: metrics.json of evaluate and export, by EVALUATION and EXPORT, of the committed run.
        after: of the new one.
    """
    low, high = (before[EVALUATION][f"accuracy_{end}"] for end in ("low", "high"))
    reached = {"accuracy": after[EVALUATION]["accuracy"]}
    reached |= {f"{kind} accuracy": after[EXPORT][kind]["accuracy"] for kind in ("fp32", "int8")}
    return [
        f"{name} {value:.2%} is not within {low:.2%} to {high:.2%}"
        for name, value in reached.items()
        if not low <= value <= high
    ]


def committed_metrics(root: Path, head: str, before: str) -> dict[str, Metrics] | None:
    """Metrics of the committed run: from DVC's cache or its remote, else from the published copy if it is of this run.

    None where neither has them.
    """
    from dvc.api import read

    # Whatever DVC or a remote's library raises, it is not to be had there.
    with contextlib.suppress(Exception):
        return {
            path: json.loads(read(f"{path}/metrics.json", repo=str(root), rev=head)) for path in (EVALUATION, EXPORT)
        }
    try:
        published = json.loads(_git(root, "show", f"{head}:docs/results.json"))
    except CloudError:
        return None
    made = lock.hashes(lock.stages(before))
    if any(made.get(path) != md5 for path, md5 in published["md5"].items()):
        return None
    return {EVALUATION: published["evaluation"], EXPORT: published["export"]}


def verify(root: Path, folder: Path) -> tuple[dict[str, str], list[str]]:
    """Reproduce the commit of `root` in `folder`, which is not there yet.

    Returns:
        A verdict by out, and remarks: what lies outside the tolerance, or why that cannot be told.

    Raises:
        CloudError: there is nothing to reproduce, or it cannot be.
    """
    head = clone(root, folder)
    before = (folder / "dvc.lock").read_text(encoding="utf-8")
    print(f"reproducing commit {head[:8]} from raw data in {folder}", flush=True)
    if _git(root, "status", "--porcelain", "--untracked-files=no"):
        print("# changes that are not committed have no part in it", flush=True)
    reproduce(folder)
    after = (folder / "dvc.lock").read_text(encoding="utf-8")
    old = committed_metrics(root, head, before)
    new = {path: json.loads((folder / path / "metrics.json").read_text("utf-8")) for path in (EVALUATION, EXPORT)}
    remarks = ["the committed run's metrics are neither here nor in DVC's remote"] if old is None else []
    if old is not None:
        remarks = tolerance(old, new)
    return compare(before, after, not remarks), remarks


def machine() -> str:
    """What the bits may depend on, in a line."""
    import torch

    features = [name for name in ("avx2", "avx512_bf16", "amx_bf16") if torch.cpu.get_capabilities().get(name)]
    if torch.cuda.is_available():
        features.append(torch.cuda.get_device_name())
    return (
        f"{platform.machine()} {' '.join(features)}, {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CloudError(f"git {words[0]}: {' '.join(done.stderr.split())[:300]}")
    return done.stdout.strip()


def _dvc(folder: Path, *words: str) -> str:
    done = subprocess.run([*DVC, *words], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CloudError(f"dvc {' '.join(words[:2])}: {' '.join(done.stderr.split())[:300]}")
    return done.stdout.strip()
