"""A container engine of the tests' own: Debian's dockerd with folders, socket and network that are nobody else's."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

# Layers take minutes to make, so they are kept for the next run.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "atelier-images"
PACKAGES = {"dockerd": "docker.io", "debootstrap": "debootstrap"}
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
PATIENCE = 60  # seconds for the daemon to come and to go
# What the images promise to do with: nothing of the container can be written but /tmp, and no right is above a user's.
HARDENED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=host")


class UnavailableError(Exception):
    """There is no engine on this machine; the message says why."""


@dataclass(frozen=True)
class Done:
    """A command that has ended, and all that it said."""

    status: int
    said: str


@dataclass(frozen=True)
class Engine:
    """docker's client, and what tells it which daemon to talk to."""

    client: str
    environment: dict[str, str]

    def run(self, *words: str, given: bytes | None = None) -> Done:
        """Run a docker command, whatever comes of it."""
        done = subprocess.run(
            [self.client, *words],
            env=self.environment,
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(errors="replace"))

    def __call__(self, *words: str, given: bytes | None = None) -> str:
        """Run a docker command that has to succeed; all that it says."""
        done = self.run(*words, given=given)
        assert done.status == 0, f"docker {' '.join(words)}:\n{done.said[-4000:]}"
        return done.said

    def inspect(self, what: str) -> Any:
        """All that docker knows of an image or a container."""
        return json.loads(self("inspect", what))[0]

    def files(self, image: str, folder: Path) -> Path:
        """The image's files, as a tar file in a folder."""
        created = self("create", image).strip()
        try:
            self("export", f"--output={folder / 'files.tar'}", created)
        finally:
            self("rm", created)
        return folder / "files.tar"

    @contextlib.contextmanager
    def container(self, image: str, *words: str, options: Sequence[str] = ()) -> Iterator["Container"]:
        """A hardened container that runs in the background, until the block ends."""
        started = self("run", "--detach", *HARDENED, *options, image, *words)
        container = Container(self, started.split()[-1])  # before it, docker may warn
        try:
            yield container
        finally:
            self("rm", "--force", "--volumes", container.name)


@dataclass(frozen=True)
class Container:
    """A container that was started."""

    engine: Engine
    name: str

    @property
    def state(self) -> dict[str, Any]:
        return dict(self.engine.inspect(self.name)["State"])

    @property
    def started(self) -> float:
        """When it was, in seconds as time.time() counts them."""
        # Python before 3.13 reads microseconds and not docker's nanoseconds.
        return datetime.fromisoformat(self.state["StartedAt"][:26].rstrip("Z") + "+00:00").timestamp()

    def logs(self) -> str:
        return self.engine("logs", self.name)

    def wait(self) -> int:
        """The status that it ends with."""
        return int(self.engine("wait", self.name).split()[-1])

    def stop(self, seconds: int = 20) -> int:
        """Send SIGTERM, and SIGKILL after some time; the status that it ends with."""
        self.engine("stop", f"--time={seconds}", self.name)
        return int(self.state["ExitCode"])


def await_(what: str, container: Container, seen: str, seconds: float) -> None:
    """Wait until a container has printed something."""
    end = time.monotonic() + seconds
    while seen not in (said := container.logs()):
        goes_on = time.monotonic() < end and container.state["Running"]
        assert goes_on, f"{what}:\n{said}"
        time.sleep(0.2)


def install() -> None:
    """See to it that the programs are there.

    Raises:
        UnavailableError: they cannot be had.
    """
    if sys.platform != "linux":
        raise UnavailableError("images are built on Linux")
    if os.geteuid():
        raise UnavailableError("dockerd and debootstrap want root")
    missing = {package for program, package in PACKAGES.items() if not shutil.which(program, path=PATH)}
    if not missing:
        return
    needs = f"{' and '.join(sorted(missing))} missing"
    if not shutil.which("apt-get"):
        raise UnavailableError(f"{needs}, and there is no apt-get to install with")
    apt = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300")
    keys = "debian-archive-keyring"  # where the machine is not Debian, debootstrap would not check what it fetches
    for words in (("update",), ("install", "--yes", "--no-install-recommends", keys, *sorted(missing))):
        done = subprocess.run(
            [*apt, *words],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise UnavailableError(f"{needs}, and apt-get {words[0]} says: {last(done.stdout)}")


def last(said: str) -> str:
    """The last line that is not empty."""
    return next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "nothing")


@contextlib.contextmanager
def running() -> Iterator[Engine]:
    """The engine, until the block ends.

    Raises:
        UnavailableError: this machine has none, or one that does not start here.
    """
    import fcntl  # not on Windows, where this module is read but not run

    install()
    folder = CACHE / "docker"
    folder.mkdir(parents=True, exist_ok=True)
    with (
        (CACHE / "lock").open("w") as lock,
        # The path of a socket must be short.
        tempfile.TemporaryDirectory(prefix="atelier-") as scratch,
    ):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UnavailableError(f"another run uses {CACHE}") from None
        forget_last(folder)
        socket = f"unix://{scratch}/socket"
        environment = {**os.environ, "DOCKER_HOST": socket, "DOCKER_CONFIG": scratch, "DOCKER_BUILDKIT": "1"}
        # Debian's client builds with the daemon's BuildKit; another on the PATH may want a plugin for that.
        client = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else shutil.which("docker") or "docker"
        engine = Engine(client, environment)
        with (folder / "log").open("w") as log:
            daemon = subprocess.Popen(
                [
                    shutil.which("dockerd", path=PATH) or "dockerd",
                    "--storage-driver=overlay2",
                    "--iptables=false",
                    "--ip6tables=false",
                    "--bridge=none",
                    f"--data-root={folder / 'data'}",
                    f"--exec-root={folder / 'exec'}",
                    f"--pidfile={folder / 'pid'}",
                    f"--host={socket}",
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, "PATH": PATH},
                start_new_session=True,  # Ctrl-C is for the tests, which then stop it
            )
        try:
            end = time.monotonic() + PATIENCE
            while engine.run("version").status:
                if daemon.poll() is not None or time.monotonic() > end:
                    raise UnavailableError(f"dockerd does not start here: {last((folder / 'log').read_text())}")
                time.sleep(0.2)
            tidy(engine)
            yield engine
        finally:
            daemon.terminate()
            try:
                daemon.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def forget_last(folder: Path) -> None:
    """Stop the daemon of a run that was killed before it could."""
    try:
        pid = int((folder / "pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (OSError, ValueError):
        return
    if f"--data-root={folder / 'data'}" not in command:
        return  # the number is another's by now
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + PATIENCE
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.2)


def tidy(engine: Engine) -> None:
    """Remove what a run before left: its containers, images that have no name any more, layers long unused."""
    if left := engine("ps", "--all", "--quiet").split():
        engine("rm", "--force", "--volumes", *left)
    engine("image", "prune", "--force")
    engine("builder", "prune", "--force", "--filter=unused-for=240h")
