"""The review of feedback: strangers are kept out, and every picture ends in the one place that was decided."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from deploy import review as module
from deploy.gcloud import CloudError
from deploy.review import Review, create
from deploy.watching_tasks import fetch

CLASSES = ("T-shirt/top", "Sandal", "Bag")
PORT = 7861


def send(folder: Path, name: str, number: int) -> str:
    """A picture as the app keeps it; returns what the page calls it."""
    place = folder / "pending" / name
    place.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((28, 28), number, np.uint8)).save(place / f"{number:016x}.png")
    (place / f"{number:016x}.json").write_text(json.dumps({"said": "Bag", "probability": 0.81}))
    return f"{name}/{number:016x}"


@pytest.fixture
def room(tmp_path: Path) -> Review:
    return Review(tmp_path / "feedback", tmp_path / "data/feedback", CLASSES)


@pytest.fixture
def client(room: Review) -> TestClient:
    return TestClient(create(room, PORT), base_url=f"http://127.0.0.1:{PORT}")


def token(client: TestClient) -> str:
    return re.search(r'name="token" value="([^"]+)"', client.get("/").text)[1]


def files(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def test_a_form_of_another_page_does_nothing(room: Review, client: TestClient) -> None:
    key = send(room.folder, "Sandal", 1)
    before = files(room.folder)
    for wrong in ({}, {"token": "guess"}):
        assert client.post("/", data={key: "reject", **wrong}).status_code == 403
    assert files(room.folder) == before


def test_a_name_that_was_led_here_sees_nothing(room: Review, client: TestClient) -> None:
    key = send(room.folder, "Sandal", 1)
    good = token(client)
    for host in ("evil.example", f"evil.example:{PORT}", f"127.0.0.1:{PORT + 1}"):
        assert client.get("/", headers={"host": host}).status_code == 403
        assert client.post("/", data={"token": good, key: "reject"}, headers={"host": host}).status_code == 403


def test_a_class_that_is_none_moves_nothing(room: Review, client: TestClient) -> None:
    key = send(room.folder, "Sandal", 1)
    answer = client.post("/", data={"token": token(client), key: "accept", f"{key}:class": "../../etc"})
    assert answer.status_code == 422
    assert not room.accepted.exists()


def test_a_folders_name_is_shown_as_text(room: Review, client: TestClient) -> None:
    send(room.folder, "<script>alert(1)<", 1)
    assert "<script>" not in client.get("/").text


def test_each_picture_goes_where_it_was_decided(room: Review, client: TestClient) -> None:
    wrong = send(room.folder, "Sandal", 1)
    right = send(room.folder, "T-shirt-top", 2)
    joke = send(room.folder, "Bag", 3)
    send(room.folder, "Bag", 4)
    decisions = {
        wrong: "accept",
        f"{wrong}:class": "Bag",  # neither the model nor the user was right
        right: "accept",
        f"{right}:class": "T-shirt/top",
        joke: "reject",
    }
    answer = client.post("/", data={"token": token(client), **decisions})
    assert answer.status_code == 200  # the page again
    assert "Waiting: 1." in answer.text
    assert files(room.accepted) == [f"Bag/{1:016x}.png", f"T-shirt-top/{2:016x}.png"]
    assert files(room.folder) == [
        *(f"pending/Bag/{4:016x}.{kind}" for kind in ("json", "png")),
        f"rejected/Bag/{3:016x}.png",
    ]
    assert room.counts() == {"T-shirt/top": (0, 1, 0), "Sandal": (0, 0, 0), "Bag": (1, 1, 1)}


def test_what_was_decided_is_not_asked_again_when_a_bucket_is_copied_anew(room: Review, client: TestClient) -> None:
    accepted, rejected = send(room.folder, "Sandal", 1), send(room.folder, "Bag", 2)
    decisions = {accepted: "accept", f"{accepted}:class": "Bag", rejected: "reject"}
    client.post("/", data={"token": token(client), **decisions})
    send(room.folder, "Sandal", 1)
    send(room.folder, "Bag", 2)
    assert list(room.waiting()) == []
    assert client.get("/").text.count("<fieldset>") == 0


def test_many_are_shown_some_at_a_time(room: Review, client: TestClient) -> None:
    for number in range(module.SHOWN + 5):
        send(room.folder, "Bag", number)
    text = client.get("/").text
    assert text.count("<fieldset>") == module.SHOWN
    assert f"Waiting: {module.SHOWN + 5}. The first {module.SHOWN} are shown." in text


def test_a_picture_without_its_record_is_shown_all_the_same(room: Review, client: TestClient) -> None:
    key = send(room.folder, "Bag", 1)
    (room.folder / "pending" / f"{key}.json").write_text("{half")
    text = client.get("/").text
    assert text.count("<fieldset>") == 1
    assert "The model said" not in text


def test_a_port_in_use_is_one_line(room: Review) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(CloudError, match="is in use"):
        module.serve(room, taken.getsockname()[1])


@pytest.mark.parametrize("source", ["feedback", "https://x/y", "gs://", "gs://bucket/a b", "gs://bucket/$(x)"])
def test_what_is_no_bucket_is_said(tmp_path: Path, source: str) -> None:
    with pytest.raises(CloudError, match="the address of a folder in a bucket"):
        fetch(source, tmp_path, dry_run=True)


def test_a_bucket_is_copied_by_gcloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch("gs://my-bucket/feedback/", tmp_path, dry_run=True)
    said = capsys.readouterr().out
    assert said.startswith("gcloud storage rsync --recursive gs://my-bucket/feedback/pending ")
