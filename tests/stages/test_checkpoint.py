from pathlib import Path

import pytest
import torch

from stages import checkpoint

CPU = torch.device("cpu")
INPUTS = {"data": "abc", "recipe": {"lr": 0.1}}


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    file = checkpoint.path(INPUTS, tmp_path)
    checkpoint.save(file, {"step": 3, "weights": torch.arange(4.0)})
    state = checkpoint.load(file, CPU)
    assert state is not None
    assert state["step"] == 3
    assert state["weights"].tolist() == [0, 1, 2, 3]
    assert [p.name for p in tmp_path.iterdir()] == [file.name]


def test_other_inputs_have_another_file(tmp_path: Path) -> None:
    assert checkpoint.path(INPUTS, tmp_path) == checkpoint.path(dict(reversed(INPUTS.items())), tmp_path)
    assert checkpoint.path(INPUTS, tmp_path) != checkpoint.path({**INPUTS, "recipe": {"lr": 0.2}}, tmp_path)
    assert checkpoint.load(checkpoint.path(INPUTS, tmp_path), CPU) is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"nonsense" * 100])
def test_a_damaged_file_is_said_and_begins_anew(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train-x.pt").write_bytes(content)
    assert checkpoint.load(tmp_path / "train-x.pt", CPU) is None
    assert "starting anew" in capsys.readouterr().out
