"""The pipeline under real DVC, on a few hundred sketches."""

import json
from pathlib import Path

import pytest

from app.classifier import Classifier
from tests.project import Project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Run once; each test leaves it as it found it."""
    project = Project(tmp_path_factory.mktemp("project"))
    project.dvc("repro")
    return project


def stale(project: Project) -> set[str]:
    return set(json.loads(project.dvc("status", "--json")))


@pytest.mark.parametrize("changes", [{"lr": "fast"}, {"epochs": 0}, {"dataset": "cifar"}])
def test_a_wrong_param_ends_the_stage_in_one_line(project: Project, changes: dict[str, object]) -> None:
    before = (project.folder / "params.yaml").read_text()
    project.set(**changes)
    key, value = next(iter(changes.items()))
    said = project.run("stages.train", ok=False)
    (project.folder / "params.yaml").write_text(before)
    assert len(said.splitlines()) == 1
    assert f"{key}: {value!r} is not allowed" in said


def test_again_there_is_nothing_to_do(project: Project) -> None:
    assert "Data and pipelines are up to date" in project.dvc("repro")


def test_a_stage_depends_on_what_it_reads_and_on_nothing_else(project: Project) -> None:
    before = (project.folder / "params.yaml").read_text()
    for changes, expected in (
        ({"coverage": 0.9}, {"evaluate"}),
        ({"min_accuracy": 0.2}, {"export"}),
        ({"lr": 0.001}, {"train"}),
        ({"val_fraction": 0.3}, {"prepare"}),
    ):
        project.set(**changes)
        assert stale(project) == expected
        (project.folder / "params.yaml").write_text(before)
    assert stale(project) == set()


def test_a_picture_added_is_seen(project: Project) -> None:
    added = project.folder / "data/pictures/hat.png"
    added.write_bytes(b"a picture")
    assert stale(project) == {"prepare"}
    added.unlink()
    assert stale(project) == set()


def test_metrics_and_plots_are_shown(project: Project) -> None:
    metrics = json.loads(project.dvc("metrics", "show", "--json"))[""]["data"]
    assert set(metrics) == {
        f"reports/{part}/metrics.json" for part in ("training", "evaluation", "robustness", "export")
    }
    assert metrics["reports/export/metrics.json"]["data"]["proof"]["other_top_class"] == 0
    project.dvc("plots", "show", "--out", ".plots")
    page = (project.folder / ".plots/index.html").read_text(encoding="utf-8")
    for title in (
        "Loss by epoch",
        "Accuracy by epoch",
        "Confusion matrix",
        "Reliability",
        "Accuracy on corrupted pictures",
        "mistakes.png",
    ):
        assert title in page


def test_only_the_lock_is_left_to_commit(project: Project) -> None:
    changed = [line.split()[-1] for line in project.git("status", "--porcelain").splitlines()]
    assert set(changed) <= {"dvc.lock", ".plots/"}


def test_another_folder_makes_the_same_bytes(project: Project, tmp_path: Path) -> None:
    other = Project(tmp_path / "other")
    other.dvc("repro")
    assert other.hashes() == project.hashes()


def test_the_exported_model_is_the_one_the_app_takes(project: Project) -> None:
    assert len(Classifier.from_directory(project.folder / "models").class_names) == 10
