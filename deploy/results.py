"""Brings home what a run made in the cloud: nothing is trained here, and what comes is what its dvc.lock names."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy import lock, runs, settings, training
from deploy.gcloud import CloudError, NotFoundError, Shell
from deploy.names import Names

DVC = (sys.executable, "-m", "dvc")


@dataclass(frozen=True)
class Brought:
    """What `bring` found.

    Attributes:
        differing: the outs that the dvc.lock which was here has otherwise, or not; empty: the run made the same bits.
    """

    run: str
    differing: tuple[str, ...]


def bring(shell: Shell, names: Names, job: Any, folder: Path = Path()) -> Brought:
    """Make a work tree what it would be if a finished run had run in it.

    params.yaml gets the run's settings, dvc.lock becomes the run's, and DVC pulls the outs. After an error the two are
    as before.

    Args:
        job: as gcloud describes it.

    Raises:
        CloudError: the tree is not what the run was made from, or not everything is in the bucket.
    """
    run = job["displayName"]
    files = [folder / "params.yaml", folder / "dvc.lock"]
    theirs = _lock_of(shell, names, run)
    with kept_on_error(files):
        before = files[1].read_text(encoding="utf-8") if files[1].exists() else ""
        settings.apply(training.settings_of(job), files[0])
        files[1].write_text(theirs, "utf-8", newline="\n")
        params = yaml.safe_load(files[0].read_text(encoding="utf-8"))
        pictures = params.get("dataset") == "image-folder"  # else the pipeline does not read them
        if changed := lock.behind(folder, pictures=pictures):
            raise CloudError(
                f"{run} was made from something else than is here ({', '.join(changed[:3])}): "
                f"`git switch --detach {training.commit_of(job)[:12]}`, then `uv run invoke results {run}`"
            )
        pull(names, folder)
        if changed := lock.behind(folder, pictures=pictures, outs=True):
            raise CloudError(f"what was pulled is not what {run} left: {', '.join(changed[:3])}")
    return Brought(run, differing(before, theirs))


def _lock_of(shell: Shell, names: Names, run: str) -> str:
    try:
        return shell.read(training.cat(names, run, "dvc.lock"))
    except NotFoundError:
        where = runs.file(names.bucket, run, "dvc.lock")
        raise CloudError(f"{where} is not there, though the job is finished: was the bucket emptied?") from None


@contextmanager
def kept_on_error(files: list[Path]) -> Iterator[None]:
    """If the block fails, the files are again as they were, or absent."""
    before = {file: file.read_bytes() if file.exists() else None for file in files}
    try:
        yield
    except BaseException:
        for file, content in before.items():
            if content is None:
                file.unlink(missing_ok=True)
            else:
                file.write_bytes(content)
        raise


def differing(before: str, theirs: str) -> tuple[str, ...]:
    """The outs that two dvc.lock do not have alike."""
    mine, other = (lock.hashes(lock.stages(text)) for text in (before, theirs))
    return tuple(sorted(path for path in mine | other if mine.get(path) != other.get(path)))


def pull(names: Names, folder: Path) -> None:
    """Pull what dvc.lock names from the bucket, whatever remotes the repository has; each file is verified.

    First all of it into the cache: the work tree is left alone until everything is there.

    Raises:
        CloudError: why it is not all here.
    """
    with tempfile.TemporaryDirectory() as scratch:
        # Settings of this call alone. DVC's own configuration in the repository stays as it is.
        remote = f"['remote \"{runs.REMOTE}\"']\n    url = {runs.remote(names.bucket)}\n    verify = true\n"
        Path(scratch, "config").write_text(remote, encoding="utf-8")
        fetched = _dvc(folder, "fetch", "--remote", runs.REMOTE, DVC_SYSTEM_CONFIG_DIR=scratch)
    cache = Path(_dvc(folder, "cache", "dir").stdout.strip())
    if lost := uncached(cache, lock.hashes(lock.stages(folder / "dvc.lock"))):
        raise CloudError(unfetched(runs.remote(names.bucket), fetched, lost))
    done = _dvc(folder, "checkout")
    if done.returncode:
        raise CloudError(f"what was pulled cannot take its place: {_said(done)}")


def uncached(cache: Path, hashes: dict[str, str]) -> dict[str, str]:
    """Path -> hash of what DVC's cache has not, of outs and of the files in those that are folders.

    DVC puts nothing there whose hash is not its name, and says nothing of what it left out.
    """
    lost = {}
    for path, md5 in hashes.items():
        if not (file := _place(cache, md5)).exists():
            lost[path] = md5
        elif md5.endswith(".dir"):
            within = {f"{path}/{entry['relpath']}": entry["md5"] for entry in json.loads(file.read_bytes())}
            lost |= {name: part for name, part in within.items() if not _place(cache, part).exists()}
    return lost


def unfetched(remote: str, fetched: subprocess.CompletedProcess[str], lost: dict[str, str]) -> str:
    """Why not everything could be fetched, in a line: which files are missing or damaged, else what DVC says."""
    if fetched.returncode:  # a file of a folder is not there, or the network was lost
        bucket = re.escape(remote.split("/")[2])  # what is not there is all that gcsfs says then
        gone = re.findall(rf"failed to transfer '(\w+)' - (?:b/)?{bucket}/|object (\w+\.dir) is", fetched.stderr)
        # Then the cache has not what tells the names of the folder's files, either.
        folder = "a file of " + " or ".join(path for path, md5 in lost.items() if md5.endswith(".dir"))
        known = {md5: path for path, md5 in lost.items()}
        lost = {known.get(md5, folder): md5 for pair in gone for md5 in pair if md5}
    if not lost:
        return f"not everything could be pulled from {remote}: {_said(fetched)}"
    places = [f"{path} ({remote}/files/md5/{md5[:2]}/{md5[2:]})" for path, md5 in list(lost.items())[:3]]
    return f"missing or damaged in the bucket: {', '.join(places)}; remove it there, and run the job again"


def _place(cache: Path, md5: str) -> Path:
    return cache / "files/md5" / md5[:2] / md5[2:]


def _said(done: subprocess.CompletedProcess[str]) -> str:
    errors = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    return " ".join((errors or [done.stderr])[-1].split())[:300]


def _dvc(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DVC, *words], cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def results(shell: Shell, names: Names, run: str) -> None:
    """Bring a finished run home, and say whether it made the bits that dvc.lock had.

    Raises:
        CloudError: the run is not finished, or cannot be brought home.
    """
    if shell.dry_run:
        for argv in (training.find(names, run), training.cat(names, run, "dvc.lock")):
            shell.run(argv)
        print("# then, if params.yaml and the code are what the run had: its dvc.lock here, and `dvc pull`")
        return
    job = training.newest(shell, names, run)
    state = training.state_of(job)
    if state not in training.ENDED:
        where = f"`{' '.join(training.stream(names, training.number_of(job)))}` shows its log"
        raise CloudError(
            f"{run} is not at its end, it is {state.lower()} since {job.get('startTime', 'just now')}: {where}"
        )
    if state != "SUCCEEDED":
        raise CloudError(training.verdict(job, training.left_state(shell, names, run)))
    brought = bring(shell, names, job)
    if not brought.differing:
        print(f"{run} is here, and equal to the dvc.lock that was: the same bits, nothing to commit")
    else:
        print(f"{run} is here: dvc.lock is gs://{names.bucket}/runs/{run}/dvc.lock, to be committed with params.yaml")
        print(f"other than in the dvc.lock that was: {', '.join(brought.differing)}")
