import ast
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app import main as module
from app.main import Settings, StartError, create_app

ROOT = Path(module.__file__).parents[1]


# Settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("PORT", "78.60"),
        ("HOST", "http://localhost"),
        ("HOST", "my host"),
        ("MAX_UPLOAD_MB", "0"),
        ("MAX_UPLOAD_MB", "101"),
        ("MAX_UPLOAD_MB", "10MB"),
        ("MAX_UPLOAD_MB", "1.5"),
        ("LOG_FORMAT", "xml"),
        ("PAGE", "maybe"),
        ("MODEL_VERSION", "v1 <b>"),
        ("TRAFFIC_DIR", "gs://bucket/traffic"),
        ("TRAFFIC_MAX_MB", "0"),
        ("TRAFFIC_LOG", "yes"),
        ("KEEP_PICTURES", "2"),
        ("FEEDBACK_DIR", "gs://bucket/feedback"),
    ],
)
def test_wrong_settings_are_named(name, value):
    with pytest.raises(StartError) as caught:
        Settings.from_environment({name: value})
    message = str(caught.value)
    assert message.startswith(f"{name} is {value!r}; it should be ")
    assert "\n" not in message


def test_settings_and_their_defaults():
    assert Settings.from_environment({}) == Settings.from_environment({"PORT": "", "HOST": " "}) == Settings()
    assert Settings() == Settings("127.0.0.1", 7860, Path("models"), 10)
    given = {"HOST": "0.0.0.0", "PORT": "80", "MODEL_DIR": "/m", "MAX_UPLOAD_MB": "2"}
    assert Settings.from_environment(given) == Settings("0.0.0.0", 80, Path("/m"), 2)
    assert Settings.from_environment(given).max_upload_bytes == 2 * 1024**2
    assert Settings.from_environment({"LOG_FORMAT": "JSON", "PAGE": "Off"}) == Settings(log_format="json", page=False)
    assert Settings.from_environment({"MODEL_VERSION": "v1.2.0"}) == Settings(model_version="v1.2.0")
    given = {"TRAFFIC_DIR": "t", "TRAFFIC_MAX_MB": "9", "TRAFFIC_LOG": "on", "KEEP_PICTURES": "1", "FEEDBACK_DIR": "f"}
    assert Settings.from_environment(given) == Settings(
        traffic_dir=Path("t"), traffic_max_mb=9, traffic_log=True, keep_pictures=True, feedback_dir=Path("f")
    )


# A start that fails


@pytest.fixture
def start(monkeypatch, capsys):
    """Runs main() with these settings; returns its status and the one line that it wrote."""

    def start(**settings):
        for name in ("HOST", "PORT", "MODEL_DIR", "MAX_UPLOAD_MB", "LOG_FORMAT", "PAGE", "MODEL_VERSION"):
            monkeypatch.delenv(name, raising=False)
        for name, value in settings.items():
            monkeypatch.setenv(name, str(value))
        status = module.main()
        written = capsys.readouterr()
        assert written.out == ""
        assert written.err.count("\n") == 1
        return status, written.err

    before, root = signal.getsignal(signal.SIGTERM), logging.getLogger()
    monkeypatch.setattr(root, "handlers", list(root.handlers))  # main's writes to what this test has captured
    monkeypatch.setattr(root, "level", root.level)
    yield start
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("folder", ["models", "."])
def test_no_model_names_the_two_ways_to_get_one(start, tmp_path, folder):
    status, line = start(PORT=0, MODEL_DIR=tmp_path / folder)
    assert status == 1
    assert "`uv run invoke demo`" in line
    assert "`uv run dvc repro`" in line


def test_damaged_model(start, tmp_path):
    (tmp_path / "serve.json").write_text('{"file": "model.onnx"}')
    (tmp_path / "model.onnx").write_bytes(b"damaged")
    status, line = start(PORT=0, MODEL_DIR=tmp_path)
    assert status == 1
    assert "model.onnx is damaged" in line


def test_wrong_setting(start):
    status, line = start(PORT="http")
    assert status == 1
    assert "PORT" in line


