"""A load test by locust: bounded, of one address, with a report.

benchmarks/load.py measures what a server can do on this machine, with a client that costs next to nothing. This one
does what users do, over any network, and draws how the answers fare over time.
"""

import contextlib
import csv
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from deploy.gcloud import CloudError

HOST = "127.0.0.1"
USERS, MINUTES = (1, 200), (0.1, 30.0)  # least and most
PAUSE = 0.5  # seconds between two requests of a user, on average
LEVEL = 0.25  # seconds: docs/watching.md
START = 60.0  # seconds that the app has to answer


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        requests, failures: how many; a failure is no answer, or one that is not 2xx.
        rate: requests a second.
        percentiles: p50, p95, p99 and the slowest, in milliseconds.
        report: the HTML file.
    """

    requests: int
    failures: int
    rate: float
    percentiles: dict[str, float]
    report: Path


def check(url: str, users: int, minutes: float) -> None:
    """See to it that what is asked for is within bounds.

    Raises:
        CloudError: it is not; says what is.
    """
    if not USERS[0] <= users <= USERS[1]:
        raise CloudError(f"--users {users}: from {USERS[0]} to {USERS[1]}")
    if not MINUTES[0] <= minutes <= MINUTES[1]:
        raise CloudError(f"--minutes {minutes:g}: from {MINUTES[0]:g} to {MINUTES[1]:g}")
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/")):
        raise CloudError(f"--url {url}: an address such as https://atelier-abc.run.app, without a path")


def ready(url: str) -> bool:
    """Whether an Atelier answers there."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=10) as answer:  # noqa: S310 - http(s), as was checked
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


@contextlib.contextmanager
def local(models: Path) -> Iterator[str]:
    """The app of this folder on a free port of this machine, until the block ends.

    Raises:
        CloudError: it does not start; it has said why.
    """
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    env = {**os.environ, "HOST": HOST, "PORT": str(port), "MODEL_DIR": str(models), "LOG_FORMAT": "json"}
    url = f"http://{HOST}:{port}"
    with (
        tempfile.TemporaryFile() as log,  # a line a request; shown only where the app does not start
        subprocess.Popen([sys.executable, "-m", "app.main"], env=env, stderr=log) as server,
    ):
        try:
            end = time.monotonic() + START
            while not ready(url):
                if server.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    said = log.read().decode(errors="replace").strip().splitlines()
                    raise CloudError(f"the app does not start: {said[-1] if said else 'it says nothing'}")
                time.sleep(0.1)
            yield url
        finally:
            server.terminate()
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()


def run(url: str, pictures: Path, users: int, minutes: float, report: Path) -> Outcome:
    """Load an address.

    Args:
        url: of the app.
        pictures: a folder of PNG files.
        users: at a time; they come within the first tenth of the time.
        minutes: how long.
        report: the HTML file to write.

    Raises:
        CloudError: locust failed.
    """
    if not any(pictures.glob("*.png")):
        raise CloudError(f"{pictures.as_posix()} holds no picture to send: name a folder of a model with --models")
    report.parent.mkdir(parents=True, exist_ok=True)
    seconds = round(minutes * 60)
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "locust", "--locustfile", str(Path(__file__).with_name("loadtest.py"))),
            *("--headless", "--host", url, "--users", str(users), "--run-time", f"{seconds}s", "--stop-timeout", "30"),
            *("--spawn-rate", f"{max(1.0, users / max(1.0, seconds / 10)):g}", "--exit-code-on-error", "0"),
            *("--csv", f"{folder}/load", "--html", str(report), "--loglevel", "WARNING", "--only-summary"),
        ]
        env = {**os.environ, "ATELIER_PICTURES": str(pictures.resolve()), "ATELIER_PAUSE": str(PAUSE)}
        with subprocess.Popen(
            command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
        ) as locust:
            try:
                _, said = locust.communicate(timeout=seconds + 90)
            except (KeyboardInterrupt, subprocess.TimeoutExpired):
                locust.send_signal(signal.SIGTERM)
                locust.wait(40)
                raise
        if locust.returncode:
            last = said.strip().splitlines()
            raise CloudError(f"locust failed: {last[-1] if last else f'status {locust.returncode}'}")
        with Path(f"{folder}/load_stats.csv").open(newline="", encoding="utf-8") as file:
            total = next(row for row in csv.DictReader(file) if row["Name"] == "Aggregated")
    return outcome(total, report)


def outcome(total: dict[str, str], report: Path) -> Outcome:
    """From the last row of locust's table."""
    requests = int(total["Request Count"])
    columns = {"p50": "50%", "p95": "95%", "p99": "99%", "slowest": "100%"}
    percentiles = {name: float(total[key]) for name, key in columns.items()} if requests else {}
    return Outcome(requests, int(total["Failure Count"]), float(total["Requests/s"] or 0), percentiles, report)
