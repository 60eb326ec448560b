"""Checkpoints and their copies: whole or absent, found again on another machine, and never code that runs."""

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from stages import checkpoint
from stages.stage import StageError
from tests.conftest import Run

CPU = torch.device("cpu")
INPUTS = {"data": "abc", "recipe": {"lr": 0.1}}
STATE = {"step": 3, "weights": torch.arange(4.0)}
DAMAGED = [b"", b"PK\x03\x04", b"nonsense" * 100]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a checkpoint belongs; nothing is there yet."""
    return checkpoint.path(INPUTS, tmp_path / "here")


@pytest.fixture(params=["folder", "bucket"])
def target(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """AIP_CHECKPOINT_DIR, as a folder and as what DVC's file systems call a bucket."""
    address = f"{tmp_path}/copies/" if request.param == "folder" else "memory://bucket/checkpoints/run/"
    monkeypatch.setenv(checkpoint.COPY, address)
    MemoryFileSystem.store.clear()
    yield address
    MemoryFileSystem.store.clear()


def there(target: str) -> dict[str, bytes]:
    """What lies in the target, by its name there."""
    if "://" not in target:
        return {f.name: f.read_bytes() for f in Path(target).glob("*")}
    return {path.rpartition("/")[2]: found.getvalue() for path, found in MemoryFileSystem.store.items()}


def put(target: str, name: str, data: bytes) -> None:
    """Leave something in the target, as another machine would have."""
    if "://" in target:
        MemoryFileSystem().pipe_file(target + name, data)
    else:
        Path(target).mkdir(exist_ok=True)
        (Path(target) / name).write_bytes(data)


def step(data: bytes | None) -> Any:
    """The step that a checkpoint was saved in; None if there is none."""
    return None if data is None else checkpoint.parse(data, CPU)["step"]


