"""A month in the life of a model: clean weeks, a week of changed pictures, feedback, a better model, and the way back.

All of it is real: the stages under DVC, the registry's tags in git, the app, its traffic log and feedback, the page of
the review, and Prometheus with the rules that are shipped. Only time is short: a day is a window of pictures.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from stages import sketches
from stages.corruptions import corrupt
from tests.conftest import commit
from tests.monitoring.watched import Prometheus, Service, collecting, free_port, needs_prometheus, png, until
from tests.project import Project
from tests.test_registry import identify, invoke, version

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), needs_prometheus]
DAY = 250  # pictures: a window
WEEK = 7
TOLD = 60  # pictures that users set right, which is what a minute takes
PARAMS = {"sketches": 6000, "val_fraction": 0.2, "width": 32, "epochs": 5, "batch_size": 64}
# A thousand drawings tell less than ten thousand photographs: of two runs alike one may be so much worse by chance.
GATE = {"accuracy": 0.03, "calibration": 0.02, "robustness": 0.03, "speed": 1.5, "significance": 0.01}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """v1.0.0 is prod, and its models/ lie there."""
    with pytest.MonkeyPatch.context() as patch:
        identify(patch)
        patch.setenv("BROWSER", "true")  # which opens nothing
        project = Project(tmp_path_factory.mktemp("month"), **PARAMS)
        names = project.folder / "invoke.yaml"
        names.write_text(yaml.safe_dump(yaml.safe_load(names.read_text(encoding="utf-8")) | {"gate": GATE}))
        project.dvc("repro")
        project.git("add", "--all")
        commit(project.folder)
        assert version(project, "--version", "v1.0.0") == "v1.0.0"
        invoke(project, "promote", "v1.0.0")
        yield project


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.close()


def test_a_month(project: Project, service: Service, tmp_path: Path) -> None:
    first, traffic = serve(project, service, "v1.0.0", tmp_path), tmp_path / "traffic"
    with collecting(service, tmp_path, {"for: 2m": "for: 5m"}) as prometheus:  # a new revision is no outage
        # Two weeks of what the model knows: no alarm, by any rule.
        for day in range(2 * WEEK):
            live(service, prometheus, drawn(seed=100 + day)[0], day + 1)
            assert prometheus.firing() == set()
        assert prometheus.value("sum(atelier_drift_alarms_total)") == 0

        # A week in which the lamp is broken: pale pictures. The alarm names what is other, and not what is as before.
        for day in range(2 * WEEK, 3 * WEEK):
            live(service, prometheus, pale(seed=100 + day)[0], day + 1)
        assert "AtelierDrift contrast" in until(prometheus.firing)
        assert "AtelierDrift brightness" not in prometheus.firing()
        assert "contrast" in service.ask("/drift")["windows"][-1]["alarms"]
        before = right(service, *pale(seed=1))
        assert before < 0.5

        # Users say what is right, somebody looks at it, and the next training takes it in.
        tell(service, *pale(seed=2, count=TOLD))
        review(project, tmp_path / "feedback")
        assert len(list((project.folder / "data/feedback").glob("*/*.png"))) == TOLD
        invoke(project, "check-data")
        assert "reports/evaluation/metrics.json" in retrain(project)
        assert version(project, "--bump", "minor") == "v1.1.0"

        # It passes the gate, becomes prod, and serves: better at what is new, no worse at what was.
        assert "v1.1.0 is prod in place of v1.0.0" in invoke(project, "promote", "v1.1.0")
        clean_before = right(service, *drawn(seed=3))
        service.stop()
        second = serve(project, service, "v1.1.0", tmp_path)
        assert second != first
        until(lambda: prometheus.value('count(atelier_model_info{version="v1.1.0"})') == 1)
        assert right(service, *pale(seed=1)) > before + 0.15
        assert right(service, *drawn(seed=3)) > clean_before - 0.03
        service.stop()

        # The last week is as the first ones, with a new lamp. Nothing goes on firing.
        serve(project, service, "v1.1.0", tmp_path)
        for day in range(WEEK):
            live(service, prometheus, drawn(seed=200 + day)[0], day + 1)
        until(lambda: not prometheus.firing())

        # Back again: promoting the older one needs no gate, and its commit has its files.
        assert "v1.0.0 was prod before and is again" in invoke(project, "promote", "v1.0.0")
        project.git("checkout", "--quiet", "model@v1.0.0")
        project.dvc("checkout")
        service.stop()
        assert serve(project, service, "v1.0.0", tmp_path) == first
        assert right(service, *pale(seed=1)) == before
        service.stop()

    # The log of all of it says the same, over all revisions.
    said = invoke(project, "drift", "--since", "1d", "--log", str(traffic), "--out", str(tmp_path / "drift.html"))
    assert "changed" in said
    assert "contrast" in said
    assert "contrast" in (tmp_path / "drift.html").read_text(encoding="utf-8")


def serve(project: Project, service: Service, name: str, folder: Path) -> str:
    """What `invoke deploy` starts, with models/ as they are; returns the model's hash."""
    service.start(
        project.folder / "models",
        MODEL_VERSION=name,
        TRAFFIC_DIR=str(folder / "traffic"),
        FEEDBACK_DIR=str(folder / "feedback"),
        K_SERVICE="atelier",  # as Cloud Run has it: who asks is told by its front
    )
    model = service.ask("/v1/model")
    assert model["version"] == name
    return str(model["sha256"])


