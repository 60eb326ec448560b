"""The page through Gradio's own routes, as the browser and gradio_client use them; without a browser."""

import base64
import html
import http.server
import io
import json
import threading
import time

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app import drawing, page
from app import heat as heat_map
from app.judge import Judge
from app.watch import Metrics
from tests.app import tiny_model

API = "/gradio_api"


def judging(classifier, version=""):
    return Judge(classifier, 10 * 2**20, Metrics(classifier), version)


@pytest.fixture(scope="module")
def uploads(tmp_path_factory):
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def client(models, classifier, uploads):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(uploads))
        with TestClient(page.create(judging(classifier), models)) as client:
            yield client


@pytest.fixture(scope="module")
def indices(client):
    """Number of each named function, as the queue's route wants it."""
    return {f["api_name"]: f["id"] for f in client.get("/config").json()["dependencies"]}


def upload(client, content, name="picture.png"):
    (path,) = client.post(f"{API}/upload", files={"files": (name, content)}).json()
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def call(client, name, *data):
    """Calls a function by its name; returns its data, or the message of its error."""
    event = client.post(f"{API}/call/{name}", json={"data": data}).json()["event_id"]
    kind, content = client.get(f"{API}/call/{name}/{event}").text.strip().split("\n")[-2:]
    content = json.loads(content.removeprefix("data: "))
    return content if kind == "event: complete" else (content or {}).get("error", "")


def fetch(client, file):
    response = client.get(f"{API}/file={file['path']}")
    assert response.status_code == 200
    return response.content


# Unhappy paths


def test_what_is_no_picture_gets_a_sentence(client):
    assert call(client, "classify", upload(client, b"hello")).startswith("This is not a picture")


