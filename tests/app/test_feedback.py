"""Feedback: what is refused and why, and that what is kept is small, grey, once, and what training reads back."""

import json
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from prometheus_client import CollectorRegistry

from app import feedback
from app.classifier import Classifier
from app.feedback import CLIENTS, PER_CLIENT, PER_MINUTE, Feedback, FeedbackError
from app.main import Settings, create_app
from app.pictures import decode, to_model_input
from stages.sources import extra_folder
from tests.app import tiny_model

SHAPES = tiny_model.shapes()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(feedback.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def taking(classifier: Classifier, tmp_path: Path, clock: list[float]) -> Feedback:
    return Feedback(tmp_path / "feedback", classifier, "v1.2.0", CollectorRegistry())


@pytest.fixture
def client(models: Path, classifier: Classifier, tmp_path: Path):
    settings = Settings(model_dir=models, page=False, max_upload_mb=1, feedback_dir=tmp_path / "feedback")
    with TestClient(create_app(settings, classifier)) as client:
        yield client


def different(number: int) -> np.ndarray:
    """A picture that is like no other of another number."""
    picture = SHAPES["Bag"].copy()
    picture[1, 1], picture[2, 2] = number % 256, number // 256
    return picture


def kept(tmp_path: Path) -> list[str]:
    folder = tmp_path / "feedback/pending"
    return sorted(file.relative_to(folder).as_posix() for file in folder.glob("*/*"))


def test_a_class_that_the_model_does_not_know_is_refused(client, encode, tmp_path) -> None:
    answer = client.post("/v1/feedback?class=../Hat", files={"file": encode(SHAPES["Bag"])})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "The class should be one of Trouser, Sandal, Bag."
    assert kept(tmp_path) == []


@pytest.mark.parametrize(("data", "status"), [(b"", 400), (b"text", 415), (bytes(1024 * 1024 + 1), 413)])
def test_what_is_no_picture_is_refused(client, tmp_path, data: bytes, status: int) -> None:
    headers = {"content-type": "application/octet-stream"}
    assert client.post("/v1/feedback?class=Bag", content=data, headers=headers).status_code == status
    assert kept(tmp_path) == []


def test_a_request_without_a_class_is_refused(client, encode) -> None:
    answer = client.post("/v1/feedback", files={"file": encode(SHAPES["Bag"])})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("query.class: ")


def test_an_app_without_a_folder_takes_none(models, classifier, encode) -> None:
    with TestClient(create_app(Settings(model_dir=models, page=False), classifier)) as client:
        answer = client.post("/v1/feedback?class=Bag", files={"file": encode(SHAPES["Bag"])})
    assert answer.status_code == 404
    assert answer.json()["detail"] == "This app takes no feedback."


def test_one_client_is_held_back_and_another_is_not(client, encode) -> None:
    for number in range(PER_CLIENT):
        assert client.post("/v1/feedback?class=Bag", files={"file": encode(different(number))}).status_code == 201
    answer = client.post("/v1/feedback?class=Bag", files={"file": encode(different(99))})
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert "try again" in answer.json()["detail"]


def test_who_waits_may_send_again(taking, clock) -> None:
    for number in range(PER_CLIENT):
        taking.take(different(number), "Bag", "one")
    with pytest.raises(FeedbackError) as error:
        taking.take(different(50), "Bag", "one")
    taking.take(different(51), "Bag", "two")
    clock[0] += error.value.wait
    taking.take(different(52), "Bag", "one")


def test_all_clients_together_are_held_back(taking) -> None:
    for number in range(PER_MINUTE):
        taking.take(different(number), "Bag", f"client {number}")
    with pytest.raises(FeedbackError, match="much at once"):
        taking.take(different(900), "Bag", "another")


def test_clients_beyond_number_are_forgotten(taking, clock) -> None:
    for number in range(CLIENTS + 50):
        clock[0] += 60
        taking.take(SHAPES["Bag"], "Bag", f"client {number}")
    assert len(taking._clients) == CLIENTS


def test_no_more_wait_for_a_review_than_somebody_could_do(taking, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(feedback, "MOST", 2)
    for number in (1, 2):
        taking.take(different(number), "Bag", "one")
    with pytest.raises(FeedbackError, match="waits for a review") as error:
        taking.take(different(3), "Bag", "one")
    assert error.value.status == 503
    assert len(kept(tmp_path)) == 4


def test_a_full_disk_is_a_sentence_and_leaves_nothing_half(taking, monkeypatch, tmp_path) -> None:
    def full(self: Path, data: bytes) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(FeedbackError, match="cannot be kept at the moment"):
        taking.take(SHAPES["Bag"], "Bag", "one")
    assert kept(tmp_path) == []


def test_what_is_kept_is_what_the_model_saw_and_what_it_said(client, encode, tmp_path) -> None:
    image = Image.fromarray(SHAPES["Sandal"]).resize((280, 280)).convert("RGB")
    exif = Image.Exif()
    exif[0x010E] = "a secret"
    data = encode(image, "JPEG", exif=exif, quality=95)
    for _ in range(2):  # twice is once
        answer = client.post("/v1/feedback?class=Bag", files={"file": ("my name.jpg", data)})
        assert answer.status_code == 201
        assert answer.json() == {"class": "Bag", "said": "Sandal"}
    record, picture = kept(tmp_path)
    assert picture.startswith("Bag/")
    content = (tmp_path / "feedback/pending" / picture).read_bytes()
    assert b"secret" not in content
    with Image.open(tmp_path / "feedback/pending" / picture) as image:
        assert (image.size, image.mode) == ((28, 28), "L")
        seen = np.asarray(image)
    assert np.array_equal(seen, to_model_input(decode(data), (28, 28)))
    said = json.loads((tmp_path / "feedback/pending" / record).read_text())
    assert (said["said"], said["version"]) == ("Sandal", "0.1.0")
    assert "my name" not in json.dumps(said)


def test_training_reads_back_the_pixels_that_were_kept(taking, tmp_path, mirror) -> None:
    """Real pictures, some of which have a bright border, which preparing turns round in others."""
    from stages.sources import _read_idx

    path = Path(mirror.removeprefix("file://")) / "t10k-images-idx3-ubyte.gz"
    pictures = _read_idx(path)[:PER_CLIENT]
    for picture in pictures:
        taking.take(picture, "Bag", "one")
    source = extra_folder(tmp_path / "feedback/pending", ("Trouser", "Sandal", "Bag"), 28)
    read, problems = source.read(np.arange(len(source.labels)))
    assert problems == []
    assert {picture.tobytes() for picture in read} == {picture.tobytes() for picture in pictures}


def test_a_slash_in_a_class_is_no_folder_of_its_own() -> None:
    assert feedback.folder_name("T-shirt/top") == "T-shirt-top"


@pytest.mark.parametrize(
    ("service", "expected"), [("atelier", "203.0.113.9"), ("", "10.0.0.1")], ids=["on Cloud Run", "elsewhere"]
)
def test_the_client_is_whom_the_front_names_and_not_whom_the_client_invents(monkeypatch, service, expected) -> None:
    monkeypatch.setenv("K_SERVICE", service)
    assert feedback.client("10.0.0.1", {"x-forwarded-for": "198.51.100.1, 203.0.113.9"}) == expected