def drawn(*, seed: int, count: int = DAY) -> tuple[np.ndarray, list[str]]:
    """Pictures that no training has seen, and their classes."""
    rng = np.random.default_rng([7, seed])
    labels = np.arange(count) % len(sketches.CLASSES)
    pictures = np.stack([sketches.draw(int(label), 28, rng) for label in labels])
    return pictures, [sketches.CLASSES[label] for label in labels]


def pale(*, seed: int, count: int = DAY) -> tuple[np.ndarray, list[str]]:
    pictures, names = drawn(seed=seed, count=count)
    return corrupt(torch.from_numpy(pictures), "contrast", 4, seed).numpy(), names


def live(service: Service, prometheus: Prometheus, pictures: np.ndarray, day: int) -> None:
    """A day's pictures, and Prometheus has seen it."""
    service.predict(pictures)
    until(lambda: prometheus.value("sum(atelier_drift_windows_total)") == day)


def right(service: Service, pictures: np.ndarray, names: list[str]) -> float:
    """The share of pictures that gets its class."""
    return float(np.mean([a == b for a, b in zip(service.predict(pictures), names, strict=True)]))


def tell(service: Service, pictures: np.ndarray, names: list[str]) -> None:
    """Users, ten pictures each, say what is right."""
    for number, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        query = urllib.parse.urlencode({"class": name})
        who = {"content_type": "image/png", "x_forwarded_for": f"203.0.113.{number // 10}"}
        assert service.ask(f"/v1/feedback?{query}", png(picture), **who)["class"] == name


def review(project: Project, feedback: Path) -> None:
    """Accept all of it on the page of `invoke feedback --review`."""
    port = free_port()
    address = f"http://127.0.0.1:{port}/"
    command = ["invoke", "feedback", "--review", "--folder", str(feedback), "--port", str(port)]
    with subprocess.Popen([sys.executable, "-m", *command], cwd=project.folder, env=os.environ) as page:
        try:
            until(lambda: opened(address))
            decided = 0
            while keys := re.findall(r'type="radio" name="([^"]+)" value="accept"', text := opened(address)):
                form = {"token": re.search(r'name="token" value="([^"]+)"', text)[1]}
                for key in keys:
                    form |= {key: "accept", f"{key}:class": chosen(text, key)}
                urllib.request.urlopen(address, urllib.parse.urlencode(form).encode(), timeout=30).close()
                decided += len(keys)
            assert decided == TOLD
            assert "Nothing waits." in opened(address)
        finally:
            page.send_signal(signal.SIGINT)


def opened(address: str) -> str:
    with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=10) as page:
        return page.read().decode()
    return ""


def chosen(text: str, key: str) -> str:
    """What the page proposes: the class that the user said."""
    options = re.search(rf'<select name="{re.escape(key)}:class".*?</select>', text, re.DOTALL)[0]
    return re.search(r"<option selected>([^<]+)", options)[1]


def retrain(project: Project) -> str:
    """As docs/feedback.md has it; returns what it gained or cost."""
    project.dvc("repro")
    gained = project.dvc("metrics", "diff")
    project.git("add", "data/feedback", "dvc.lock")
    commit(project.folder)
    return gained