@pytest.mark.parametrize("name", ["picture.svg", "../../picture.png", "a\nb.png", ""])
def test_names_are_not_trusted(client, name):
    response = client.post(f"{API}/upload", files={"files": (name or "x", b"<svg/>")})
    for path in response.json() if response.status_code == 200 else []:
        file = {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
        assert call(client, "classify", file).startswith("This is not a picture")


def test_a_drawing_that_is_none_gets_a_sentence(client):
    assert call(client, "classify_drawing", "hello").startswith("The drawing should be")


@pytest.mark.parametrize("number", ["-1", "3", "x", None])
def test_no_such_sample(client, number):
    answer = call(client, "sample", number)
    assert answer == "There is no sample of this number." or number is None


def test_nothing_and_a_blank_picture(client, encode):
    assert call(client, "classify", None)[1] == page.WAITING
    blank = upload(client, encode(Image.new("L", (50, 50), 200)))
    assert call(client, "classify", blank)[1] == page.BLANK
    assert call(client, "classify_drawing", "")[1] == page.WAITING


def test_too_large_an_upload(client):
    response = client.post(f"{API}/upload", files={"files": ("x.png", bytes(10 * 2**20 + 1))})
    assert response.status_code == 413


# Files of the machine, and addresses, are not for visitors

SECRET = b"a secret of this machine, 7f3a"


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret.png"
    path.write_bytes(SECRET)
    return path


def attempts(client, indices, function, payload):
    """The bodies of every answer of the three ways to call a function."""
    bodies = []
    response = client.post(f"{API}/call/{function}", json={"data": [payload]})
    bodies.append(response.text)
    if "event_id" in response.text:
        bodies.append(client.get(f"{API}/call/{function}/{response.json()['event_id']}").text)
    bodies.append(client.post(f"{API}/run/{function}", json={"data": [payload]}).text)
    body = {"data": [payload], "fn_index": indices[function], "session_hash": "stranger"}
    bodies.append(client.post(f"{API}/run/predict", json=body).text)
    bodies.append(client.post(f"{API}/queue/join", json=body).text)
    bodies.append(client.get(f"{API}/queue/data", params={"session_hash": "stranger"}).text)
    return bodies


@pytest.mark.parametrize("function", ["classify", "classify_drawing", "sample"])
@pytest.mark.parametrize("wrap", [lambda file: file, lambda file: {"picture": [file]}])
@pytest.mark.parametrize("target", ["secret", "/etc/hostname", "model"])
def test_a_path_that_no_visitor_uploaded(client, indices, uploads, secret, models, function, wrap, target):
    path = {"secret": str(secret), "model": str(models / "serve.json")}.get(target, target)
    before = set(uploads.rglob("*"))
    for body in attempts(client, indices, function, wrap({"path": path, "meta": {"_type": "gradio.FileData"}})):
        assert SECRET.decode() not in body
        assert str(uploads) not in body
        assert "event: complete" not in body
        assert '"success":true' not in body
    assert set(uploads.rglob("*")) == before
    assert client.get(f"{API}/file={path}").status_code in (403, 404)


def test_the_same_call_with_an_upload_is_answered(client, indices, encode, shapes):
    """So that the refusals above are not those of a wrong request."""
    bodies = attempts(client, indices, "classify", upload(client, encode(shapes["Bag"])))
    assert sum("Bag" in body for body in bodies) >= 3


@pytest.mark.parametrize("function", ["classify", "classify_drawing", "sample"])
def test_an_address_is_not_fetched(client, indices, function):
    asked = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/computeMetadata/v1/token"
        for file in ({"path": address}, {"path": address, "url": address}, {"path": "x.png", "url": address}):
            for body in attempts(client, indices, function, {**file, "meta": {"_type": "gradio.FileData"}}):
                assert "event: complete" not in body
                assert '"success":true' not in body
        server.shutdown()
    assert asked == []


def test_errors_do_not_tell_paths(client, secret):
    message = call(client, "classify", {"path": str(secret), "meta": {"_type": "gradio.FileData"}})
    assert not message or "/" not in message


# Happy paths


@pytest.mark.parametrize("name", tiny_model.CLASS_NAMES)
def test_a_picture_gets_its_answer(client, classifier, encode, shapes, name):
    bars, words, seen, evidence, *_ = call(client, "classify", upload(client, encode(shapes[name])))
    assert f'<p class="verdict">{name}</p>' in words
    assert "95% of pictures" in words
    assert bars["label"] == name
    probabilities = classifier.predict(shapes[name][None]).probabilities[0]
    shown = {bar["label"]: bar["confidence"] for bar in bars["confidences"]}
    # To the last bit: a picture of the test split gets the evaluation's own answer.
    assert shown == {n: float(p) for n, p in zip(classifier.class_names, probabilities, strict=True)}
    with Image.open(io.BytesIO(fetch(client, seen))) as picture:
        np.testing.assert_array_equal(np.asarray(picture)[5::10, 5::10], shapes[name])
    with Image.open(io.BytesIO(fetch(client, evidence))) as picture:
        assert picture.mode == "RGB"


def test_a_drawing_gets_its_answer(client, encode):
    paper = np.full((392, 392), 255, np.uint8)
    paper[20:370, 120:240] = 34
    value = drawing.PREFIX + base64.b64encode(encode(paper)).decode()
    assert "Trouser" in call(client, "classify_drawing", value)[1]


def test_a_sample_arrives_bit_for_bit(client, shapes):
    for number, name in enumerate(tiny_model.CLASS_NAMES):
        file = call(client, "sample", str(number))[0]
        assert f">{name}<" in call(client, "classify", file)[1]


def test_the_tabs_and_what_they_hold(client):
    components = client.get("/config").json()["components"]
    tabs = [c["props"]["label"] for c in components if c["type"] == "tabitem"]
    assert [tab for tab in tabs if tab not in ("Picture", "Draw")] == ["Try it", "How good is it", "Drift", "About"]
    values = [str(c["props"].get("value")) for c in components]
    assert any("How good is it?" in value and "<table" in value for value in values)
    assert any(value.startswith("## Garment classifier") for value in values)


def test_a_model_folder_with_nothing_but_the_model(models, classifier, tmp_path):
    with TestClient(page.create(judging(classifier), tmp_path)) as client:
        text = client.get("/config").text
    assert "came without its evaluation" in text
    assert "came without a card" in text


def test_the_version_stands_at_the_foot_as_text(models, classifier):
    with TestClient(page.create(judging(classifier, "v1.2.0<b>"), models)) as client:
        components = client.get("/config").json()["components"]
    assert any(str(c["props"].get("value")).endswith(" Model v1.2.0&lt;b&gt;.</p>") for c in components)


def test_functions_have_names_and_sentences(client):
    named = client.get(f"{API}/info").json()["named_endpoints"]
    assert set(named) == {"/classify", "/classify_drawing", "/sample"}
    assert all(function["description"] for function in named.values())


def test_everything_comes_from_this_machine(client):
    config = client.get("/config").json()
    assert config["analytics_enabled"] is False
    assert config["footer_links"] == []
    assert "fonts.googleapis" not in client.get("/theme.css").text
    assert client.get("/favicon.ico").status_code == 200


def test_what_visitors_send_is_deleted(models, classifier, encode, shapes, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(page, "CLEANING", (1, 1))
    with TestClient(page.create(judging(classifier), models)) as client:
        upload(client, encode(shapes["Sandal"]))  # sent and never used
        call(client, "classify", upload(client, encode(shapes["Bag"])))
        call(client, "classify", upload(client, b"no picture"))
        call(client, "sample", "0")
        assert sum(path.is_file() for path in tmp_path.rglob("*")) >= 5
        deadline = time.monotonic() + 10
        while any(path.is_file() for path in tmp_path.rglob("*")) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


# A picture unlike those the model has learnt from


# (of the tiny model's training is what has little grey: its distances reach from none to a fifth)


@pytest.mark.parametrize(("grey", "warned"), [(0, False), (0.19, False), (0.21, True), (0.5, True)])
def test_an_unusual_picture_comes_with_a_warning(classifier, encode, shapes, grey, warned):
    picture = shapes["Bag"].copy()
    picture.ravel()[: round(grey * picture.size)] = 128
    bars, words, *_ = page._answer(judging(classifier), encode(picture))
    assert ('role="note"' in words) == warned
    assert ("% sure" in words) != warned
    assert ("% of pictures" in words) != warned
    assert '<p class="verdict">Bag</p>' in words
    assert max(bars, key=bars.get) == "Bag"
    if warned:
        assert words.index('role="note"') < words.index("Bag")


def test_the_warning_escapes_the_class():
    assert "<b>" not in page._with_a_warning("<b>")


# The parts


def test_label_set_in_words():
    words = page._in_words(["Shirt", "Coat", "Dress"], 0.5, 0.9)
    assert "Shortlist: <strong>Shirt, Coat or Dress</strong>" in words
    assert "50% sure" in words
    assert "90% of" in words
    assert "more than 99% sure" in page._in_words(["Bag"], 0.9999, 0.999)
    assert "99.9% of" in page._in_words(["Bag"], 0.9999, 0.999)


def test_class_names_cannot_break_the_page():
    name = "<script>alert(1)</script>"
    assert name not in page._in_words([name, name], 0.5, 0.9)
    assert html.escape(name) in page._in_words([name], 0.5, 0.9)


@pytest.mark.parametrize("heat", [np.zeros((7, 7)), -np.ones((7, 7)), np.full((7, 7), 1e30)])
def test_heat_of_any_size(shapes, heat):
    overlay = heat_map.overlay(shapes["Trouser"], heat.astype(np.float32))
    assert overlay.shape == (280, 280, 3)
    if heat.max() <= 0:
        assert (overlay == heat_map.enlarge(shapes["Trouser"])[..., None]).all()


def test_enlarged_pixels_are_squares(shapes):
    enlarged = heat_map.enlarge(shapes["Bag"])
    assert (enlarged[:10, :10] == 254).all()
    assert (enlarged[10:, 10:] == 255).all()
