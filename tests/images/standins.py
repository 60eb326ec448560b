"""Stand-ins for the images that the dockerfiles begin with, for no registry may be in reach.

The base is Debian bookworm by debootstrap, with Debian's CPython 3.11 moved to where the real image has its own. The
other holds the uv binary from uv's wheel. What cannot be shown with them is what the real ones contain.
"""

import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import ROOT
from tests.images.engine import PATH, Engine, UnavailableError, last

BASE = "docker.io/library/python:3.11-slim-bookworm"
SEARCH = "PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
PYTHON = "python3.11"
NOT_IN_SLIM = ("test", "tests", "idle_test", "__pycache__")
BUNDLES = (os.environ.get("SSL_CERT_FILE", ""), ssl.get_default_verify_paths().cafile or "")


def provide(engine: Engine, scratch: Path) -> None:
    """Make the stand-ins that the engine does not have yet.

    Raises:
        UnavailableError: what they are made from cannot be had.
    """
    if engine.run("image", "inspect", BASE).status:
        give(engine, base(scratch / "base"), BASE, f"ENV {SEARCH}", 'CMD ["python3"]')
    if engine.run("image", "inspect", uv_image()).status:
        version = uv_image().rpartition(":")[2]
        install(f"uv=={version}", scratch / "wheel")
        (scratch / "uv").mkdir()
        shutil.copy(scratch / "wheel/bin/uv", scratch / "uv/uv")
        give(engine, scratch / "uv", uv_image())


def uv_image() -> str:
    """The name by which the dockerfiles know uv's image: one for both."""
    found = {
        name
        for file in (ROOT / "dockerfiles").glob("*.dockerfile")
        for name in re.findall(r"^FROM (\S+) AS uv$", file.read_text(), re.MULTILINE)
    }
    (name,) = found
    return name


def give(engine: Engine, folder: Path, name: str, *changes: str) -> None:
    """A folder becomes an image of one layer."""
    archive = folder.with_suffix(".tar")
    subprocess.run(["tar", "-C", str(folder), "-cf", str(archive), "."], check=True)
    shutil.rmtree(folder)
    engine("import", *(f"--change={change}" for change in changes), str(archive), name)
    archive.unlink()


def base(root: Path) -> Path:
    """The root file system of the base image."""
    include = f"--include=ca-certificates,netbase,tzdata,{PYTHON}"
    must([shutil.which("debootstrap", path=PATH) or "debootstrap", "--variant=minbase", include, "bookworm", str(root)])
    local = root / "usr/local"
    shutil.move(root / "usr/bin" / PYTHON, local / "bin" / PYTHON)
    # Some versions of Debian's package have a folder there for what is installed by hand: it would be moved into that.
    shutil.rmtree(local / "lib" / PYTHON, ignore_errors=True)
    shutil.move(root / "usr/lib" / PYTHON, local / "lib" / PYTHON)
    for name in ("python3", "python"):
        (local / "bin" / name).symlink_to(PYTHON)
    for folder in sorted((local / "lib" / PYTHON).rglob("*"), reverse=True):
        if folder.name in NOT_IN_SLIM and folder.is_dir():
            shutil.rmtree(folder)
    install("pip", local / "lib" / PYTHON / "site-packages")
    shutil.copy(local / "lib" / PYTHON / "site-packages/bin/pip", local / "bin/pip")
    for rest in (root / "var/cache/apt", root / "var/lib/apt/lists"):
        shutil.rmtree(rest, ignore_errors=True)
    # What this machine trusts, so that packages can be fetched in there as they are out here.
    if bundle := next((file for file in BUNDLES if Path(file).is_file()), ""):
        shutil.copy(bundle, root / "etc/ssl/certs/ca-certificates.crt")
    (root / "etc/uv").mkdir()
    (root / "etc/uv/uv.toml").write_text("system-certs = true\n")
    return root


def install(requirement: str, folder: Path) -> None:
    """Install one package, and nothing that it wants, into a folder."""
    uv = os.environ.get("UV") or shutil.which("uv")  # `uv run` names itself
    if not uv:
        raise UnavailableError("uv is not on the PATH")
    folder.parent.mkdir(parents=True, exist_ok=True)
    words = [uv, "pip", "install", "--quiet", "--no-deps", f"--python={sys.executable}", f"--target={folder}"]
    must([*words, requirement], folder.parent)


def must(words: Sequence[str], where: Path | None = None) -> None:
    """Run a command that fetches something.

    Raises:
        UnavailableError: it failed, and its last line.
    """
    done = subprocess.run(
        words,
        cwd=where,
        env={**os.environ, "PATH": PATH},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UnavailableError(f"{Path(words[0]).name} failed: {last(done.stdout)}")
