"""Servers to measure, each a process of its own on 127.0.0.1, and what Linux says of them in /proc."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import HOST

ROOT = Path(__file__).parents[1]
START_LIMIT = 120.0  # seconds until a server that does not listen counts as failed
STOP_LIMIT = 20.0  # seconds from SIGTERM until it is killed
APP = "app.main"


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        process: its process.
        port: where it listens, on 127.0.0.1.
        started: when its process was started, in time.perf_counter().
    """

    process: subprocess.Popen[bytes]
    port: int
    started: float

    def cpu_seconds(self) -> float:
        """Processor time since the start, in user and kernel mode: all threads, and child processes."""
        ticks = 0
        for pid in _family(self.process.pid):
            # What follows the name in brackets; utime, stime and those of children that have ended.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(ticks) for ticks in fields[11:15])
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        """Resident memory in MB of 1024 * 1024 bytes."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))

    def get(self, path: str, accept: str = "*/*") -> tuple[int, bytes]:
        """Status and body of a page; (0, b"") while nobody listens."""
        request = urllib.request.Request(f"http://{HOST}:{self.port}{path}", headers={"Accept": accept})
        try:
            with urllib.request.urlopen(request, timeout=START_LIMIT) as answer:  # noqa: S310 - our own address
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0


def _family(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    return [pid, *(member for child in children for member in _family(child))]


@contextlib.contextmanager
def running(module: str, environment: Mapping[str, str], *arguments: str) -> Iterator[Server]:
    """A server that listens, for as long as the block lasts: `python -m module`, told by PORT where.

    Args:
        module: what to run.
        environment: what it gets besides this process's own.
        arguments: of the command.

    Raises:
        RuntimeError: it ended or did not listen in time; with what it wrote to stderr.
    """
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    env = {**os.environ, "HOST": HOST, "PORT": str(port), **environment}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed app is compiled
    with tempfile.TemporaryFile() as log:
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=ROOT, env=env, stderr=log)
        server = Server(process, port, started)
        try:
            while not server.listens():
                if process.poll() is not None or time.perf_counter() - started > START_LIMIT:
                    log.seek(0)
                    raise RuntimeError(f"{module} does not listen: {log.read().decode()}")
                time.sleep(0.005)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def model_dir(folder: Path, models: Path, file: str) -> Path:
    """Makes a MODEL_DIR in which `file` of another one is served; samples and all. Returns it."""
    folder.mkdir()
    for entry in models.iterdir():
        if entry.name != "serve.json":
            (folder / entry.name).symlink_to(entry.resolve())
    (folder / "serve.json").write_text(json.dumps({"file": file}), "utf-8")
    return folder


def sample(models: Path) -> bytes:
    """A picture file of the size that the model sees, out of the MODEL_DIR's samples."""
    return sorted((models / "samples").rglob("*.png"))[0].read_bytes()
