"""What was measured is what is served: the evaluation's own figures, through the route that programs use."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.classifier import Classifier
from app.main import Settings, create_app
from stages.stage import read_json
from tests.conftest import Run


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("file", ["model.onnx", "model.int8.onnx"])
def test_accuracy_over_http_is_the_evaluations_to_the_picture(run: Run, tmp_path: Path, file: str) -> None:
    shutil.copytree(run.models, tmp_path / "models")
    (tmp_path / "models/serve.json").write_text(json.dumps({"file": file}))
    classifier = Classifier.from_directory(tmp_path / "models")
    pictures = np.load(run.prepared / "test.images.npy")
    labels = np.load(run.prepared / "test.labels.npy")
    right = 0
    with TestClient(create_app(Settings(model_dir=tmp_path / "models", page=False), classifier)) as client:
        for start in range(0, len(pictures), 50):
            parts = [("files", ("a.png", png(picture))) for picture in pictures[start : start + 50]]
            said = [answer["class"] for answer in client.post("/v1/predict", files=parts).json()["answers"]]
            right += sum(classifier.class_names[k] == s for k, s in zip(labels[start : start + 50], said, strict=True))
    accuracy = right / len(labels)
    if file == "model.onnx":
        assert round(accuracy, 6) == read_json(run.reports / "evaluation/metrics.json")["accuracy"]
    report = read_json(run.reports / "export/metrics.json")
    assert accuracy == report["int8" if "int8" in file else "fp32"]["accuracy"]
