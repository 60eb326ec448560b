import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest

from app import classifier as module
from app.classifier import Classifier, ModelError, ModelMissingError
from tests.app import tiny_model


def saved(path, **changes):
    """A model file with changed metadata; None takes an entry away."""
    metadata = {**tiny_model.METADATA, **changes}
    onnx.save(tiny_model.graph({key: value for key, value in metadata.items() if value is not None}), path)
    return path


def refusal(path, error=ModelError) -> str:
    with pytest.raises(error) as caught:
        Classifier(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def test_missing_file(tmp_path):
    refusal(tmp_path / "model.onnx", ModelMissingError)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" * 40, b"\x08\x09" * 1000])
def test_what_is_no_model(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    refusal(path)


def test_truncated_file(tmp_path, models):
    path = tmp_path / "model.onnx"
    content = (models / "model.onnx").read_bytes()
    path.write_bytes(content[: len(content) // 2])
    refusal(path)


def test_a_folder_in_place_of_the_file(tmp_path):
    path = tmp_path / "model.onnx"
    path.mkdir()
    assert "cannot be read" in refusal(path)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"class_names": None}, "class_names"),
        ({"class_names": "[]"}, "class_names"),
        ({"class_names": "{"}, "JSON"),
        ({"class_names": json.dumps(["only", "two"])}, "[2, 3]"),
        ({"distances": None}, "distances"),
        ({"distances": "[1, 0]"}, "distances"),
        ({"distances": "[[0], [1]]"}, "distances"),
        ({"distances": "[0]"}, "distances"),
        ({"distances": '["near", "far"]'}, "distances"),
        ({"label_set": None}, "label_set"),
        ({"label_set": json.dumps({"coverage": 0.95})}, "label_set"),
        ({"label_set": json.dumps({"coverage": 95, "threshold": 0.1})}, "between 0 and 1"),
        ({"metrics": "accuracy: 94"}, "metrics"),
    ],
)
def test_foreign_metadata(tmp_path, changes, word):
    assert word in refusal(saved(tmp_path / "model.onnx", **changes))


def test_foreign_signature(tmp_path):
    model = tiny_model.graph()
    for node in model.graph.node:
        node.output[:] = ["logits" if name == "probabilities" else name for name in node.output]
    model.graph.output[0].name = "logits"
    onnx.save(model, tmp_path / "model.onnx")
    assert "logits" in refusal(tmp_path / "model.onnx")


def test_picture_size_must_be_fixed(tmp_path):
    onnx.save(tiny_model.graph(side="side"), tmp_path / "model.onnx")
    assert "uint8 [N, height, width]" in refusal(tmp_path / "model.onnx")


def test_graph_that_cannot_run(tmp_path):
    # Says 30 pixels, reshapes to 28: loads, and fails at the first picture.
    onnx.save(tiny_model.graph(side=30), tmp_path / "model.onnx")
    assert "does not answer" in refusal(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    "content",
    ["", "model.onnx", "[]", '{"model": "x"}', '{"file": 3}', '{"file": "../model.onnx"}', '{"file": ""}'],
)
def test_bad_serve_json(tmp_path, content):
    (tmp_path / "serve.json").write_text(content)
    with pytest.raises(ModelError, match=r"serve\.json"):
        Classifier.from_directory(tmp_path)


@pytest.mark.parametrize("name", ["no-such-folder", "."])
def test_directory_without_a_model(tmp_path, name):
    with pytest.raises(ModelMissingError, match=r"serve\.json"):
        Classifier.from_directory(tmp_path / name)


def test_serve_json_names_a_file_that_is_gone(tmp_path):
    (tmp_path / "serve.json").write_text('{"file": "model.int8.onnx"}')
    with pytest.raises(ModelMissingError, match=r"model\.int8\.onnx"):
        Classifier.from_directory(tmp_path)


