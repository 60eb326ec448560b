import contextlib
import io
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import uvicorn
from PIL import Image

from app.classifier import Classifier
from tests.app import tiny_model


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    return tiny_model.write(tmp_path_factory.mktemp("served") / "models")


@pytest.fixture(scope="session")
def classifier(models) -> Classifier:
    return Classifier.from_directory(models)


@pytest.fixture(scope="session")
def shapes():
    return tiny_model.shapes()


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """The file of an image, as PNG unless said otherwise."""

    def encode(image, kind="PNG", **options) -> bytes:
        buffer = io.BytesIO()
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
        return buffer.getvalue()

    return encode


@contextlib.contextmanager
def serving(app):
    """The address of an application on a real socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join(10)


def trickle(address, head, pause, body=b"x" * 1000):
    """Sends a request's body byte by byte; returns all that came back until the server closed, and after how long."""
    began = time.monotonic()
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(head + b"\r\n\r\n")
        connection.settimeout(pause)
        for byte in body:
            with contextlib.suppress(TimeoutError):
                if received := connection.recv(65536):
                    break
                raise ConnectionError("closed without an answer")
            connection.sendall(bytes([byte]))
        connection.settimeout(10)
        while more := connection.recv(65536):
            received += more
    return received, time.monotonic() - began
