"""A step beside the baseline's: what is measured of it, and what the table says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks import training
from tests.conftest import ROOT, TRAIN, Run


@pytest.mark.slow
def test_every_contestant_is_measured_in_every_round(fresh: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "PICTURES", training.BASELINE_BATCH)
    monkeypatch.setattr(training, "behind", lambda: False)
    monkeypatch.setattr(training, "nothing_to_do", lambda: {"dvc repro": 2.0, "least": 1.5, "dvc --version": 0.5})
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")) | TRAIN
    Path("params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    training.RESULTS.parent.mkdir(parents=True)

    training.main()

    found = json.loads(training.RESULTS.read_text(encoding="utf-8"))
    assert set(found["epoch"]) == set(found["spread"]) == {"baseline", "ours", "reproducible"}
    assert found["epoch"]["baseline"] > found["epoch"]["ours"]
    assert 0 < found["feeding"] < 1


def test_it_does_not_begin_where_dvc_repro_would_train(fresh: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "behind", lambda: True)
    with pytest.raises(SystemExit, match=r"^training: .* here it would train"):
        training.main()


@pytest.mark.slow
def test_a_pipeline_is_behind_until_it_was_run(tmp_path: Path) -> None:
    dvc = [sys.executable, "-m", "dvc"]
    for command in (["git", "init", "--quiet"], [*dvc, "init", "--quiet"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    (tmp_path / "dvc.yaml").write_text("stages: {one: {cmd: git --version, deps: [file]}}\n", encoding="utf-8")
    (tmp_path / "file").touch()
    assert training.behind(tmp_path)
    subprocess.run([*dvc, "repro", "--quiet"], cwd=tmp_path, check=True)
    assert not training.behind(tmp_path)


@pytest.mark.slow
def test_nothing_to_do_takes_longer_than_to_say_the_version(tmp_path: Path) -> None:
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    took = training.nothing_to_do(tmp_path)
    assert took["dvc repro"] > took["dvc --version"] < took["least"]


def test_the_table_says_spread_and_ratio() -> None:
    found = {
        "machine": "a machine",
        "dtype": "float32",
        "rounds": 8,
        "epoch": {"baseline": 500.0, "ours": 50.0, "reproducible": 60.0},
        "spread": {"baseline": 0.1, "ours": 0.2, "reproducible": 0.3},
        "epochs": 20,
        "parameters": 1234,
        "feeding": 0.0123,
        "nothing_to_do": {"dvc repro": 2.0, "least": 1.5, "dvc --version": 0.5},
    }
    assert training.table(found) == [
        "| a machine | median of 8 rounds | their spread | epochs of theirs |",
        "|---|---|---|---|",
        "| an epoch of the course project's ResNet-18, float32 | 500 s | 10% | 1.00 |",
        "| an epoch of ours, 1,234 parameters, float32 | 50 s | 20% | 0.10 |",
        "| training, 20 epochs | 16.7 min | 20% | 2.00 |",
        "| the same with `precision: reproducible` | 20.0 min | 30% | 2.40 |",
        "| pictures and augmentation | 1.2% of a step | | |",
        "| `dvc repro` with nothing to do | 2.0 s | | |",
        "| DVC's least: a stage without outs, nothing to do; `dvc --version` | 1.5 s; 0.5 s | | |",
    ]
