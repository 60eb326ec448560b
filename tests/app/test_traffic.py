"""The traffic log: what cannot be written is counted and costs no answer; what can be is all there."""

import contextlib
import io
import json
import threading
from pathlib import Path

import fastparquet
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from prometheus_client import CollectorRegistry

from app import drift, traffic
from app.classifier import Classifier
from app.main import Settings, StartError, create_app
from app.traffic import Traffic
from tests.app import tiny_model

SHAPES = np.stack(list(tiny_model.shapes().values()))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "TICK", 0.01)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def made(classifier: Classifier, registry: CollectorRegistry, tmp_path: Path):
    """Makes traffic logs, and closes them."""
    logs = []

    def make(**options) -> Traffic:
        logs.append(Traffic(classifier, "v1.2.0", registry, **{"folder": tmp_path / "log", **options}))
        return logs[-1]

    yield make
    for log in logs:
        log.close()


def read(folder: Path):
    return fastparquet.ParquetFile([str(file) for file in sorted(folder.glob(traffic.NAME))]).to_pandas()


def counted(registry: CollectorRegistry, name: str) -> float:
    return registry.get_sample_value(f"atelier_traffic_{name}_total") or 0.0


def test_a_slow_disk_costs_rows_and_no_answer(made, classifier, registry, monkeypatch) -> None:
    gate, entered = threading.Event(), threading.Event()

    def slow(*_: object) -> None:
        entered.set()
        assert gate.wait(30)

    monkeypatch.setattr(traffic, "write", slow)
    monkeypatch.setattr(traffic, "ROWS", 1)
    log = made()
    said = classifier.predict(SHAPES)
    log.observe(SHAPES, said, "first")
    assert entered.wait(10)
    # Each of these returns while the disk still does not; were they to wait, this would never end.
    for _ in range(2 * traffic.WAITING // len(SHAPES)):
        log.observe(SHAPES, said, "more")
    assert log._waiting <= traffic.WAITING
    assert counted(registry, "rows_dropped") >= traffic.WAITING - len(SHAPES)
    gate.set()


def test_a_disk_that_fails_is_said_and_the_next_rows_are_written(
    made, classifier, registry, monkeypatch, caplog, tmp_path
) -> None:
    written = traffic.write
    failed = threading.Event()

    def fails_once(*arguments: object) -> None:
        if not failed.is_set():
            failed.set()
            raise OSError(28, "No space left on device")
        written(*arguments)

    monkeypatch.setattr(traffic, "write", fails_once)
    monkeypatch.setattr(traffic, "ROWS", 1)
    log = made()
    log.observe(SHAPES, classifier.predict(SHAPES), "lost")
    assert failed.wait(10)
    while not counted(registry, "rows_dropped"):
        threading.Event().wait(0.01)
    log.observe(SHAPES, classifier.predict(SHAPES), "kept")
    log.close()
    assert set(read(tmp_path / "log")["request_id"]) == {"kept"}
    assert counted(registry, "rows_dropped") == counted(registry, "rows") == 3
    assert "The traffic log cannot be written; 3 rows are lost." in caplog.text


def test_the_oldest_files_go_when_the_folder_is_full(made, classifier, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(traffic, "ROWS", 1)
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "notes.txt").write_text("not ours")
    for day in (1, 2, 3):
        (folder / f"traffic-2026010{day}T000000.000Z-aaaaaaaa.parquet").write_bytes(bytes(40_000))
    log = made(max_bytes=100_000)
    log.observe(SHAPES, classifier.predict(SHAPES), "new")
    log.close()
    left = sorted(file.name[:16] for file in folder.glob(traffic.NAME))
    assert left[0] == "traffic-20260102"  # the first is gone
    assert len(left) == 3
    assert (folder / "notes.txt").exists()


def test_a_row_says_what_was_asked_and_answered(made, classifier, tmp_path) -> None:
    log = made()
    log.observe(SHAPES, classifier.predict(SHAPES), "abc")
    log.close()
    frame = read(tmp_path / "log")
    said = classifier.predict(SHAPES)
    measured = drift.measure(SHAPES, said, classifier.threshold)
    assert frame["class"].tolist() == list(tiny_model.CLASS_NAMES)
    assert set(frame["request_id"]) == {"abc"}
    assert set(frame["version"]) == {"v1.2.0"}
    assert set(frame["model"]) == {classifier.sha256}
    for name in drift.ORDERED:
        assert np.allclose(frame[name], measured.ordered[name], atol=1e-6)
    assert frame["label_set_size"].tolist() == measured.sizes.tolist()
    projections = frame[[f"projection_{d}" for d in range(8)]].to_numpy()
    assert np.allclose(projections, said.projections, atol=1e-5)
    assert str(frame["time"].dtype).startswith("datetime64")
    assert "picture" not in frame


def test_pictures_are_kept_only_where_that_is_asked_for(made, classifier, tmp_path) -> None:
    log = made(keep_pictures=True)
    log.observe(SHAPES, classifier.predict(SHAPES), "abc")
    log.close()
    kept = [np.asarray(Image.open(io.BytesIO(data))) for data in read(tmp_path / "log")["picture"]]
    assert np.array_equal(kept, SHAPES)


def test_no_half_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: str, *_: object, **__: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(fastparquet, "write", broken)
    with pytest.raises(OSError, match="full"):
        traffic.write(tmp_path / "traffic-1.parquet", [{"time": traffic.stamp(0)}])
    assert list(tmp_path.iterdir()) == []


def test_the_request_of_a_row_is_the_one_that_was_answered(models, classifier, tmp_path, encode) -> None:
    settings = Settings(model_dir=models, page=False, traffic_dir=tmp_path / "log")
    with contextlib.ExitStack() as ending, TestClient(create_app(settings, classifier, ending=ending)) as client:
        small, large = encode(SHAPES[0]), encode(Image.fromarray(SHAPES[1]).resize((300, 300)), "BMP")
        for name, data in (("small", small), ("large", large)):  # at once, and in the worker's turn
            answer = client.post("/v1/predict", files={"files": data}, headers={"x-request-id": name})
            assert answer.status_code == 200
        client.post("/v1/predict", content=b"no picture", headers={"content-type": "image/png"})
    frame = read(tmp_path / "log")
    assert dict(zip(frame["request_id"], frame["class"], strict=True)) == {"small": "Trouser", "large": "Sandal"}


def test_lines_are_json_that_cloud_logging_reads(made, classifier, registry, capsys) -> None:
    log = made(folder=None, lines=True)
    log.observe(SHAPES[:1], classifier.predict(SHAPES[:1]), "abc")
    log.close()
    (line,) = capsys.readouterr().out.splitlines()
    entry = json.loads(line)
    assert entry["severity"] == "INFO"
    assert entry["traffic"]["class"] == "Trouser"
    assert entry["traffic"]["request_id"] == "abc"
    assert counted(registry, "rows") == 1


def test_a_folder_that_cannot_be_made_ends_the_start(models, classifier, tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    for name in ("traffic_dir", "feedback_dir"):
        settings = Settings(model_dir=models, page=False, **{name: tmp_path / "file/log"})
        with pytest.raises(StartError, match=rf"^{name.upper()} is .*, which cannot be written to: "):
            create_app(settings, classifier)
