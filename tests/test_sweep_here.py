"""A grid on this machine. Real DVC runs one in test_experiments.py; here stand what it must bear."""

import sys
from pathlib import Path

import pytest

from deploy import sweep_here
from deploy.gcloud import CloudError


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No experiments of this repository are looked at or removed."""
    monkeypatch.setattr(sweep_here, "forget", lambda names: None)
    monkeypatch.setattr(sweep_here, "WAIT", 0.01)


def test_fewer_than_no_job_is_refused() -> None:
    with pytest.raises(CloudError, match="--jobs -1: a whole number"):
        sweep_here.share(24, -1, 2, False)


@pytest.mark.parametrize(
    ("points", "jobs", "cores", "gpu", "shared"),
    [
        (24, 0, 2, False, (2, 1)),
        (24, 0, 2, True, (1, 2)),  # one GPU is not shared unless asked
        (24, 3, 8, True, (3, 2)),
        (2, 0, 16, False, (2, 8)),
        (24, 4, 2, False, (4, 1)),
    ],
)
def test_the_points_share_the_cores(points: int, jobs: int, cores: int, gpu: bool, shared: tuple[int, int]) -> None:
    assert sweep_here.share(points, jobs, cores, gpu) == shared


def test_a_point_that_fails_is_named_and_stops_no_other() -> None:
    said: list[str] = []
    commands = {"a": python("print('went')"), "b": python("raise SystemExit('broken')"), "c": python("print('went')")}
    assert sweep_here.sweep(commands, 2, 1, {}, said.append) == ["b"]
    assert "b: broken" in said
    assert {"a: went", "c: went"} <= set(said)


def test_points_together_have_their_share_of_threads_and_one_alone_has_all() -> None:
    said: list[str] = []
    show = python("import os; print(os.environ.get('OMP_NUM_THREADS'))")
    sweep_here.sweep({"a": show, "b": show}, 2, 3, {"OMP_NUM_THREADS": "8"}, said.append)
    sweep_here.sweep({"c": show}, 1, 3, {"OMP_NUM_THREADS": "8"}, said.append)
    assert {"a: 3", "b: 3", "c: 8"} <= set(said)


def test_a_point_waits_while_the_lock_is_anothers(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; file = pathlib.Path(sys.argv[1]); file.write_text(file.read_text() + '.' if file.exists()"
        f" else '.')\nif len(file.read_text()) < 3: sys.exit('ERROR: {sweep_here.LOCKED}.')\nprint('went')"
    )
    said: list[str] = []
    assert sweep_here.sweep({"a": python(code, str(tmp_path / "tries"))}, 1, 1, {}, said.append) == []
    assert (tmp_path / "tries").read_text() == "..."
    assert not any(sweep_here.LOCKED in line for line in said)


def test_a_lock_that_never_comes_free_ends_the_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_here, "TRIES", 2)
    said: list[str] = []
    assert sweep_here.sweep({"a": python(f"raise SystemExit('{sweep_here.LOCKED}')")}, 1, 1, {}, said.append) == ["a"]
    assert any("is another `dvc` at work" in line for line in said)
