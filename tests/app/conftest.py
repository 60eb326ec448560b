import io
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
