"""What every stage shares: errors for people, files that are whole or absent, hashes."""

import contextlib
import csv
import hashlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any


class StageError(Exception):
    """Something the user can mend. The message is what they read: what is wrong, where, what to do."""


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main()`; a StageError becomes its message on stderr and exit status 1, no traceback."""
    try:
        main()
    except StageError as error:
        sys.exit(f"{Path(sys.argv[0]).stem}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def log(message: str) -> None:
    """One line for the person who watches, at once (DVC pipes the output, which would buffer it)."""
    print(message, flush=True)


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a scratch folder that becomes `folder` when the block ends, and vanishes if it fails.

    An earlier `folder` is replaced. A killed process leaves at most the scratch folder, which the next run
    removes.
    """
    scratch = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
        shutil.rmtree(folder, ignore_errors=True)
        scratch.replace(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.part")
    with scratch.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with LF line ends on every system, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON that reads well in a diff, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows under a header, LF line ends."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_json(path: Path) -> Any:
    """Read what an earlier stage wrote."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StageError(f"{path.as_posix()} is missing: run the stages in order, with `uv run dvc repro`") from None


def sha256(*paths: Path) -> str:
    """Hex digest of the files' bytes, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
