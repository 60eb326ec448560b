"""A real Prometheus collects from the real app, with the rules that are shipped: clean, changed pictures, gone."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.app import tiny_model
from tests.monitoring.test_rules import FOLDER, NAME, QUERIES, RULES
from tests.monitoring.watched import Prometheus, Service, collecting, needs_prometheus, until

pytestmark = [pytest.mark.slow, needs_prometheus]
CLEAN = np.stack(list(tiny_model.shapes().values()) * 10)  # a window of the tiny model


@dataclass(frozen=True)
class Watched:
    """The app and its Prometheus."""

    service: Service
    prometheus: Prometheus

    def send(self, pictures: np.ndarray) -> None:
        self.service.predict(pictures)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("live")
    service = Service()
    service.start(
        tiny_model.write(folder / "models"),
        TRAFFIC_DIR=str(folder / "traffic"),
        FEEDBACK_DIR=str(folder / "feedback"),
    )
    try:
        with collecting(service, folder, {"for: 2m": "for: 2s"}) as prometheus:
            yield Watched(service, prometheus)
    finally:
        service.close()


def test_clean_traffic_raises_nothing(watched: Watched) -> None:
    for _ in range(4):
        watched.send(CLEAN)
        time.sleep(1)
    until(lambda: watched.prometheus.value("sum(atelier_drift_windows_total)") == 4)
    time.sleep(2)
    assert watched.prometheus.firing() == set()
    assert watched.prometheus.value("sum(atelier_predictions_total)") == 4 * len(CLEAN)


def test_every_query_of_the_dashboard_and_the_rules_is_understood(watched: Watched) -> None:
    for expression in [*QUERIES, *(rule["expr"] for rule in RULES)]:
        watched.prometheus.ask("query", query=expression.replace("$__rate_interval", "1m"))
    # And what the app always tells has something to show.
    for expression in QUERIES:
        name = NAME.search(expression)
        if name and expression.replace(name[0], "") in ("", "sum(increase([1h]))", "sum by (route) (rate([1m]))"):
            found = watched.prometheus.ask("query", query=expression.replace("$__rate_interval", "1m"))
            assert found["result"], expression


def test_changed_pictures_raise_a_ticket_that_names_what_changed(watched: Watched) -> None:
    trousers = np.stack([tiny_model.shapes()["Trouser"]] * 30)
    watched.send(trousers)
    until(lambda: watched.prometheus.value('atelier_drift_alarm{feature="class shares"}') == 1)
    time.sleep(2)
    assert watched.prometheus.firing() == set()  # one window is not enough
    watched.send(trousers)
    found = until(watched.prometheus.firing)
    assert "AtelierDrift class shares" in found
    assert all(name.startswith("AtelierDrift ") for name in found)
    for _ in range(2):
        watched.send(CLEAN)
    until(lambda: not watched.prometheus.firing())


def test_an_app_that_is_gone_pages(watched: Watched) -> None:
    assert watched.service.stop() == 0
    until(lambda: watched.prometheus.firing() == {"AtelierDown"})
    until(lambda: watched.prometheus.ask("alerts")["alerts"][0]["state"] == "firing")
    assert watched.prometheus.ask("alerts")["alerts"][0]["labels"]["severity"] == "page"


def test_the_folder_is_what_the_handbook_says() -> None:
    assert {path.name for path in Path(FOLDER).iterdir()} == {
        "dashboard.json",
        "prometheus.yml",
        "rules.test.yml",
        "rules.yml",
    }
