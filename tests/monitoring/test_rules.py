"""The rules, by the real promtool; and that rules, dashboard and handbook speak of the same things as the app."""

import json
import re
import shutil
import subprocess

import pytest
import yaml

from app import monitor
from app.classifier import Classifier
from app.feedback import Feedback
from app.traffic import Traffic
from app.watch import Metrics
from tests.app import tiny_model
from tests.conftest import ROOT

FOLDER = ROOT / "deploy/monitoring"
RULES = [
    rule
    for group in yaml.safe_load((FOLDER / "rules.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
PANELS = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
NAME = re.compile(r"\b((?:atelier|process)_\w+)")
needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="needs promtool: apt-get install prometheus, or its download"
)


@pytest.fixture(scope="module")
def exposed(tmp_path_factory) -> set[str]:
    """The names of all that the app can tell."""
    folder = tmp_path_factory.mktemp("monitoring")
    models = tiny_model.write(folder / "models")
    classifier = Classifier.from_directory(models)
    metrics = Metrics(classifier)
    assert not isinstance(monitor.create(models, classifier, metrics.registry), str)
    Feedback(folder / "feedback", classifier, "", metrics.registry)
    Traffic(classifier, "", metrics.registry, folder=folder / "traffic").close()
    return {
        name
        for family in metrics.registry.collect()
        for name in (family.name, *(f"{family.name}_{end}" for end in ("total", "bucket", "count", "sum")))
        if family.type != "gauge" or name == family.name
    }


@needs_promtool
@pytest.mark.parametrize(
    "words",
    [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "rules.yml"],
        pytest.param(["test", "rules", "rules.test.yml"], marks=pytest.mark.slow),
    ],
)
def test_promtool_is_content(words: list[str]) -> None:
    done = subprocess.run(["promtool", *words], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.slow
def test_each_alert_is_tried(tmp_path) -> None:
    """Without the alerts the rules' tests fail for each of them: they do ask that it fires."""
    rules = yaml.safe_load((FOLDER / "rules.yml").read_text(encoding="utf-8"))
    for group in rules["groups"]:
        group["rules"] = [rule for rule in group["rules"] if "record" in rule]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    shutil.copy(FOLDER / "rules.test.yml", tmp_path)
    done = subprocess.run(
        ["promtool", "test", "rules", "rules.test.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert set(re.findall(r"alertname: (\w+),", done.stdout + done.stderr)) == set(ALERTS)


def test_every_name_in_rules_and_dashboard_is_one_that_the_app_tells(exposed) -> None:
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    for expression in [*(rule["expr"] for rule in RULES), *QUERIES]:
        assert set(NAME.findall(expression)) <= exposed, expression
        assert set(re.findall(r"\batelier:[\w:]+", expression)) <= recorded, expression


def test_what_the_app_tells_of_itself_is_shown(exposed) -> None:
    """Nothing of the app's own is measured that nobody sees."""
    shown = {name for query in QUERIES for name in NAME.findall(query)}
    own = {re.sub(r"_(total|bucket|count|sum)$", "", name) for name in exposed if name.startswith("atelier_")}
    shown |= {name for rule in RULES for name in NAME.findall(rule["expr"])}
    assert own - {re.sub(r"_(total|bucket|count|sum)$", "", name) for name in shown} == set()


def test_every_alert_has_a_page_in_the_handbook() -> None:
    text = (ROOT / "docs/watching.md").read_text(encoding="utf-8")
    assert re.findall(r"^### (\w+)$", text, re.MULTILINE) == list(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook"] == f"docs/watching.md#{name.lower()}"
        kind = {"page": "*Page.*", "ticket": "*Ticket.*"}[rule["labels"]["severity"]]
        assert f"### {name}\n\n{kind}" in text
