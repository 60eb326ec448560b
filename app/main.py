"""The app: serves the exported model with a page. ``python -m app.main``

Settings are environment variables: HOST, PORT, MODEL_DIR and MAX_UPLOAD_MB. What is wrong at the start is said in one
line on stderr and ends the process with status 1; SIGTERM and Ctrl-C end it with status 0.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import uvicorn
from fastapi import FastAPI

from app import api
from app.classifier import Classifier, ModelError, ModelMissingError
from app.limits import BodyLimit
from app.pictures import MB

T = TypeVar("T")
MULTIPART_OVERHEAD = 64 * 1024  # bytes; what a form adds to the file that it carries
GRACE = 3  # seconds that open connections have to end in, once the process is told to stop
HOW_TO_GET_A_MODEL = (
    "`uv run dvc repro` makes the real one; `uv run invoke demo` makes one from sketches in a minute, and shows it"
)

log = logging.getLogger("atelier")


class StartError(Exception):
    """The app cannot start; the message is one line for a person."""


@dataclass(frozen=True)
class Settings:
    """What a user may turn.

    Attributes:
        host: the name or address to listen on (HOST).
        port: the TCP port; 0 takes any free one (PORT).
        model_dir: the folder that export wrote (MODEL_DIR).
        max_upload_mb: the largest picture file, in megabytes of 1024 * 1024 bytes (MAX_UPLOAD_MB).
    """

    host: str = "127.0.0.1"
    port: int = 7860
    model_dir: Path = Path("models")
    max_upload_mb: int = 10

    @property
    def max_upload_bytes(self) -> int:
        return self.max_upload_mb * MB

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Reads the variables; an empty one counts as not set.

        Raises:
            StartError: names the variable, its value and what is allowed.
        """

        def read(name: str, default: T, parse: Callable[[str], T], allowed: str) -> T:
            value = environment.get(name, "").strip()
            if not value:
                return default
            try:
                return parse(value)
            except ValueError:
                raise StartError(f"{name} is {value!r}; it should be {allowed}") from None

        return cls(
            host=read("HOST", cls.host, _host, "a host name or an address, such as 127.0.0.1 or 0.0.0.0"),
            port=read("PORT", cls.port, _between(0, 65535), "a whole number from 0 (any free port) to 65535"),
            model_dir=read("MODEL_DIR", cls.model_dir, Path, "a folder"),
            max_upload_mb=read("MAX_UPLOAD_MB", cls.max_upload_mb, _between(1, 100), "a whole number from 1 to 100"),
        )


def create_app(settings: Settings, classifier: Classifier) -> FastAPI:
    """The ASGI application: the REST routes, and the page at ``/``."""
    # Imported here since it takes seconds: a wrong setting or a missing model is said before that.
    from app import page

    # FastAPI's own pages of documentation load their scripts from another machine.
    app = FastAPI(title="Atelier", docs_url=None, redoc_url=None)

    api.add(app, classifier, settings.max_upload_bytes)
    blocks = page.build(classifier, settings.model_dir, settings.max_upload_bytes)
    page.mount(app, blocks, settings.max_upload_bytes)
    app.add_middleware(BodyLimit, limit=settings.max_upload_bytes + MULTIPART_OVERHEAD)
    return app


def main() -> int:
    """Serves until told to stop; returns the exit status."""
    # uvicorn ends gently on a signal and then raises it anew: that should not look like a failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    log.setLevel(logging.INFO)
    try:
        settings = Settings.from_environment(os.environ)
        with contextlib.closing(_bind(settings)) as listener, _private_uploads():
            app = create_app(settings, _load(settings.model_dir))
            _Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=GRACE)).run([listener])
    except (StartError, ModelError) as error:
        print(f"atelier: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


class _Server(uvicorn.Server):
    """Says the address, once it is ready and not before."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            # What listens on every address is reached on this machine by its own.
            host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
            log.info("The page is ready: http://%s:%d", f"[{host}]" if ":" in host else host, port)


def _bind(settings: Settings) -> socket.socket:
    """Takes the port before anything slow is done, and finds any free one for port 0.

    Nobody can connect yet: the server listens once it can answer.
    """
    where = f"{settings.host}:{settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[
            0
        ]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StartError(f"HOST is {settings.host!r}, which cannot be resolved: {error.strerror}") from None
    try:
        if os.name == "posix":  # on Windows this option would share a port that is taken
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise StartError(f"cannot listen on {where}: {error.strerror}; choose another port, as in PORT=7861") from None
    return listener


def _load(model_dir: Path) -> Classifier:
    try:
        return Classifier.from_directory(model_dir)
    except ModelMissingError as error:
        raise StartError(f"{error}; {HOW_TO_GET_A_MODEL}") from None


@contextlib.contextmanager
def _private_uploads() -> Iterator[None]:
    """A folder for visitors' files that nobody else can read and that goes with the process."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    if os.environ.get("GRADIO_TEMP_DIR"):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="atelier-", ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        try:
            yield
        finally:
            del os.environ["GRADIO_TEMP_DIR"]


def _host(value: str) -> str:
    if any(character.isspace() or character in "/@" for character in value):
        raise ValueError
    return value


def _between(least: int, most: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        number = int(value)
        if not least <= number <= most:
            raise ValueError
        return number

    return parse


if __name__ == "__main__":
    sys.exit(main())