class Payload:
    """What a stranger would leave in a bucket: a pickle that writes a file where it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


# The file


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_is_said_and_begins_anew(
    content: bytes, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(checkpoint.COPY, raising=False)
    file.parent.mkdir()
    file.write_bytes(content)
    assert checkpoint.find(file) is None
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert f"checkpoint {file} cannot be read" in said
    assert "starting anew" in said


def test_a_file_that_was_cut_short_anywhere_is_damaged(file: Path) -> None:
    checkpoint.save(file, STATE)
    whole = file.read_bytes()
    for length in range(0, len(whole), 37):
        file.write_bytes(whole[:length])
        assert checkpoint.find(file) is None, length


def test_what_was_saved_is_found(file: Path) -> None:
    checkpoint.save(file, STATE)
    data = checkpoint.find(file)
    assert data is not None
    state = checkpoint.parse(data, CPU)
    assert state["step"] == 3
    assert state["weights"].tolist() == [0, 1, 2, 3]
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_other_inputs_have_another_file(tmp_path: Path) -> None:
    assert checkpoint.path(INPUTS, tmp_path) == checkpoint.path(dict(reversed(INPUTS.items())), tmp_path)
    assert checkpoint.path(INPUTS, tmp_path) != checkpoint.path({**INPUTS, "recipe": {"lr": 0.2}}, tmp_path)


# Its copy


def test_a_copy_that_fails_is_said_in_a_line_and_leaves_the_one_before(
    target: str, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.save(file, STATE)
    checkpoint.copy(file)
    before = there(target)
    checkpoint.save(file, {**STATE, "step": 4})

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space\nleft")

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", full)
    checkpoint.copy(file)
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert f"could not be copied to {target}{file.name} (OSError: [Errno 28] No space left); training goes on" in said
    assert there(target)[file.name] == before[file.name]


@pytest.mark.parametrize("place", ["{tmp}/a-file/copies", "nonsense://bucket/run"])
def test_a_target_that_cannot_be_lets_the_training_go_on(
    place: str, fresh: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a-file").write_bytes(b"")
    monkeypatch.setattr(checkpoint, "find", lambda _: None)  # it could be read when the training began
    monkeypatch.setenv(checkpoint.COPY, place.format(tmp=tmp_path))
    fresh.train(epochs=1)
    assert "could not be copied" in capsys.readouterr().out
    assert (fresh.models / "network.pt").exists()


@pytest.mark.parametrize("place", ["{tmp}/copies", "nonsense://bucket/run"])
def test_a_copy_that_cannot_be_reached_stops_before_it_would_be_replaced(
    place: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "copies" / file.name).mkdir(parents=True)  # which no system reads as a file, root or not
    monkeypatch.setenv(checkpoint.COPY, place.format(tmp=tmp_path))
    with pytest.raises(StageError, match=r"cannot be fetched \(.*\): mend the access, or unset AIP_CHECK") as error:
        checkpoint.find(file)
    assert "\n" not in str(error.value)
    assert file.name in str(error.value)


def test_a_bucket_that_refuses_is_said_in_one_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> bytes:
        raise PermissionError("403:\nno storage.objects.get\n" + "and more " * 100)

    monkeypatch.setenv(checkpoint.COPY, "memory://bucket")
    monkeypatch.setattr(MemoryFileSystem, "cat_file", refuse)
    with pytest.raises(StageError, match=r"\(PermissionError: 403: no storage.objects.get and more") as error:
        checkpoint.find(file)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_copy_is_said_and_begins_anew(
    content: bytes, target: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(target, file.name, content)
    assert checkpoint.find(file) is None
    assert f"checkpoint {target}{file.name} cannot be read" in capsys.readouterr().out


@pytest.mark.parametrize("zipped", [True, False], ids=["as torch writes", "as it wrote"])
def test_no_code_is_run_from_a_copy(
    zipped: bool, target: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = tmp_path / "it ran"
    torch.save(Payload(mark), tmp_path / "payload.pt", _use_new_zipfile_serialization=zipped)
    for data in ((tmp_path / "payload.pt").read_bytes(), pickle.dumps(Payload(mark))):
        put(target, file.name, data)
        assert checkpoint.find(file) is None
    assert not mark.exists()
    assert capsys.readouterr().out.count("cannot be read") == 2


def test_no_copy_and_no_file_is_no_checkpoint(target: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checkpoint.find(file) is None
    assert capsys.readouterr().out == ""


def test_a_copy_is_the_file_and_nothing_else_is_left(target: str, file: Path) -> None:
    checkpoint.save(file, STATE)
    checkpoint.copy(file)
    assert there(target) == {file.name: file.read_bytes()}


def test_without_a_target_nothing_is_copied(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(checkpoint.COPY, raising=False)
    checkpoint.save(file, STATE)
    checkpoint.copy(file)
    assert list(file.parent.iterdir()) == [file]


def test_the_file_counts_before_its_copy(target: str, file: Path) -> None:
    checkpoint.save(file, STATE)
    checkpoint.copy(file)
    checkpoint.save(file, {**STATE, "step": 4})
    assert step(checkpoint.find(file)) == 4


@pytest.mark.parametrize("left", [None, b"nonsense"], ids=["gone", "damaged"])
def test_without_a_file_that_can_be_read_the_copy_is_taken(left: bytes | None, target: str, file: Path) -> None:
    checkpoint.save(file, STATE)
    checkpoint.copy(file)
    file.unlink()
    if left:
        file.write_bytes(left)
    assert step(checkpoint.find(file)) == 3


def test_another_machine_goes_on_from_the_copy_and_ends_with_the_same_bytes(
    target: str, run: Run, fresh: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class PowerCutError(Exception):
        pass

    copy = checkpoint.copy

    def cut(file: Path) -> None:
        copy(file)
        file.unlink()  # the machine is gone, and its disk with it
        raise PowerCutError

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "copy", cut)
        with pytest.raises(PowerCutError):
            fresh.train()
    fresh.train()
    assert "going on from epoch 2, step 1" in capsys.readouterr().out
    assert (fresh.models / "network.pt").read_bytes() == (run.models / "network.pt").read_bytes()
