"""Experiments, sweeps and the demo: the commands of the README, as they stand there, with real DVC."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from app.classifier import Classifier
from app.pictures import decode, to_model_input
from tests.project import ENVIRONMENT, Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def experiments(project: Project) -> dict[str, dict[str, object]]:
    """Name -> params of every experiment there is."""
    table = json.loads(project.dvc("exp", "show", "--json"))
    found = {}
    for baseline in table:
        for experiment in baseline.get("experiments") or []:
            revision = experiment["revs"][0]
            found[revision["name"]] = revision["data"]["params"]["params.yaml"]["data"]
    return found


def test_exp_run_takes_a_bare_exponent(project: Project) -> None:
    project.dvc("exp", "run", "-S", "lr=1e-3")
    assert "lr: 0.001" in (project.folder / "params.yaml").read_text()


def test_a_queue_runs_to_its_end(project: Project) -> None:
    project.dvc("exp", "run", "--queue", "-S", "lr=0.003,0.01", "-S", "batch_size=40,80", "-S", "epochs=1")
    project.dvc("exp", "run", "--run-all")
    points = {(p["lr"], p["batch_size"]) for p in experiments(project).values()}
    assert points == {(0.003, 40), (0.003, 80), (0.01, 40), (0.01, 80)}


def test_a_sweep_goes_on_after_a_failed_point_and_prints_the_table(project: Project) -> None:
    said = project.run("invoke", "sweep", "--grid", "lr=fast,0.003", "--grid", "epochs=1", ok=False)
    assert "1 of 2 points failed: lrfast-epochs1" in said
    assert "lr: 'fast' is not allowed" in said
    assert set(experiments(project)) == {"lr0.003-epochs1"}
    assert said.count("lr0.003-epochs1") >= 2  # announced, and in the table
    assert "dvc.lock" not in project.git("status", "--porcelain")


def test_a_sweep_takes_pictures_along_that_git_does_not_know(project: Project) -> None:
    rng = np.random.default_rng(0)
    for number in range(60):
        kind = ("cross", "disc")[number % 2]
        (project.folder / "data/pictures" / kind).mkdir(exist_ok=True)
        draw(kind, rng).save(project.folder / "data/pictures" / kind / f"{number}.png")
    project.run("invoke", "sweep", "--grid", "dataset=image-folder", "--grid", "epochs=1", "--grid", "batch_size=8")
    assert len(experiments(project)) == 1


def test_a_sweep_without_a_grid_shows_how(project: Project) -> None:
    assert "--grid 'lr=0.003,0.01'" in project.run("invoke", "sweep", ok=False)


def test_the_demo_leaves_other_work_alone_and_can_be_run_twice(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = {**ENVIRONMENT, "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1", "XDG_CONFIG_HOME": str(tmp_path)}
    monkeypatch.setattr("tests.project.ENVIRONMENT", nobody)  # git knows no name to commit under
    project.set(lr=0.004)  # in the middle of something
    (project.folder / "notes.txt").write_text("mine")
    before = (project.folder / "params.yaml").read_text()
    status = project.git("status", "--porcelain")
    for _ in range(2):
        said = project.run("invoke", "demo", "--no-serve")
        assert "uv run dvc repro" in said
        assert project.git("status", "--porcelain") == status
        assert (project.folder / "params.yaml").read_text() == before
        assert not (project.folder / "models/model.onnx").exists()
    classifier = Classifier.from_directory(project.folder / "demo/models")
    assert classifier.metadata["dataset"] == "sketches"
    assert classifier.metadata["metrics"]["accuracy"] > 0.7


def draw(kind: str, rng: np.random.Generator) -> Image.Image:
    """A dark coloured shape on a light ground, of any size."""
    width, height = (int(n) for n in rng.integers(40, 160, 2))
    image = Image.new("RGB", (width, height), tuple(int(c) for c in rng.integers(225, 256, 3)))
    pen, ink = ImageDraw.Draw(image), tuple(int(c) for c in rng.integers(0, 110, 3))
    x, y, r = width / 2, height / 2, min(width, height) * rng.uniform(0.25, 0.4)
    if kind == "disc":
        pen.ellipse((x - r, y - r, x + r, y + r), ink)
    elif kind == "cross":
        pen.rectangle((x - r, y - r / 4, x + r, y + r / 4), ink)
        pen.rectangle((x - r / 4, y - r, x + r / 4, y + r), ink)
    else:
        pen.polygon([(x, y - r), (x + r, y + r), (x - r, y + r)], ink)
    return image


def test_a_users_own_pictures_go_from_folder_to_page_with_no_code_touched(project: Project) -> None:
    rng = np.random.default_rng(0)
    kinds = ("cross", "disc", "tent & co")
    for number in range(180):
        kind = kinds[number % 3]
        folder = project.folder / "data/pictures" / kind
        folder.mkdir(exist_ok=True)
        draw(kind, rng).save(folder / f"{number}.{('png', 'jpg', 'webp')[number % 4 % 3]}")
    project.set(dataset="image-folder", epochs=12, batch_size=24, min_accuracy=0.8)
    project.dvc("repro")

    classifier = Classifier.from_directory(project.folder / "models")
    assert classifier.class_names == kinds
    new = [draw(kinds[k % 3], rng) for k in range(30)]
    pictures = np.stack([to_model_input(image, classifier.image_size) for image in new])
    top = classifier.predict(pictures).probabilities.argmax(1)
    assert (top == np.arange(30) % 3).mean() >= 0.9

    (project.folder / "data/pictures/disc/new.png").write_bytes(
        (project.folder / "data/pictures/disc/1.jpg").read_bytes()
    )
    assert "prepare" in json.loads(project.dvc("status", "--json"))

    from gradio_client import Client, handle_file

    sample = sorted((project.folder / "models/samples/test").glob("*-disc.png"))[0]
    assert decode(sample.read_bytes()).size == (28, 28)
    environment = {**ENVIRONMENT, "PORT": "0"}
    with subprocess.Popen(
        [sys.executable, "-m", "app.main"], cwd=project.folder, env=environment, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            line = server.stderr.readline()  # type: ignore[union-attr]
            assert "ready" in line
            answer = Client(line.split()[-1], verbose=False).predict(handle_file(str(sample)), api_name="/classify")
            assert answer[0]["label"] == "disc"
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(20)
