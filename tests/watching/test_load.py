"""`invoke load`: what is refused, what is counted as failed, and that nothing it started stays."""

import http.server
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from deploy import load
from deploy.gcloud import CloudError
from tests.app import tiny_model
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.write(tmp_path_factory.mktemp("load") / "models")


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "invoke", "load", *words]


@pytest.mark.parametrize(
    ("url", "users", "minutes", "said"),
    [
        ("", 0, 1, "--users 0: from 1 to 200"),
        ("", 201, 1, "--users 201: from 1 to 200"),
        ("", 5, 0.01, "--minutes 0.01: from 0.1 to 30"),
        ("", 5, 31, "--minutes 31: from 0.1 to 30"),
        ("ftp://host", 5, 1, "--url ftp://host: an address such as"),
        ("https://host/v1/predict", 5, 1, "without a path"),
        ("host:7860", 5, 1, "an address such as"),
    ],
)
def test_what_is_out_of_bounds_is_refused(url: str, users: int, minutes: float, said: str) -> None:
    with pytest.raises(CloudError, match=re.escape(said)):
        load.check(url, users, minutes)


def test_an_address_that_does_not_answer_is_one_line(models: Path) -> None:
    done = subprocess.run(command("--url", "http://127.0.0.1:9"), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "http://127.0.0.1:9/readyz does not answer: is it an Atelier, and does it run?\n"


def test_an_app_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(CloudError, match=r"the app does not start: atelier: there is no .*serve\.json"),
        load.local(tmp_path),
    ):
        pytest.fail("it cannot")


def test_a_folder_without_pictures_is_said(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="holds no picture to send"):
        load.run("http://127.0.0.1:9", tmp_path, 1, 0.1, tmp_path / "load.html")


class Broken(http.server.BaseHTTPRequestHandler):
    """Is ready, and then fails at every second picture; leads one in three elsewhere."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[str]] = []
    count = 0

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.answer(200)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.asked.append(self.path)
        Broken.count += 1
        self.answer((200, 500, 302)[Broken.count % 3])

    def answer(self, status: int) -> None:
        self.send_response(status)
        if status == 302:
            self.send_header("location", f"http://{self.headers['host']}/elsewhere")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def broken() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
def test_errors_are_counted_and_redirects_not_followed(models: Path, broken: str, tmp_path: Path) -> None:
    report = tmp_path / "load.html"
    words = command("--url", broken, "--users", "2", "--minutes", "0.1", "--models", str(models), "--out", str(report))
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    failed, requests = map(int, re.search(r"(\d+) of (\d+) requests failed; the report says how", done.stderr).groups())
    assert 0 < failed < requests
    assert set(Broken.asked) == {"/readyz", "/v1/predict"}
    assert report.exists()


@pytest.mark.slow
def test_the_real_app_is_loaded_and_stopped(models: Path, tmp_path: Path) -> None:
    report = tmp_path / "load.html"
    words = command("--users", "4", "--minutes", "0.15", "--models", str(models), "--out", str(report))
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    url = re.search(r"http://127\.0\.0\.1:\d+", done.stdout)[0]
    assert not load.ready(url)
    text = report.read_text(encoding="utf-8")
    assert "JSON, two pictures" in text
    assert "response_time_percentile_0.95" in text  # over time


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is another thing on Windows")
def test_ctrl_c_leaves_nothing_running(models: Path, tmp_path: Path) -> None:
    words = command("--users", "1", "--minutes", "5", "--models", str(models), "--out", str(tmp_path / "load.html"))
    with subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        url = re.search(r"http://\S+", running.stdout.readline())[0]
        assert load.ready(url)
        time.sleep(4)  # locust has begun
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does
        out, err = running.communicate(timeout=60)
    assert running.returncode == 130, out + err
    assert "stopped before its time" in err
    assert not load.ready(url)
    with pytest.raises(ProcessLookupError):
        os.killpg(running.pid, 0)
