"""The traffic log read back: what cannot be read, what is left out, and that what changed is found and named."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from app import drift
from app import traffic as writing
from app.classifier import Classifier
from deploy import drift_page, traffic
from deploy.gcloud import CloudError
from deploy.names import Names
from tests.app import tiny_model
from tests.cloud.conftest import GCP
from tests.conftest import ROOT

SHAPES = list(tiny_model.shapes().values())
CLEAN = np.stack(SHAPES * 10)  # a window of the tiny model
START = datetime(2026, 1, 1, tzinfo=UTC)
Parts = list[tuple[datetime, np.ndarray]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.write(tmp_path_factory.mktemp("watching") / "models")


@pytest.fixture(scope="module")
def classifier(models: Path) -> Classifier:
    return Classifier.from_directory(models)


@pytest.fixture(scope="module")
def reference(models: Path) -> drift.Reference:
    return drift.Reference.read(models / "reference.json")


def log(folder: Path, classifier: Classifier, parts: Parts, **changes: object) -> Path:
    """A folder as the app would have written it, each part at its time; `changes` go over the rows."""
    writer = writing.Traffic(classifier, "v1.2.0", CollectorRegistry(), folder=None)
    for when, pictures in parts:
        answered = writing._Answered(when.timestamp(), "abc", pictures, classifier.predict(pictures))
        rows = [row | changes for row in writer._measure([answered])]
        writing.write(folder / f"traffic-{when:%Y%m%dT%H%M%S}.000Z-{'0' * 8}.parquet", rows)
    writer.close()
    return folder


@pytest.mark.parametrize("text", ["", "7", "d", "0d", "-1d", "1y", "7 d", "1.5h", "999999d"])
def test_what_is_no_span_of_time_is_said(text: str) -> None:
    with pytest.raises(CloudError, match="a number with m, h, d or w, such as 7d"):
        traffic.since(text)


def test_spans() -> None:
    assert traffic.since("30m") == timedelta(minutes=30)
    assert traffic.since("2w") == timedelta(days=14)


def test_a_folder_without_a_log_is_said(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="holds no traffic log: the app writes it where TRAFFIC_DIR"):
        traffic.from_folder(str(tmp_path / "none"), START)


def test_a_damaged_file_is_named_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "traffic-20260101T000000.000Z-00000000.parquet").write_bytes(b"PAR1 half a file")
    with pytest.raises(CloudError, match="cannot be read"):
        traffic.from_folder(str(tmp_path), START)


def test_rows_before_the_span_are_left_out(tmp_path: Path, classifier: Classifier) -> None:
    parts = [(START + timedelta(days=day), CLEAN) for day in range(5)]
    folder = log(tmp_path / "log", classifier, parts)
    frame = traffic.from_folder(str(folder), START + timedelta(days=3))
    assert len(frame) == 2 * len(CLEAN)
    with pytest.raises(CloudError, match="no traffic log of that time"):
        traffic.from_folder(str(folder), START + timedelta(days=9))


def test_rows_of_another_model_are_left_out_and_counted(
    tmp_path: Path, classifier: Classifier, reference: drift.Reference
) -> None:
    log(tmp_path, classifier, [(START, CLEAN)])
    log(tmp_path, classifier, [(START + timedelta(hours=1), CLEAN[:7])], model="another")
    frame = traffic.from_folder(str(tmp_path), START)
    judged = traffic.judge(frame, reference, classifier)
    assert (judged.rows, judged.others) == (30, 7)
    with pytest.raises(CloudError, match="none of the 7 rows are of this model"):
        traffic.judge(frame[frame["model"] == "another"], reference, classifier)


def test_clean_traffic_is_no_change(tmp_path: Path, classifier: Classifier, reference: drift.Reference) -> None:
    folder = log(tmp_path, classifier, [(START + timedelta(hours=h), CLEAN) for h in range(40)])
    judged = traffic.judge(traffic.from_folder(str(folder), START), reference, classifier)
    assert (judged.alarms, judged.changed, judged.features) == (0, False, [])
    assert traffic.verdict(judged) == "no change: none of 40 windows lies beyond a threshold"
    assert all(before == pytest.approx(now, abs=1e-5) for before, now in judged.shares.values())


def test_too_few_pictures_are_no_verdict(tmp_path: Path, classifier: Classifier, reference: drift.Reference) -> None:
    folder = log(tmp_path, classifier, [(START, CLEAN[:10])])
    judged = traffic.judge(traffic.from_folder(str(folder), START), reference, classifier)
    assert "too few for one window" in traffic.verdict(judged)
    assert "What lies how far off" not in drift_page.render(judged, "v1")


def test_one_alarm_in_many_windows_is_chance_and_several_are_not(
    tmp_path: Path, classifier: Classifier, reference: drift.Reference
) -> None:
    trousers = np.stack([SHAPES[0]] * 30)
    parts = [(START + timedelta(hours=h), trousers if h == 7 else CLEAN) for h in range(40)]
    once = traffic.judge(traffic.from_folder(str(log(tmp_path / "1", classifier, parts)), START), reference, classifier)
    assert (once.alarms, once.changed) == (1, False)
    assert once.chance == pytest.approx(1 - 0.999**40)
    parts = [(when, trousers if h in (7, 8, 9) else CLEAN) for h, (when, _) in enumerate(parts)]
    more = traffic.judge(traffic.from_folder(str(log(tmp_path / "3", classifier, parts)), START), reference, classifier)
    assert more.changed
    assert more.features[0] == "class shares"


def test_the_task_writes_a_page_that_names_what_changed(
    tmp_path: Path, models: Path, classifier: Classifier, reference: drift.Reference
) -> None:
    now = datetime.now(UTC)
    parts = [(now - timedelta(hours=h), CLEAN if h > 20 else CLEAN // 2) for h in range(60, 0, -1)]
    folder = log(tmp_path / "log", classifier, parts)
    command = [sys.executable, "-m", "invoke", "drift", "--since", "3d", "--log", str(folder), "--models", str(models)]
    page = tmp_path / "out/drift.html"
    done = subprocess.run([*command, "--out", str(page)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("the pictures have changed: 20 of 60 windows")
    assert "brightness" in done.stdout
    text = page.read_text(encoding="utf-8")
    assert "The pictures have changed" in text
    assert "Day by day" in text
    assert "http" not in text.replace("http-equiv", "")  # nothing is loaded from anywhere


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--since", "soon"], "--since soon: a number with m, h, d or w, such as 7d"),
        (["--models", "nowhere"], "--models nowhere: there is no nowhere"),
        (["--log", "nowhere"], "nowhere holds no traffic log"),
    ],
)
def test_what_is_wrong_is_one_line(models: Path, words: list[str], said: str) -> None:
    given = words if "--models" in words else ["--models", str(models), *words]
    command = [sys.executable, "-m", "invoke", "drift", *given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_cloud_loggings_entries_are_the_same_rows(
    tmp_path: Path, classifier: Classifier, reference: drift.Reference
) -> None:
    writer = writing.Traffic(classifier, "v1.2.0", CollectorRegistry(), folder=None)
    rows = writer._measure([writing._Answered(START.timestamp(), "abc", CLEAN, classifier.predict(CLEAN))])
    writer.close()
    entries = [{"jsonPayload": {"message": "answered", "traffic": json.loads(json.dumps(row))}} for row in rows]

    class Told:
        def ask(self, argv: list[str]) -> object:
            assert argv == traffic.read_log(names, timedelta(hours=1))
            return entries

    names = Names.of(GCP)
    frame = traffic.from_cloud(Told(), names, timedelta(hours=1))  # type: ignore[arg-type]
    here = traffic.from_folder(str(log(tmp_path, classifier, [(START, CLEAN)])), START)
    assert np.allclose(
        traffic.judge(frame, reference, classifier).ratios, traffic.judge(here, reference, classifier).ratios, atol=1e-3
    )
