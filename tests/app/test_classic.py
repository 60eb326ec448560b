import io

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.main import Settings, create_app


@pytest.fixture(scope="module")
def client(models, classifier):
    with TestClient(create_app(Settings(model_dir=models, page=False), classifier)) as client:
        yield client


def test_a_model_without_samples(tmp_path, classifier):
    with TestClient(create_app(Settings(model_dir=tmp_path, page=False), classifier)) as client:
        assert client.get("/sample/image").status_code == 404
        assert "no samples" in client.get("/predict/sample/0").json()["detail"]


@pytest.mark.parametrize("query", ["dataset=other", "size=27", "size=1025", "size=x"])
def test_a_sample_that_cannot_be(client, query):
    response = client.get(f"/sample/image?{query}")
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("number", ["-1", "3", "x", "9" * 5000])
def test_a_number_out_of_range(client, number):
    assert client.get(f"/predict/sample/{number}").status_code == (422 if number in ("x", "9" * 5000) else 404)


@pytest.mark.parametrize("data", [b"", b"text", b"<svg/>"])
def test_what_is_no_picture_is_400(client, data):
    response = client.post("/predict/upload", files={"file": ("a.png", data)})
    assert response.status_code == 400


def test_no_file(client):
    assert client.post("/predict/upload").status_code == 415


@pytest.mark.parametrize("dataset", ["train", "val", "test"])
def test_a_sample_and_its_label(client, classifier, shapes, dataset):
    seen = set()
    for _ in range(40):
        response = client.get("/sample/image", params={"dataset": dataset, "size": 56})
        label = response.headers["X-Fashion-MNIST-Label"]
        assert classifier.class_names.index(label) == int(response.headers["X-Fashion-MNIST-Label-Index"])
        with Image.open(io.BytesIO(response.content)) as image:
            assert image.size == (56, 56)
            assert (np.asarray(image)[::2, ::2] == shapes[label]).all()
        seen.add(label)
    assert seen == set(shapes)  # at random: three of forty, all of them with a chance of 1 - 3e-7


def test_samples_by_number(client, shapes):
    found = [client.get(f"/predict/sample/{n}").json() for n in range(3)]
    assert [f["true_label"] for f in found] == list(shapes)
    for f in found:
        assert f["prediction"] == f["true_label"]
        assert f["prediction_index"] == f["true_label_index"]
        assert 0.5 < f["confidence"] <= 1


def test_an_upload(client, shapes, encode):
    answer = client.post("/predict/upload", files={"file": ("a.png", encode(shapes["Sandal"]))}).json()
    assert set(answer) == {"prediction", "prediction_index", "confidence"}
    assert (answer["prediction"], answer["prediction_index"]) == ("Sandal", 1)
