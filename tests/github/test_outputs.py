"""What a task tells the steps after it."""

from pathlib import Path

import pytest

from deploy.outputs import tell


def test_nobody_listens_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_OUTPUT", raising=False)
    tell(run="1")
    assert list(tmp_path.iterdir()) == []


def test_each_tells_after_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "output"
    file.write_text("earlier=1\n")
    monkeypatch.setenv("GITHUB_OUTPUT", str(file))
    tell(behind="true", run="atelier-1")
    tell(more="x=y")
    assert file.read_text() == "earlier=1\nbehind=true\nrun=atelier-1\nmore=x=y\n"


def test_a_value_cannot_set_another_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    with pytest.raises(AssertionError):
        tell(run="1\nbehind=false")
    assert not (tmp_path / "output").exists()