def test_serve_json_chooses_the_file(tmp_path):
    saved(tmp_path / "model.onnx", dataset="one")
    saved(tmp_path / "model.int8.onnx", dataset="the other")
    (tmp_path / "serve.json").write_text('{"file": "model.int8.onnx"}')
    assert Classifier.from_directory(tmp_path).metadata["dataset"] == "the other"


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 28, 28), np.float32),
        np.zeros((28, 28), np.uint8),
        np.zeros((1, 28, 29), np.uint8),
        np.zeros((1, 1, 28, 28), np.uint8),
        [[0]],
    ],
)
def test_wrong_pictures(classifier, images):
    with pytest.raises(ValueError, match=r"expected .*uint8 \[N, 28, 28\], got "):
        classifier.predict(images)


def test_what_it_says_about_itself(classifier, models):
    assert classifier.class_names == ("Trouser", "Sandal", "Bag")
    assert classifier.image_size == (28, 28)
    assert (classifier.coverage, classifier.threshold) == (0.95, 0.07)
    assert classifier.metadata["metrics"] == {"accuracy": 0.9}
    assert classifier.sha256 == hashlib.sha256((models / "model.onnx").read_bytes()).hexdigest()


def test_known_pictures(classifier, shapes):
    prediction = classifier.predict(np.stack(list(shapes.values())))
    assert prediction.probabilities.argmax(1).tolist() == [0, 1, 2]
    assert prediction.probabilities.dtype == np.float32
    np.testing.assert_allclose(prediction.probabilities.sum(1), 1, rtol=1e-5)
    assert prediction.heatmaps.shape == (3, 7, 7)
    assert prediction.heatmaps[0, 0, 3] == 255


def test_no_pictures(classifier):
    prediction = classifier.predict(np.empty((0, 28, 28), np.uint8))
    assert prediction.probabilities.shape == (0, 3)
    assert prediction.heatmaps.shape == (0, 7, 7)


def test_batches_of_any_size_give_the_same_answers(classifier, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (23, 28, 28), np.uint8)
    whole = classifier.predict(images)
    monkeypatch.setattr(module, "CHUNK", 5)
    parts = classifier.predict(images)
    np.testing.assert_allclose(parts.probabilities, whole.probabilities, atol=1e-6)
    backwards = classifier.predict(images[::-1])  # not contiguous
    np.testing.assert_allclose(backwards.probabilities[::-1], whole.probabilities, atol=1e-6)


def test_from_several_threads(classifier, shapes):
    images = np.stack(list(shapes.values()))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: classifier.predict(images).probabilities, range(40)))
    assert all((answer == answers[0]).all() for answer in answers)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([0.9, 0.05, 0.05], [0]),
        ([0.07, 0.8, 0.13], [1, 2, 0]),  # the threshold itself is in
        ([0.02, 0.5, 0.48], [1, 2]),
        ([0.3, 0.3, 0.4], [2, 0, 1]),  # equals in the order of the classes
    ],
)
def test_label_set(classifier, row, expected):
    assert classifier.label_set(np.array(row, np.float32)) == expected


def test_label_set_is_never_empty(tmp_path):
    path = saved(tmp_path / "model.onnx", label_set=json.dumps({"coverage": 0.5, "threshold": 0.99}))
    assert Classifier(path).label_set([0.2, 0.5, 0.3]) == [1]


def test_label_set_of_a_wrong_row(classifier):
    with pytest.raises(ValueError, match="expected 3 probabilities"):
        classifier.label_set([0.5, 0.5])


def test_needs_neither_web_nor_torch():
    program = "import sys, app.classifier; print(*sys.modules)"
    run = [sys.executable, "-c", program]
    loaded = subprocess.run(run, check=True, capture_output=True, text=True, env=os.environ).stdout.split()
    assert not {"torch", "gradio", "fastapi", "stages"} & set(loaded)


def test_the_share_of_pictures_as_unusual(classifier):
    images = np.zeros((4, 28, 28), np.uint8)  # the tiny graph's distance is the share of grey
    images[1, :2, :14] = 127  # 3.6 % of it: 0.0356 of the table's 0, 0.1, 0.2
    images[2, :4] = 127
    images[3] = 127
    shares = classifier.predict(images).in_distribution
    assert shares.dtype == np.float32
    assert shares == pytest.approx([1, 1 - 0.5 * 0.0357 / 0.1, 1 - 0.5 * 0.1429 / 0.1, 0], abs=0.005)
