"""`invoke in-step`: what it tells people and the next steps. tests/cloud/test_lock.py has what counts."""

from pathlib import Path

import pytest
from invoke.exceptions import Exit

from deploy import github_tasks
from tests.github.conftest import Small


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where GitHub listens."""
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    return tmp_path / "output"


def test_a_pipeline_that_dvc_cannot_read_is_neither(small: Small, output: Path) -> None:
    (small.folder / "dvc.yaml").write_text("stages: [")
    with pytest.raises(Exit, match=r"^dvc status failed: ") as error:
        github_tasks.in_step.body(None)
    assert error.value.code == 1
    assert not output.exists()


def test_in_step(small: Small, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    github_tasks.in_step.body(None, pictures=True)
    assert capsys.readouterr().out == "dvc.lock is in step\n"
    assert output.read_text() == "behind=false\n"


def test_behind_and_why(small: Small, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small.set(accuracy=0.8)
    github_tasks.in_step.body(None)
    assert capsys.readouterr().out.splitlines() == [
        "dvc.lock is behind:",
        "  evaluate: params.yaml: accuracy modified",
    ]
    assert output.read_text() == "behind=true\n"


def test_pictures_count_where_asked(small: Small, output: Path) -> None:
    (small.folder / "data/pictures/two.txt").write_text("two")
    github_tasks.in_step.body(None)
    github_tasks.in_step.body(None, pictures=True)
    assert output.read_text() == "behind=false\nbehind=true\n"
