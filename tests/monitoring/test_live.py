"""A real Prometheus collects from the real app, with the rules that are shipped: clean, changed pictures, gone."""

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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.app import tiny_model
from tests.conftest import ROOT
from tests.monitoring.test_rules import FOLDER, NAME, QUERIES, RULES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("prometheus"), reason="needs Prometheus: apt-get install prometheus"),
]
CLEAN = np.stack(list(tiny_model.shapes().values()) * 10)  # a window of the tiny model


@contextlib.contextmanager
def process(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, text=True, stderr=subprocess.PIPE, **options) as running:
        try:
            yield running
        finally:
            running.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(20)
            running.kill()


class Watched:
    """The app and its Prometheus."""

    def __init__(self, app: subprocess.Popen[str], address: str, prometheus: str) -> None:
        self.app, self.address, self.prometheus = app, address, prometheus

    def send(self, pictures: np.ndarray) -> None:
        for picture in pictures:
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "PNG")
            request = urllib.request.Request(
                f"{self.address}/v1/predict", file.getvalue(), {"content-type": "image/png"}
            )
            urllib.request.urlopen(request, timeout=10).close()

    def ask(self, path: str, **query: str) -> Any:
        url = f"{self.prometheus}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def value(self, expression: str) -> float | None:
        found = self.ask("query", query=expression)["result"]
        return float(found[0]["value"][1]) if found else None

    def firing(self) -> set[str]:
        """Alerts that fire or are about to, with what they name."""
        labels = [alert["labels"] for alert in self.ask("alerts")["alerts"]]
        return {" ".join(filter(None, (label["alertname"], label.get("feature")))) for label in labels}


def until(done: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < end, found
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("live")
    environment = {
        **os.environ,
        "PORT": "0",
        "HOST": "127.0.0.1",
        "PAGE": "off",
        "MODEL_DIR": str(tiny_model.write(folder / "models")),
        "TRAFFIC_DIR": str(folder / "traffic"),
        "FEEDBACK_DIR": str(folder / "feedback"),
    }
    with process([sys.executable, "-m", "app.main"], cwd=ROOT, env=environment) as app:
        assert app.stderr
        address = app.stderr.readline().split()[-1]
        # As shipped, but for what would make a test wait.
        config = (FOLDER / "prometheus.yml").read_text(encoding="utf-8")
        config = config.replace("15s", "500ms").replace("127.0.0.1:7860", address.removeprefix("http://"))
        (folder / "prometheus.yml").write_text(config)
        rules = (FOLDER / "rules.yml").read_text(encoding="utf-8")
        (folder / "rules.yml").write_text(rules.replace("for: 2m", "for: 2s"))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
        ]
        with process(command) as prometheus:
            watched = Watched(app, address, f"http://127.0.0.1:{port}")

            def up() -> bool:
                assert prometheus.poll() is None, prometheus.stderr and prometheus.stderr.read()
                with contextlib.suppress(OSError):
                    return watched.value('up{job="atelier"}') == 1
                return False

            until(up)
            yield watched


def test_clean_traffic_raises_nothing(watched: Watched) -> None:
    for _ in range(4):
        watched.send(CLEAN)
        time.sleep(1)
    until(lambda: watched.value("sum(atelier_drift_windows_total)") == 4)
    time.sleep(2)
    assert watched.firing() == set()
    assert watched.value("sum(atelier_predictions_total)") == 4 * len(CLEAN)


def test_every_query_of_the_dashboard_and_the_rules_is_understood(watched: Watched) -> None:
    for expression in [*QUERIES, *(rule["expr"] for rule in RULES)]:
        watched.ask("query", query=expression.replace("$__rate_interval", "1m"))
    # And what the app always tells has something to show.
    for expression in QUERIES:
        name = NAME.search(expression)
        if name and expression.replace(name[0], "") in ("", "sum(increase([1h]))", "sum by (route) (rate([1m]))"):
            found = watched.ask("query", query=expression.replace("$__rate_interval", "1m"))
            assert found["result"], expression


def test_changed_pictures_raise_a_ticket_that_names_what_changed(watched: Watched) -> None:
    trousers = np.stack([tiny_model.shapes()["Trouser"]] * 30)
    watched.send(trousers)
    until(lambda: watched.value('atelier_drift_alarm{feature="class shares"}') == 1)
    time.sleep(2)
    assert watched.firing() == set()  # one window is not enough
    watched.send(trousers)
    found = until(watched.firing)
    assert "AtelierDrift class shares" in found
    assert all(name.startswith("AtelierDrift ") for name in found)
    for _ in range(2):
        watched.send(CLEAN)
    until(lambda: not watched.firing())


def test_an_app_that_is_gone_pages(watched: Watched) -> None:
    watched.app.send_signal(signal.SIGTERM)
    assert watched.app.wait(20) == 0
    until(lambda: watched.firing() == {"AtelierDown"})
    until(lambda: watched.ask("alerts")["alerts"][0]["state"] == "firing")
    assert watched.ask("alerts")["alerts"][0]["labels"]["severity"] == "page"


def test_the_folder_is_what_the_handbook_says() -> None:
    assert {path.name for path in Path(FOLDER).iterdir()} == {
        "dashboard.json",
        "prometheus.yml",
        "rules.test.yml",
        "rules.yml",
    }
