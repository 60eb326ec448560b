"""The real app on one port, and a real Prometheus that collects from it by the rules that are shipped."""

import base64
import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.monitoring.test_rules import FOLDER

AT_ONCE = 50  # pictures a request
needs_prometheus = pytest.mark.skipif(
    not shutil.which("prometheus"), reason="needs Prometheus: apt-get install prometheus"
)


class Service:
    """The app, which may be started anew with another model, as revisions of a service are."""

    def __init__(self) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.app: subprocess.Popen[str] | None = None

    def start(self, models: Path, **environment: str) -> None:
        """Serve a model, REST alone, and wait until it is ready."""
        assert self.app is None
        settings = {"HOST": "127.0.0.1", "PORT": str(self.port), "PAGE": "off", "MODEL_DIR": str(models)}
        self.app = subprocess.Popen(
            [sys.executable, "-m", "app.main"],
            cwd=ROOT,
            env={**os.environ, **settings, **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.app.stderr
        assert "ready" in (line := self.app.stderr.readline()), line

    def stop(self) -> int:
        """As a platform does; returns the status with which it ended."""
        assert self.app
        app, self.app = self.app, None
        return end(app)

    def close(self) -> None:
        """Stop it if it runs."""
        if self.app:
            self.stop()

    def ask(self, path: str, data: bytes | None = None, **headers: str) -> Any:
        """The answer's JSON."""
        request = urllib.request.Request(
            self.address + path, data, {key.replace("_", "-"): value for key, value in headers.items()}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def predict(self, pictures: np.ndarray) -> list[str]:
        """Classes of pictures uint8 [N, H, W]."""
        said = []
        for start in range(0, len(pictures), AT_ONCE):
            images = [base64.b64encode(png(picture)).decode() for picture in pictures[start : start + AT_ONCE]]
            body = json.dumps({"images": images}).encode()
            answers = self.ask("/v1/predict", body, content_type="application/json")["answers"]
            said += [answer["class"] for answer in answers]
        return said


class Prometheus:
    """Its API."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, path: str, **query: str) -> Any:
        url = f"{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def value(self, expression: str) -> float | None:
        found = self.ask("query", query=expression)["result"]
        return float(found[0]["value"][1]) if found else None

    def firing(self) -> set[str]:
        """Alerts that fire or are about to, with what they name."""
        labels = [alert["labels"] for alert in self.ask("alerts")["alerts"]]
        return {" ".join(filter(None, (label["alertname"], label.get("feature")))) for label in labels}


@contextlib.contextmanager
def collecting(service: Service, folder: Path, replaced: Mapping[str, str]) -> Iterator[Prometheus]:
    """A Prometheus for the service, once it has seen it.

    Args:
        service: is running.
        folder: for its files.
        replaced: in the rules that are shipped: what would make a test wait.
    """
    config = (FOLDER / "prometheus.yml").read_text(encoding="utf-8")
    config = config.replace("15s", "500ms").replace("127.0.0.1:7860", service.address.removeprefix("http://"))
    (folder / "prometheus.yml").write_text(config)
    rules = (FOLDER / "rules.yml").read_text(encoding="utf-8")
    for shipped, quick in replaced.items():
        assert shipped in rules
        rules = rules.replace(shipped, quick)
    (folder / "rules.yml").write_text(rules)
    port = free_port()
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    running = subprocess.Popen(command, text=True, stderr=subprocess.PIPE)
    prometheus = Prometheus(f"http://127.0.0.1:{port}")

    def up() -> bool:
        assert running.poll() is None, running.stderr and running.stderr.read()
        with contextlib.suppress(OSError):
            return prometheus.value('up{job="atelier"}') == 1
        return False

    try:
        until(up)
        yield prometheus
    finally:
        end(running)


def end(process: subprocess.Popen[str]) -> int:
    """Ask a process to end, and see to it; its status."""
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    return process.returncode


def until(done: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for it, and return it."""
    last = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < last, found
        time.sleep(0.2)
    return found


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
