"""Pictures that come from elsewhere: what `.dvc` files name, brought here."""

import subprocess
import sys
from pathlib import Path

import yaml

from deploy.gcloud import Argv, CloudError


def files(folder: Path = Path()) -> list[Path]:
    """The `.dvc` files that git tracks, relative to the folder."""
    done = subprocess.run(["git", "ls-files", "-z", "*.dvc"], cwd=folder, capture_output=True, text=True, check=True)
    return [Path(name) for name in done.stdout.split("\0") if name]


def command(file: Path, newest: bool) -> Argv:
    """What brings the pictures of a `.dvc` file here.

    Args:
        newest: of those imported from an address (`dvc import-url gs://…`) take what is there now, and not what was
            there when the file was written. Others are as they were added.
    """
    imported = "deps" in (yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    return (sys.executable, "-m", "dvc", "update" if newest and imported else "pull", file.as_posix())


def fetch(newest: bool = False) -> list[str]:
    """Bring the pictures of all `.dvc` files here; return the files that changed by it.

    Raises:
        CloudError: why not.
    """
    changed = []
    for file in files():
        before = file.read_bytes()
        done = subprocess.run(command(file, newest), stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            # After warnings, and over several lines.
            said = " ".join(done.stderr.rpartition("ERROR: ")[2].split()) or "it said nothing"
            raise CloudError(f"{file.as_posix()}: its pictures could not be had: {said[:300]}")
        if file.read_bytes() != before:
            changed.append(file.as_posix())
    return changed
