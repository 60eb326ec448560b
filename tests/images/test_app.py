"""The app's image: what is in it, and that it serves with few rights, one processor and a gigabyte."""

import base64
import json
import socket
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy import smoke
from deploy.repository import served_sha256
from tests.images.conftest import COMMIT, SECRET, Built, Source
from tests.images.engine import HARDENED, Container, Engine

pytestmark = [pytest.mark.images, pytest.mark.timeout(1800)]

CLOUD_RUN = ("--memory=1g", "--cpus=1", "--env=HOST=127.0.0.1")
ROOM = 450  # MB, unpacked
FIRST = 3.0  # seconds from the container's start to its first answer
STARTS = 3  # a busy machine makes a start late, never early: the fastest counts


@dataclass(frozen=True)
class App:
    """A container that serves."""

    container: Container
    address: str


def started(container: Container, port: int) -> App:
    return App(container, f"http://127.0.0.1:{port}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def app(engine: Engine, app_image: Built) -> Iterator[App]:
    port = free_port()
    options = (*CLOUD_RUN, f"--env=PORT={port}", "--health-interval=1s")
    with engine.container(app_image.name, options=options) as container:
        yield started(container, port)


@pytest.fixture(scope="module")
def files(engine: Engine, app_image: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engine.files(app_image.name, tmp_path_factory.mktemp("files"))


# What must not be


def test_another_model_than_was_meant_is_not_built(engine: Engine, app_image: Built, source: Source) -> None:
    done = source.build(engine, "app", "0" * 64)
    assert done.status != 0
    assert "model.int8.onnx: FAILED" in done.said or "model.onnx: FAILED" in done.said
    assert engine.inspect(app_image.name)["Config"]["Labels"]["atelier.model.sha256"] == served_sha256(source.models)


def test_a_missing_model_ends_it_with_a_line(engine: Engine, app_image: Built) -> None:
    done = engine.run("run", "--rm", *HARDENED, *CLOUD_RUN, "--env=MODEL_DIR=/nowhere", app_image.name)
    assert done.status == 1
    (line,) = done.said.strip().splitlines()
    assert line.startswith("atelier: ")
    assert "/nowhere" in line


def test_nothing_is_in_it_that_serving_does_not_need(files: Path) -> None:
    with tarfile.open(files) as archive:
        names = {Path("/", member.name).as_posix() for member in archive if not member.isdir()}
    programs = {Path(name).name for name in names if Path(name).parent.name in ("bin", "sbin")}
    assert "python3.11" in programs
    assert not programs & {"pip", "pip3", "uv", "gcc", "cc", "ld", "make", "git", "curl", "wget"}
    libraries = {
        name.partition("-packages/")[2].partition("/")[0].partition("-")[0] for name in names if "-packages/" in name
    }
    assert {"onnxruntime", "gradio", "PIL"} <= libraries
    assert not libraries & {"torch", "torchvision", "dvc", "pip", "setuptools", "wheel", "pytest", "onnx"}
    ours = {name.removeprefix("/srv/atelier/").partition("/")[0] for name in names if name.startswith("/srv/")}
    assert ours == {"app", "models"}
    models = {Path(name).suffix: name for name in sorted(names) if name.startswith("/srv/atelier/models/")}
    assert models.keys() == {".onnx", ".json", ".png", ".md"}
    assert sum(name.startswith("/srv/") and name.endswith(".onnx") for name in names) == 1


def test_nothing_secret_is_in_it(engine: Engine, app_image: Built, files: Path) -> None:
    held = files.read_bytes()
    assert b"project_version" in held  # of the model: the archive is not compressed
    assert SECRET.encode() not in held
    assert SECRET not in engine("history", "--no-trunc", app_image.name)


def test_nobody_can_change_what_it_runs(app: App) -> None:
    engine, name = app.container.engine, app.container.name
    who = "import os; print(os.getuid(), os.getgid(), os.access('app', os.W_OK), os.access('/opt/atelier', os.W_OK))"
    assert engine("exec", name, "python", "-c", who).split() == ["10001", "10001", "False", "False"]


# What must be


def test_it_is_small(app_image: Built) -> None:
    assert app_image.size <= ROOM


def test_it_says_what_it_is(engine: Engine, app_image: Built, source: Source) -> None:
    labels = engine.inspect(app_image.name)["Config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == COMMIT
    assert labels["org.opencontainers.image.licenses"] == "MIT"
    assert labels["org.opencontainers.image.title"] == "Atelier"
    assert labels["atelier.model.sha256"] == served_sha256(source.models)


def test_the_first_answer_comes_soon(engine: Engine, app_image: Built, source: Source) -> None:
    picture = smoke.expected(source.models)[1][0][0]
    took = []
    for _ in range(STARTS):
        port = free_port()
        with engine.container(app_image.name, options=(*CLOUD_RUN, f"--env=PORT={port}")) as container:
            address, end = f"http://127.0.0.1:{port}", time.monotonic() + 60
            while (answer := smoke.ask(f"{address}/v1/predict", picture)).status != 200:
                assert time.monotonic() < end, (answer, container.logs())
                time.sleep(0.02)
            took.append(time.time() - container.started)
        if min(took) <= FIRST:
            break
    print(f"\nfirst prediction after {min(took):.2f} s with 1 CPU")
    assert min(took) <= FIRST


def test_it_is_what_a_deployment_looks_for(app: App, source: Source) -> None:
    smoke.check(app.address, source.models)


def test_the_page_shows_the_mistakes_and_the_samples(app: App, source: Source) -> None:
    request = urllib.request.Request(f"{app.address}/", headers={"Accept": "text/html"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert b"gradio" in answer.read()
    print(f"\npage after {time.time() - app.container.started:.1f} s")
    with urllib.request.urlopen(f"{app.address}/config", timeout=60) as answer:
        shown = json.dumps(json.load(answer))
    mistakes = base64.b64encode((source.models / "mistakes.png").read_bytes()).decode()
    assert mistakes in shown
    samples = sorted((source.models / "samples/test").glob("*.png"))
    assert samples
    assert all(base64.b64encode(file.read_bytes()).decode() in shown for file in samples)


def test_it_is_found_healthy_and_ends_well(app: App, source: Source) -> None:
    smoke.check(app.address, source.models)
    end = time.monotonic() + 60
    while (health := app.container.state["Health"])["Status"] != "healthy":
        assert time.monotonic() < end, health
        time.sleep(0.2)
    memory = app.container.engine("stats", "--no-stream", "--format={{.MemUsage}}", app.container.name).strip()
    print(f"\nmemory with the page built: {memory}")
    began = time.monotonic()
    assert app.container.stop() == 0, app.container.logs()
    print(f"docker stop took {time.monotonic() - began:.1f} s")
    assert not app.container.state["OOMKilled"]
