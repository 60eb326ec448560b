"""The REST routes: bad input first, then the answers, which are the classifier's own."""

import base64
import io

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from app import api
from app.limits import BodyLimit
from app.problems import MEDIA_TYPE

LIMIT = 1024 * 1024


@pytest.fixture(scope="module")
def client(classifier):
    app = FastAPI()
    api.add(app, classifier, LIMIT)
    app.add_middleware(BodyLimit, limit=2 * LIMIT)
    with TestClient(app) as client:
        yield client


@pytest.fixture(scope="session")
def files(shapes, encode):
    return {name: encode(picture) for name, picture in shapes.items()}


def refused(response, status: int) -> str:
    """The sentence of a problem of this status."""
    assert response.status_code == status
    assert response.headers["content-type"] == MEDIA_TYPE
    body = response.json()
    assert set(body) == {"type", "title", "status", "detail"}
    assert body["status"] == status
    assert body["detail"][0].isupper()
    return body["detail"]


def raw(client, data: bytes, route: str = "/v1/predict", kind: str = "application/octet-stream"):
    return client.post(route, content=data, headers={"content-type": kind})


@pytest.mark.parametrize("route", ["/v1/predict", "/v1/explain"])
@pytest.mark.parametrize(
    ("data", "status"),
    [(b"", 400), (b"text", 415), (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415), (bytes(LIMIT + 1), 413)],
)
def test_what_is_no_picture_is_refused_with_a_sentence(client, route, data, status):
    refused(raw(client, data, route), status)


def test_a_truncated_picture_is_refused(client, files):
    refused(raw(client, files["Bag"][:60]), 400)


@pytest.mark.parametrize("kind", ["text/plain", "image/svg+xml", "application/xml", "multipart/mixed"])
def test_other_content_types_are_refused(client, kind):
    assert kind in refused(raw(client, b"x", kind=kind), 415)


def test_a_request_without_content_type_is_refused(client):
    refused(client.post("/v1/predict"), 415)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"images": []}',
        b'{"images": "x"}',
        b'{"images": [1]}',
        b'{"images": ["eA=="], "other": 1}',
        b"[" * 500_000,
        b'{"images": [' + b'"",' * 100 + b'""]}',
        b"\xff\xfe",
    ],
)
def test_json_that_is_not_as_it_should_be(client, data):
    assert "base64" in refused(raw(client, data, kind="application/json"), 422)


def test_base64_that_is_none(client):
    assert "base64" in refused(client.post("/v1/predict", json={"images": ["%%%"]}), 400)


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=x"])
def test_a_form_that_is_none(client, kind):
    response = raw(client, b"no form", kind=kind)
    refused(response, response.status_code)
    assert response.status_code in (400, 422)


def test_a_form_of_words(client):
    refused(client.post("/v1/predict", files={"a": (None, "word")}), 422)


def test_more_pictures_than_allowed(client, files):
    parts = [("files", ("a.png", files["Bag"])) for _ in range(api.MAX_PICTURES + 1)]
    refused(client.post("/v1/predict", files=parts), 400)


def test_a_body_over_the_limit_is_not_read(client):
    refused(raw(client, bytes(3 * LIMIT)), 413)


@pytest.mark.parametrize("way", ["raw", "multipart", "json"])
def test_one_picture_in_three_ways(client, classifier, shapes, files, way):
    for name, data in files.items():
        if way == "raw":
            response = raw(client, data, kind="image/png")
        elif way == "multipart":
            response = client.post("/v1/predict", files={"files": ("../../a\nb.png", data)})
        else:
            response = client.post("/v1/predict", json={"images": [base64.b64encode(data).decode()]})
        body = response.json()
        assert response.status_code == 200
        assert body["model"] == classifier.sha256
        (answer,) = body["answers"]
        api.Answer.model_validate(answer)
        row = classifier.predict(shapes[name][None]).probabilities[0]
        assert answer["class"] == name
        assert answer["probability"] == pytest.approx(float(row.max()))
        assert list(answer["probabilities"].values()) == pytest.approx(row.tolist())
        assert answer["label_set"] == [classifier.class_names[k] for k in classifier.label_set(row)]


def test_a_bad_picture_does_not_spoil_the_others(client, files):
    parts = [
        ("files", ("one.png", files["Bag"])),
        ("files", ("two.txt", b"text")),
        ("files", ("three.png", files["Trouser"])),
    ]
    response = client.post("/v1/predict", files=parts)
    assert response.status_code == 200
    api.Answers.model_validate(response.json())
    one, two, three = response.json()["answers"]
    assert [one["name"], two["name"], three["name"]] == ["one.png", "two.txt", "three.png"]
    assert (one["class"], three["class"]) == ("Bag", "Trouser")
    assert two["error"]["status"] == 415
    assert "class" not in two


def test_all_bad_pictures_have_errors_of_their_own(client):
    response = client.post("/v1/predict", json={"images": ["%", ""]})
    assert [a["error"]["status"] for a in response.json()["answers"]] == [400, 400]


def test_the_heat_map_is_a_png(client, files):
    response = client.post("/v1/explain", files={"file": ("a.png", files["Sandal"])})
    assert response.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(response.content)) as image:
        pixels = np.asarray(image)
    assert pixels.shape == (280, 280, 3)
    assert (pixels[..., 0] != pixels[..., 2]).any()  # orange somewhere


def test_one_heat_map_at_a_time(client, files):
    parts = [("file", ("a.png", files["Bag"]))] * 2
    assert "one picture" in refused(client.post("/v1/explain", files=parts), 422)


def test_the_model_says_what_it_is(client, classifier):
    body = client.get("/v1/model").json()
    assert body["sha256"] == classifier.sha256
    assert body["class_names"] == list(classifier.class_names)
    assert body["dataset"] == "shapes"
    assert body["label_set_coverage"] == 0.95


def test_health(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}


def test_unknown_routes_and_methods_are_problems(client):
    refused(client.get("/v1/nothing"), 404)
    refused(client.get("/v1/predict"), 405)


def test_the_schema_declares_bodies_and_problems(client):
    schema = client.get("/openapi.json").json()
    operation = schema["paths"]["/v1/predict"]["post"]
    assert {"multipart/form-data", "application/json", "image/png"} <= set(operation["requestBody"]["content"])
    for status in ("400", "413", "415", "422"):
        (reference,) = (c["schema"]["$ref"] for c in operation["responses"][status]["content"].values())
        assert reference.split("/")[-1] in schema["components"]["schemas"]
