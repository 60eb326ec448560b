import subprocess
from pathlib import Path

import pytest

from stages.curves import record_curves, record_speed
from stages.stage import StageError, read_json
from tests.conftest import TRAIN, Run

HISTORY = [{"train/loss": 2.0 / epoch, "val/loss": 3.0 / epoch, "lr": 0.1 * epoch} for epoch in (1, 2, 3)]


def files(folder: Path) -> dict[str, bytes]:
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def column(file: Path) -> list[tuple[int, float]]:
    """The steps and values of a table that dvclive wrote."""
    lines = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()[1:]]
    return [(int(step), float(value)) for step, value in lines]


def test_a_repository_without_a_commit_is_said_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "--quiet"], check=True)
    with pytest.raises(StageError, match="commit once, then run again") as error:
        record_curves(tmp_path / "curves", HISTORY)
    assert "\n" not in str(error.value)


def test_no_repository_is_needed_and_dvc_yaml_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record_curves(tmp_path / "curves", HISTORY)
    record_speed(tmp_path / "speed", 0, 700)
    assert {path.name for path in tmp_path.iterdir()} == {"curves", "speed"}
    assert {Path(name).suffix for name in files(tmp_path)} == {".json", ".tsv"}


def test_curves_of_an_interrupted_run_are_those_of_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for epochs in (0, 1, 2, 3):
        record_curves(tmp_path / "stopped", HISTORY[:epochs])
    record_curves(tmp_path / "straight", HISTORY)
    assert files(tmp_path / "stopped") == files(tmp_path / "straight")
    assert column(tmp_path / "straight/plots/metrics/val/loss.tsv") == [(0, 3.0), (1, 1.5), (2, 1.0)]


def test_another_run_begins_with_no_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record_curves(tmp_path / "curves", HISTORY)
    record_curves(tmp_path / "curves", [])
    assert not list((tmp_path / "curves").rglob("*.tsv"))


def test_speed_is_appended_and_begins_anew_with_the_first_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = tmp_path / "speed/plots/metrics/pictures_per_second.tsv"
    record_speed(tmp_path / "speed", 0, 700)
    record_speed(tmp_path / "speed", 2, 800)  # the epoch between was another process's
    assert column(table) == [(0, 700), (2, 800)]
    record_speed(tmp_path / "speed", 0, 900)
    assert column(table) == [(0, 900)]


def test_a_training_leaves_a_row_for_each_epoch(run: Run) -> None:
    assert set(read_json(run.reports / "training/metrics.json")) >= {"train", "val", "lr"}
    for name in ("training/plots/metrics/val/accuracy.tsv", "speed/plots/metrics/pictures_per_second.tsv"):
        assert [step for step, _ in column(run.reports / name)] == list(range(TRAIN["epochs"]))
