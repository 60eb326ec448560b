"""A grid of params on Vertex AI, a job a point; what they made comes back as DVC experiments."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy import results, settings, training
from deploy.gcloud import CloudError, Shell
from deploy.names import Names

DVC = (sys.executable, "-m", "dvc")


@dataclass
class Point:
    """A point of the grid.

    Attributes:
        name: of its experiment.
        state: waiting, submitting, submitted, a state of Vertex's in small letters, here, or failed.
        reason: why it failed.
    """

    name: str
    plan: training.Plan
    state: str = "waiting"
    reason: str = ""
    job: Any = field(default=None, repr=False)

    @property
    def open(self) -> bool:
        """Whether its job is Vertex's business still."""
        return self.job is not None and self.state not in ("here", "failed")


def check(grid: Sequence[Mapping[str, object]], parallel: int) -> None:
    """Look at what was asked for, before anything else is done.

    Raises:
        CloudError: a wrong param, or no job at a time.
    """
    if parallel < 1:
        raise CloudError(f"--parallel {parallel}: at least 1")
    for values in grid:
        settings.check([f"{key}={value}" for key, value in values.items()])


def points(grid: Sequence[Mapping[str, object]], base: str, commit: str, spot: bool) -> list[Point]:
    """A run for each point, with IDs that begin alike."""
    found = []
    for number, values in enumerate(grid, 1):
        chosen = tuple(f"{key}={value}" for key, value in values.items())
        plan = training.Plan(f"{base}-{number:02}", commit, chosen, spot)
        found.append(Point("-".join(f"{key}{value}" for key, value in values.items()), plan))
    return found


def sweep(shell: Shell, names: Names, todo: Sequence[Point], parallel: int) -> None:
    """Run the points, `parallel` at a time; one that fails does not end the others.

    Raises:
        CloudError: there is no image, or later, Google cannot be reached.
        KeyboardInterrupt: with how to come back; the jobs go on.
    """
    training.image(shell, names, todo[0].plan.commit)
    if shell.dry_run:
        for point in todo:
            training.submit(shell, names, point.plan)
        print(f"# {parallel} at a time, and what they made comes back as experiments")
        return
    heard = time.monotonic()
    try:
        while any(point.state not in ("here", "failed") for point in todo):
            _submit(shell, names, todo, parallel)
            if not any(point.open for point in todo):
                continue
            time.sleep(training.EVERY)
            try:
                _look(shell, names, todo)
                heard = time.monotonic()
            except CloudError as error:
                if time.monotonic() - heard > training.PATIENCE:
                    raise CloudError(f"{error}; the jobs go on: {_back(todo)}") from None
                print(f"# {error}; asking again", flush=True)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_back(todo)) from None


def _back(todo: Sequence[Point]) -> str:
    left = " ".join(point.plan.run for point in todo if point.open or point.state == "submitting")
    return f"`uv run invoke results ID` for each of {left}" if left else "nothing of this sweep"


def _submit(shell: Shell, names: Names, todo: Sequence[Point], parallel: int) -> None:
    for point in todo:
        if point.state == "waiting" and sum(other.open for other in todo) < parallel:
            point.state = "submitting"
            try:
                point.job, point.state = training.submit(shell, names, point.plan), "submitted"
            except CloudError as error:
                _fail(point, error)


def _look(shell: Shell, names: Names, todo: Sequence[Point]) -> None:
    """Ask for all jobs at once, and bring home what has ended."""
    base = todo[0].plan.run.rpartition("-")[0]
    jobs = {job["displayName"]: job for job in shell.ask(training.find(names, f"{base}-*")) or []}
    for point in todo:
        if not point.open or point.plan.run not in jobs:
            continue
        point.job = jobs[point.plan.run]
        state = training.state_of(point.job)
        if state.lower() != point.state and state not in training.ENDED:
            point.state = state.lower()
            print(f"{point.plan.run} ({point.name}): {point.state}", flush=True)
        if state not in training.ENDED:
            continue
        try:
            if state != "SUCCEEDED":
                raise CloudError(training.verdict(point.job, training.left_state(shell, names, point.plan.run)))
            bring(shell, names, point)
            point.state = "here"
            print(f"{point.plan.run} is here, as the experiment {point.name}", flush=True)
        except CloudError as error:
            _fail(point, error)


def _fail(point: Point, error: CloudError) -> None:
    point.state, point.reason = "failed", str(error)
    print(f"{point.plan.run} ({point.name}): {error}", file=sys.stderr, flush=True)


def bring(shell: Shell, names: Names, point: Point) -> None:
    """Make a finished run an experiment of this repository; the work tree is left alone.

    Raises:
        CloudError: why that cannot be done.
    """
    root = Path(_run("git", "rev-parse", "--show-toplevel").strip())
    cache = _run(*DVC, "cache", "dir").strip()
    with tempfile.TemporaryDirectory(prefix="atelier-") as scratch:
        clone = Path(scratch) / "clone"
        _run("git", "clone", "--quiet", "--shared", "--no-checkout", str(root), str(clone))
        _run("git", "switch", "--quiet", "--detach", point.plan.commit, folder=clone)
        _run(*DVC, "cache", "dir", "--local", cache, folder=clone)
        results.bring(shell, names, point.job, clone)
        _run(*DVC, "exp", "save", "--force", "--name", point.name, folder=clone)
        _run(*DVC, "exp", "pull", "--force", "--no-cache", str(clone), point.name, folder=root)


def _run(*argv: str, folder: Path | None = None) -> str:
    who = {"NAME": "atelier", "EMAIL": "atelier@localhost"}
    names = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()}
    done = subprocess.run(argv, cwd=folder, env={**os.environ, **names}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CloudError(f"{' '.join(argv[:4])}: {' '.join((done.stderr or done.stdout).split())[:300]}")
    return done.stdout
