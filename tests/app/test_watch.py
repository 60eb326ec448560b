import json
import logging
import sys

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from app.main import Settings, create_app
from app.watch import JsonLines
from tests.app.tiny_model import shapes

SECRET = "a-secret-file-name.png"


@pytest.fixture
def client(models, classifier):
    with TestClient(create_app(Settings(model_dir=models, page=False), classifier)) as client:
        yield client


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.INFO, logger="atelier")
    return caplog


def metrics(client):
    """Every sample of /metrics: (name, labels) -> value."""
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


@pytest.mark.parametrize("name", ["", "x" * 65, "two words", 'a"b', "a;b", "é", "{}"])
def test_a_request_id_that_is_not_trusted_is_replaced(client, name, logged):
    response = client.get("/v1/nothing", headers={"x-request-id": name.encode()})
    given = response.headers["x-request-id"]
    assert given != name
    assert len(given) == 32
    assert logged.records[-1].request_id == given


def test_a_request_id_comes_back_and_is_in_the_log(client, logged):
    assert client.get("/v1/nothing", headers={"X-Request-ID": "abc-1.2_3"}).headers["x-request-id"] == "abc-1.2_3"
    assert logged.records[-1].request_id == "abc-1.2_3"
    assert client.get("/v1/nothing").headers["x-request-id"] != client.get("/v1/nothing").headers["x-request-id"]


def test_the_log_has_neither_picture_nor_name(client, encode, shapes, logged):
    data = encode(shapes["Bag"])
    client.post("/v1/predict", files={"files": (SECRET, data)})
    client.post("/v1/predict", files={"files": (SECRET, b"secret-content")})
    lines = [JsonLines().format(record) for record in logged.records]
    assert [json.loads(line)["httpRequest"]["status"] for line in lines if "httpRequest" in line] == [200, 415]
    assert "secret" not in "".join(lines)
    assert "PNG" not in "".join(lines)


def test_signs_of_life_are_logged_only_when_they_fail(client, logged):
    for path in ("/healthz", "/readyz", "/metrics"):
        client.get(path)
    assert [r for r in logged.records if r.name == "atelier.request"] == []
    client.post("/healthz")
    assert logged.records[-1].http["status"] == 405


def test_a_path_cannot_forge_a_line_of_the_log(client, logged):
    client.get("/v1/x%0Aforged%20line")
    for style in (JsonLines(), logging.Formatter()):
        assert "\n" not in style.format(logged.records[-1])


def test_an_error_in_json_is_one_line_with_its_traceback():
    try:
        raise ValueError("of its own")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "It %s.", ("failed",), sys.exc_info())
    line = JsonLines().format(record)
    assert "\n" not in line
    entry = json.loads(line)
    assert (entry["severity"], entry["message"]) == ("ERROR", "It failed.")
    assert "ValueError: of its own" in entry["exception"]
    assert entry["time"].endswith("Z")


def test_requests_are_counted_by_route_and_not_by_path(client):
    for path in ("/predict/sample/0", "/predict/sample/1", "/v1/nothing", "/v1/other"):
        client.get(path)
    found = metrics(client)
    name = "atelier_http_requests_total"
    assert found[name, ("method", "GET"), ("route", "/predict/sample/{id}"), ("status", "200")] == 2
    assert found[name, ("method", "GET"), ("route", "other"), ("status", "404")] == 2
    assert not [key for key in found if "nothing" in str(key)]
    assert found["atelier_http_request_seconds_count", ("route", "/predict/sample/{id}")] == 2


def test_no_method_of_a_strangers_makes_a_label(client):
    client.request("BREW", "/healthz")
    assert not [key for key in metrics(client) if "BREW" in str(key)]


def test_pictures_are_counted(client, encode, shapes):
    data = [encode(shapes[name]) for name in ("Bag", "Bag", "Trouser")]
    client.post("/v1/predict", files=[("files", ("a.png", d)) for d in [*data, b"text", b""]])
    found = metrics(client)
    assert found["atelier_predictions_total", ("label", "Bag")] == 2
    assert found["atelier_predictions_total", ("label", "Trouser")] == 1
    assert found["atelier_predictions_total", ("label", "Sandal")] == 0
    assert found["atelier_pictures_refused_total", ("status", "415")] == 1
    assert found["atelier_pictures_refused_total", ("status", "400")] == 1
    assert found["atelier_prediction_confidence_count",] == 3
    assert found["atelier_prediction_in_distribution_count",] == 3


def test_the_model_that_answers_is_named(client, classifier):
    (labels,) = [dict(key[1:]) for key in metrics(client) if key[0] == "atelier_model_info"]
    assert labels == {"sha256": classifier.sha256, "dataset": "shapes", "version": "0.1.0"}


def test_the_version_in_the_registry_is_said_wherever_the_model_is_named(models, classifier, encode):
    settings = Settings(model_dir=models, page=False, model_version="v1.2.0")
    with TestClient(create_app(settings, classifier)) as client:
        assert client.get("/v1/model").json()["version"] == "v1.2.0"
        assert client.get("/v1/model").json()["project_version"] == "0.1.0"
        picture = {"files": encode(next(iter(shapes().values())))}
        assert client.post("/v1/predict", files=picture).json()["version"] == "v1.2.0"
        (labels,) = [dict(key[1:]) for key in metrics(client) if key[0] == "atelier_model_info"]
        assert labels["version"] == "v1.2.0"
