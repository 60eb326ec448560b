"""Where an interrupted training goes on from.

A checkpoint is named after everything its run was made of, so that another run's is never picked up, and it
lies outside the stage's outs, which DVC deletes before a stage runs. Where AIP_CHECKPOINT_DIR names a folder or a
bucket, as Vertex AI does, a copy lies there as well, and another machine goes on from it.
"""

import hashlib
import io
import json
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from stages.stage import StageError, log, write_bytes

FOLDER = Path(".atelier/checkpoints")
COPY = "AIP_CHECKPOINT_DIR"
BROKEN = (RuntimeError, EOFError, KeyError, IndexError, ValueError, pickle.UnpicklingError)


def path(inputs: dict[str, Any], folder: Path = FOLDER) -> Path:
    """The file for a run made of `inputs`: data hash, params, code, library versions, device.

    How many processes and threads share the work, and on which machines, is none of them.
    """
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    return folder / f"train-{key[:32]}.pt"


def save(file: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values, whole or not at all."""
    buffer = io.BytesIO()  # torch.save writes the file's name into the file; a buffer has none
    torch.save(state, buffer)
    write_bytes(file, buffer.getvalue())


def copy(file: Path) -> None:
    """Copy a saved checkpoint to AIP_CHECKPOINT_DIR, whole or not at all. A failure is said, and training goes on."""
    if not (target := os.environ.get(COPY)):
        return
    try:
        if "://" in target:
            _remote(target).pipe_file(_join(target, file), file.read_bytes())  # an object appears when it is complete
        else:
            write_bytes(Path(target) / file.name, file.read_bytes())
    except Exception as error:  # noqa: BLE001 (whatever the store's library raises)
        log(f"the checkpoint could not be copied to {_join(target, file)} ({_line(error)}); training goes on")


def find(file: Path) -> bytes | None:
    """A checkpoint that can be read: the file, else its copy. None if there is none; a damaged one is said.

    Raises:
        StageError: the copy cannot be reached. To begin anew would replace it.
    """
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        data = None
    if data is not None and _readable(data, str(file)):
        return data
    if not (target := os.environ.get(COPY)):
        return None
    name = _join(target, file)
    try:
        data = _remote(target).cat_file(name) if "://" in target else Path(name).read_bytes()
    except FileNotFoundError:
        return None
    except Exception as error:  # noqa: BLE001 (whatever the store's library raises)
        raise StageError(
            f"the checkpoint {name} cannot be fetched ({_line(error)}): mend the access, or unset {COPY} to begin anew"
        ) from None
    return data if _readable(data, name) else None


def parse(data: bytes, device: torch.device) -> dict[str, Any]:
    """What `save` wrote. Only tensors and plain values: a file from elsewhere runs no code."""
    state: dict[str, Any] = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    return state


def _readable(data: bytes, name: str) -> bool:
    try:
        parse(data, torch.device("cpu"))
    except BROKEN as error:
        log(f"checkpoint {name} cannot be read ({type(error).__name__}), starting anew")
        return False
    return True


def _remote(target: str) -> Any:
    import fsspec  # here, since only a bucket needs it

    return fsspec.filesystem(target.partition("://")[0])


def _join(target: str, file: Path) -> str:
    return f"{target.rstrip('/')}/{file.name}"


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
