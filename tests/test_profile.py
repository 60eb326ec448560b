"""invoke profile: what it finds in a real training."""

from pathlib import Path

import pytest

from benchmarks import overhead, profile, seeds, training
from stages import params
from tests.conftest import ROOT, TRAIN, Run


def test_every_part_of_a_step_is_in_the_table(run: Run) -> None:
    found = profile.measure(run.prepared, 3, **TRAIN)
    parts, operators = profile.rows(found)
    assert {name for name, _ in parts} == {part for *_, part in profile.PARTS}
    assert all(milliseconds > 0 for _, milliseconds in parts)
    assert any("convolution" in name for name, _ in operators)


@pytest.mark.parametrize("module", [overhead, profile, seeds, training])
def test_without_pictures_it_says_what_to_type(module: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="data/prepared is missing: run `uv run dvc repro"):
        module.main()  # type: ignore[attr-defined]


def test_what_surrounds_the_steps_is_timed_in_a_real_training(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhead, "PREPARED", run.prepared)
    monkeypatch.setattr(overhead, "STARTS", 1)
    values = params.load(ROOT / "params.yaml").model_dump() | TRAIN
    found = overhead.measure(values)
    assert found["first_step"] > 0
    assert found["import_torch"] > 0
    assert 0 < found["around"] < 1
