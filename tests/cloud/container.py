"""What runs on Vertex AI, without an engine: a folder with what the train image holds, and its entry point."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from tests.cloud.bucket import Bucket
from tests.project import ENVIRONMENT, Project


def environment(bucket: Bucket, log: Path) -> dict[str, str]:
    """In which DVC finds the bucket, and each stage that is started leaves a line in `log`."""
    programs = log.with_name(f"{log.name}.bin")
    programs.mkdir(parents=True, exist_ok=True)
    wrapper = programs / "python"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> "{log}"\nexec "{sys.executable}" "$@"\n')
    wrapper.chmod(0o755)
    return {
        **ENVIRONMENT,
        **bucket.environment,
        "PATH": f"{programs}{os.pathsep}{ENVIRONMENT['PATH']}",
        "DVC_SITE_CACHE_DIR": str(log.with_name(f"{log.name}.dvc")),
        "DVC_NO_ANALYTICS": "1",
        "PYTHONUNBUFFERED": "1",
    }


def started(log: Path) -> list[str]:
    """The stages that were, in their order."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.removeprefix("-m stages.") for line in lines if line.startswith("-m stages.")]


class Container:
    """A machine of its own: it shares nothing with another but the bucket."""

    def __init__(self, folder: Path, project: Project, bucket: Bucket, run: str, **variables: str) -> None:
        self.folder, self.log = folder / "atelier", folder / "started.log"
        self.words = [sys.executable, "-m", "deploy.job", f"--bucket={bucket.name}", f"--run={run}"]
        image(project, self.folder)
        self.environment = environment(bucket, self.log) | variables

    @property
    def started(self) -> list[str]:
        """The stages that were started here."""
        return started(self.log)

    @contextlib.contextmanager
    def start(self, *words: str) -> Iterator["Job"]:
        """Start the job; whatever of it is left when the block ends is killed."""
        with subprocess.Popen(
            [*self.words, *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            job = Job(process)
            try:
                yield job
            finally:
                job.kill()

    def run(self, *words: str) -> tuple[int, str]:
        """Run the job to its end; its status and all that it says."""
        with self.start(*words) as job:
            return job.end()


class Job:
    """A job that runs in a container."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._over = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def said(self) -> str:
        """All that it has said so far."""
        return "".join(self.lines)

    def saying(self, pattern: str, patience: float = 200) -> None:
        """Wait until it has said something."""
        with self._more:
            found = self._more.wait_for(lambda: re.search(pattern, self.said) or self._over, patience)
        assert found, self.said
        assert re.search(pattern, self.said), f"{pattern!r} was never said, in {self.said}"

    def until(self, happened: Callable[[], bool], patience: float = 200) -> None:
        """Wait until something has happened."""
        end = time.monotonic() + patience
        while not happened():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end, self.said
            time.sleep(0.02)

    def end(self, patience: float = 280) -> tuple[int, str]:
        """Wait for its end; its status and all that it has said."""
        try:
            status = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not at its end after {patience} s: {self.said}") from None
        self._reader.join(30)
        return status, self.said

    def terminate(self) -> None:
        """What Vertex AI does before it takes a machine back."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and all that it has started at once, as a machine that is switched off does."""
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [psutil.Process(self.process.pid)]
            family += family[0].children(recursive=True)
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
        self.process.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._more:
                self.lines.append(line)
                self._more.notify_all()
        with self._more:
            self._over = True
            self._more.notify_all()


def image(project: Project, folder: Path) -> None:
    """Copy what the train image holds of a project's commit: what its dockerfile copies and .dockerignore lets in."""
    dockerfile = (project.folder / "dockerfiles/train.dockerfile").read_text()
    copied = [
        word.rstrip("/")
        for words in re.findall(r"^COPY --chown=\S+ (.+) \S+$", dockerfile, re.MULTILINE)
        for word in words.split()
    ]
    let_in = Ignored(project.folder / ".dockerignore")
    for name in filter(None, project.git("ls-files", "-z").split("\0")):
        if let_in(name) and any(name == word or name.startswith(f"{word}/") for word in copied):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(project.folder / name, folder / name)
    (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")


class Ignored:
    """.dockerignore: of the lines that a path or a folder above it fits, the last decides."""

    def __init__(self, file: Path) -> None:
        self.rules: list[tuple[re.Pattern[str], bool]] = []
        for line in filter(None, (line.strip() for line in file.read_text().splitlines())):
            if not line.startswith("#"):
                pattern = re.escape(line.lstrip("!").strip("/")).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
                self.rules.append((re.compile(f"{pattern}(/.*)?"), line.startswith("!")))

    def __call__(self, name: str) -> bool:
        """Whether a file is let in."""
        decided = [let_in for pattern, let_in in self.rules if pattern.fullmatch(name)]
        return not decided or decided[-1]


def cloned(project: Project, folder: Path) -> Project:
    """Another clone of a project, for somebody else to work in."""
    subprocess.run(["git", "clone", "--quiet", str(project.folder), str(folder)], check=True)
    clone = Project.__new__(Project)
    clone.folder = folder
    return clone
