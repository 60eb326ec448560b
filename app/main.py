"""The app: serves the exported model, to programs and with a page. ``python -m app.main``

Settings are environment variables, as in `Settings`. What is wrong at the start is said in one line on stderr and ends
the process with status 1; SIGTERM and Ctrl-C end it with status 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

from app import monitor
from app.classifier import Classifier, ModelError, ModelMissingError
from app.endpoints import Endpoints
from app.exhibits import read_samples
from app.feedback import Feedback
from app.front import Endpoint, Farewell, Front
from app.judge import Judge
from app.limits import BodyLimit
from app.pictures import MB
from app.traffic import Traffic
from app.watch import Metrics, Watch, set_up_logging

T = TypeVar("T")
FOLDER = "a folder of this machine; a bucket can be mounted as one"
MULTIPART_OVERHEAD = 64 * 1024  # bytes; what a form adds to the file that it carries
LEAVE = 1  # seconds that idle connections have to send another request in, once the process is told to stop
GRACE = 6  # seconds, after that, for what is still being answered; Cloud Run gives ten in all
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
        log_format: text for a terminal, or json, a line an entry (LOG_FORMAT).
        page: whether there is a page beside the REST routes (PAGE).
        model_version: of the model in the registry; empty: of the project that exported it (MODEL_VERSION).
        traffic_dir: the folder that the traffic log's Parquet files go to; None writes none (TRAFFIC_DIR).
        traffic_max_mb: of that folder, beyond which the oldest files go (TRAFFIC_MAX_MB).
        traffic_log: whether each answer is a JSON line on stdout (TRAFFIC_LOG).
        keep_pictures: whether the files hold the pictures, as the model saw them (KEEP_PICTURES).
        feedback_dir: the folder for what users say the right class is; None asks nobody (FEEDBACK_DIR).
    """

    host: str = "127.0.0.1"
    port: int = 7860
    model_dir: Path = Path("models")
    max_upload_mb: int = 10
    log_format: str = "text"
    page: bool = True
    model_version: str = ""
    traffic_dir: Path | None = None
    traffic_max_mb: int = 500
    traffic_log: bool = False
    keep_pictures: bool = False
    feedback_dir: Path | None = None

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
            log_format=read("LOG_FORMAT", cls.log_format, _one_of("text", "json"), "text or json"),
            page=read("PAGE", "on", _one_of("on", "off"), "on or off") == "on",
            model_version=read("MODEL_VERSION", cls.model_version, _version, "a version such as v1.2.0"),
            traffic_dir=read("TRAFFIC_DIR", cls.traffic_dir, _folder, FOLDER),
            traffic_max_mb=read(
                "TRAFFIC_MAX_MB", cls.traffic_max_mb, _between(1, 1_000_000), "a whole number from 1 to 1000000"
            ),
            traffic_log=read("TRAFFIC_LOG", "off", _one_of("on", "off"), "on or off") == "on",
            keep_pictures=read("KEEP_PICTURES", "0", _one_of("1", "0"), "1 or 0") == "1",
            feedback_dir=read("FEEDBACK_DIR", cls.feedback_dir, _folder, FOLDER),
        )