def test_port_taken(start, models):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        status, line = start(PORT=port, MODEL_DIR=models)
    assert status == 1
    assert f"127.0.0.1:{port}" in line
    assert "in use" in line


def test_host_that_does_not_resolve(start, models, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    status, line = start(HOST="no-such-host", PORT=0, MODEL_DIR=models)
    assert status == 1
    assert "HOST is 'no-such-host'" in line


# The application


def test_health_page_and_limit(models, classifier):
    with TestClient(create_app(Settings(model_dir=models, max_upload_mb=1), classifier)) as client:
        assert client.get("/healthz").json() == client.get("/").json() == {"status": "ok"}
        assert "Atelier" in client.get("/", headers={"accept": "text/html,*/*;q=0.8"}).text
        assert client.get("/v1/predict").status_code == 405  # REST's own, not the page's
        assert client.get("/v1/nothing").headers["content-type"] == "application/problem+json"
        head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        long = (bytes(100_000) if n else head for n in range(1000))
        kind = {"content-type": "multipart/form-data; boundary=x"}
        response = client.post("/gradio_api/upload", content=long, headers=kind)
        assert response.status_code == 413
        assert client.post("/healthz", content=bytes(2_000_000)).status_code == 413


# The process


def test_serves_until_it_is_told_to_stop(models, tmp_path):
    environment = {**os.environ, "PORT": "0", "MODEL_DIR": str(models), "TMPDIR": str(tmp_path)}
    environment.pop("GRADIO_TEMP_DIR", None)
    command = [sys.executable, "-m", "app.main"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stderr.readline()
            assert line.startswith("Atelier is ready: http://127.0.0.1:")
            address = line.split()[-1]
            with urllib.request.urlopen(address + "/healthz", timeout=20) as answer:
                assert json.load(answer) == {"status": "ok"}
            page = urllib.request.Request(address, headers={"Accept": "text/html"})
            with urllib.request.urlopen(page, timeout=60) as answer:  # waits until there is one
                assert b"Atelier" in answer.read()
            (uploads,) = tmp_path.glob("atelier-*")
            assert uploads.stat().st_mode & 0o077 == 0
            maps = Path(f"/proc/{process.pid}/maps")
            if maps.exists():  # page and all, what is loaded is no torch
                assert "torch" not in maps.read_text()
            # A page that is open somewhere listens to this stream, which does not keep the process from ending.
            with urllib.request.urlopen(address + "/gradio_api/heartbeat/visitor", timeout=20):
                process.send_signal(signal.SIGTERM)
                assert process.wait(5) == 0
        finally:
            process.kill()
        assert process.stderr.read() == ""
    assert not list(tmp_path.glob("atelier-*"))


def test_no_torch_in_the_process():
    program = "import app.main, sys; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert run.stdout == "False\n"


@pytest.mark.parametrize("path", sorted((ROOT / "app").rglob("*.py")), ids=lambda path: path.name)
def test_the_app_imports_nothing_of_the_pipeline(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.split(".")[0])
    assert not imported & {"stages", "torch", "torchvision", "dvc", "dvclive", "onnx", "tests"}


def test_without_the_page_gradio_is_not_even_imported(models):
    program = (
        "import sys\nfrom fastapi.testclient import TestClient\n"
        "from app.main import Settings, create_app, _load\n"
        f"folder = __import__('pathlib').Path({str(models)!r})\n"
        "with TestClient(create_app(Settings(model_dir=folder, page=False), _load(folder))) as client:\n"
        "    print(client.get('/', headers={'accept': 'text/html'}).json(), 'gradio' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert run.stdout == "{'status': 'ok'} False\n"


def test_a_page_that_cannot_be_built_ends_the_process(models, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['gradio'] = None")
    environment = {**os.environ, "PORT": "0", "MODEL_DIR": str(models), "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "app.main"]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert "A part of the app cannot be built." in run.stderr


def test_nobody_connects_before_the_server_can_answer():
    with module._bind(Settings(port=0)) as listener, pytest.raises(ConnectionRefusedError):
        socket.create_connection(listener.getsockname(), timeout=5)
