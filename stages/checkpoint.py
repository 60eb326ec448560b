"""Where an interrupted training goes on from.

A checkpoint is named after everything its run was made of, so that another run's is never picked up, and it
lies outside the stage's outs, which DVC deletes before a stage runs.
"""

import hashlib
import io
import json
import pickle
from pathlib import Path
from typing import Any

import torch

from stages.stage import log, write_bytes

FOLDER = Path(".atelier/checkpoints")


def path(inputs: dict[str, Any], folder: Path = FOLDER) -> Path:
    """The file for a run made of `inputs`: data hash, params, code, library versions, device, threads."""
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    return folder / f"train-{key[:32]}.pt"


def save(file: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values, whole or not at all."""
    buffer = io.BytesIO()  # torch.save writes the file's name into the file; a buffer has none
    torch.save(state, buffer)
    write_bytes(file, buffer.getvalue())


def load(file: Path, device: torch.device) -> dict[str, Any] | None:
    """What `save` wrote; None if there is nothing, or it cannot be read, which is said and begins anew."""
    try:
        state: dict[str, Any] = torch.load(file, map_location=device, weights_only=True)
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        log(f"checkpoint {file} cannot be read ({type(error).__name__}), starting anew")
        return None
    return state