def create_app(
    settings: Settings,
    classifier: Classifier,
    farewell: Farewell | None = None,
    failed: Callable[[], None] = lambda: None,
    ending: contextlib.ExitStack | None = None,
) -> ASGIApp:
    """The ASGI application: the REST routes, and the page at ``/``.

    Args:
        settings: as in the environment.
        classifier: answers.
        farewell: tells it that the process is about to end.
        failed: told when a part of it cannot be built.
        ending: closed when the process ends; what is to be written then is.

    Raises:
        StartError: a folder that is to be written to cannot be.
    """
    metrics = Metrics(classifier, settings.model_version)
    watched = monitor.create(settings.model_dir, classifier, metrics.registry)
    if isinstance(watched, str):
        log.warning("%s", watched)
    version = settings.model_version or str(classifier.metadata.get("project_version", ""))
    traffic = feedback = None
    if settings.traffic_log or settings.traffic_dir:
        _writable("TRAFFIC_DIR", settings.traffic_dir)
        traffic = Traffic(
            classifier,
            version,
            metrics.registry,
            folder=settings.traffic_dir,
            lines=settings.traffic_log,
            max_bytes=settings.traffic_max_mb * MB,
            keep_pictures=settings.keep_pictures,
        )
        if ending:
            ending.callback(traffic.close)
    if settings.feedback_dir:
        _writable("FEEDBACK_DIR", settings.feedback_dir)
        feedback = Feedback(settings.feedback_dir, classifier, version, metrics.registry)
    judge = Judge(classifier, settings.max_upload_bytes, metrics, version, watched, traffic, feedback)
    endpoints = Endpoints(judge)
    samples = read_samples(settings.model_dir)

    # Both import what takes long, and are called in threads of their own.
    def rest() -> Starlette:
        from app import api

        return api.create(endpoints, metrics, samples)

    def page() -> Starlette:
        from app import lean

        lean.install()
        from app import page

        return page.create(judge, settings.model_dir)

    at_once: dict[tuple[str, str], Endpoint] = {
        ("POST", "/v1/predict"): endpoints.predict,
        ("GET", "/healthz"): endpoints.healthz,
        ("GET", "/readyz"): endpoints.readyz,
    }
    front = Front(at_once, rest, page if settings.page else None, farewell or Farewell(), failed)
    return Watch(BodyLimit(front, limit=settings.max_upload_bytes + MULTIPART_OVERHEAD), metrics)


def main() -> int:
    """Serves until told to stop; returns the exit status."""
    # uvicorn ends gently on a signal and then raises it anew: that should not look like a failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    status = 0
    try:
        settings = Settings.from_environment(os.environ)
        set_up_logging(settings.log_format)
        with (
            contextlib.closing(_bind(settings)) as listener,
            _private_uploads(),
            contextlib.ExitStack() as ending,
        ):

            def failed() -> None:
                nonlocal status
                status = 1
                server.should_exit = True

            farewell = Farewell()
            app = create_app(settings, _load(settings.model_dir), farewell, failed, ending)
            # Its own log of requests and its own format would stand beside ours.
            config = uvicorn.Config(
                app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=GRACE
            )
            server = _Server(config, farewell)
            server.run([listener])
    except (StartError, ModelError) as error:
        print(f"atelier: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return status


class _Server(uvicorn.Server):
    """Says the address, once it is ready and not before; takes leave of its clients before it goes."""

    def __init__(self, config: uvicorn.Config, farewell: Farewell) -> None:
        super().__init__(config)
        self._farewell = farewell

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn alone closes connections that clients believe to be alive: what they send at that moment is lost. So
        # for a second nobody new is let in, and every answer says that its connection ends with it.
        for server in self.servers:
            server.close()
        self._farewell.said = True
        end = time.monotonic() + LEAVE
        while self.server_state.connections and time.monotonic() < end and not self.force_exit:
            await asyncio.sleep(0.02)
        self._farewell.streams.set()
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            # What listens on every address is reached on this machine by its own.
            host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
            log.info("Atelier is ready: http://%s:%d", f"[{host}]" if ":" in host else host, port)


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


def _writable(name: str, folder: Path | None) -> None:
    """See to it that a folder is there and takes files."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # By name: a bucket that is mounted as a folder does not know files that are open and gone.
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StartError(f"{name} is {str(folder)!r}, which cannot be written to: {error.strerror}") from None


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


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value.lower() not in words:
            raise ValueError
        return value.lower()

    return parse


def _host(value: str) -> str:
    if any(character.isspace() or character in "/@" for character in value):
        raise ValueError
    return value


def _folder(value: str) -> Path | None:
    if "://" in value:
        raise ValueError
    return Path(value)


def _version(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._+-]{1,64}", value):
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
