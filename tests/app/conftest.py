import io
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
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


def connected(address):
    """A socket to http://host:port."""
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def trickle(address, head, body, pause=0.03):
    """Sends a request's body byte by byte, and no end; returns all that comes back, and after how long.

    The last byte should be sent well before the server gives up: what it closes on is reset, its answer included.
    """
    began = time.monotonic()
    received = b""
    with connected(address) as connection:
        connection.sendall(head + b"\r\n\r\n")
        for byte in body:
            time.sleep(pause)
            connection.sendall(bytes([byte]))
        while more := connection.recv(65536):
            received += more
    return received, time.monotonic() - began
