"""The alerting policies: whether Google would take them, and when their queries are met, by the real Prometheus."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.drift import NAMES
from deploy import alerts
from deploy.gcloud import CloudError
from deploy.names import Names
from tests.cloud.fake.monitoring import METRICS, metrics, parsed
from tests.conftest import ROOT

ALERTS = ["drift", "error-burst", "fast-burn", "instances", "slow-burn", "uptime"]
PROMTOOL = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, of Prometheus, is not on the PATH")


@pytest.fixture
def policies(names: Names) -> dict[str, dict[str, Any]]:
    return alerts.policies(names, "atelier-readyz-x0001")


def test_every_policy_is_one_by_googles_own_definition(policies):
    assert list(policies) == ALERTS
    for policy in policies.values():
        parsed("alertPolicies", policy)  # refuses what it does not know
        assert "docs/" in policy["documentation"]["content"]
        assert len(policy["documentation"]["content"]) < 8192


def test_every_metric_is_one_that_google_has_or_that_is_made(names, policies):
    made = f"logging.googleapis.com/user/{alerts.metric(names)['name']}"
    conditions = [condition for policy in policies.values() for condition in policy["conditions"]]
    assert set().union(*(metrics(condition, [made]) for condition in conditions)) == {*METRICS, made}


def test_a_metric_that_google_does_not_have_is_seen():
    query = 'sum(rate(run_googleapis_com:request_counts{response_code_class="5xx"}[5m])) > 1'
    assert metrics({"conditionPrometheusQueryLanguage": {"query": query}}) == {"run_googleapis_com:request_counts"}


@pytest.mark.parametrize(("most", "enabled"), [(1, False), (2, True)])
def test_one_instance_of_one_is_no_alarm(names, most, enabled):
    made = alerts.policies(names.model_copy(update={"max_instances": most}), "x")
    assert made["instances"]["enabled"] is enabled


@pytest.mark.parametrize("feature", NAMES)
def test_the_drift_alert_reads_the_line_that_the_app_writes(policies, feature):
    """The line as app/monitor.py has it."""
    source = (ROOT / "app/monitor.py").read_text(encoding="utf-8")
    form = re.search(r'log\.warning\("(Drift in .*?)"', source)
    assert form
    line = form[1] % (250, f"sharpness, {feature}", feature)
    condition = policies["drift"]["conditions"][0]["conditionMatchedLog"]
    match = re.search(r'jsonPayload\.message=~"([^"]+)"', condition["filter"])
    extractor = re.search(r'REGEXP_EXTRACT\(jsonPayload\.message, "([^"]+)"\)', condition["labelExtractors"]["feature"])
    assert match
    assert extractor
    assert re.search(match[1], line)
    assert re.findall(extractor[1], line) == [feature]
    assert not re.search(match[1], "A window could not be tested for drift.")


@pytest.mark.parametrize(
    ("wanted", "found", "same"),
    [
        ({"a": 1}, {"a": 1.0, "b": 2}, True),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, False),
        ({"a": {"b": 1}}, {"a": None}, False),
        ({"a": 1}, {}, False),
        ([1], [1, 2], False),
        ([{"a": 1}], [{"a": 1, "name": "x"}], True),
        ([1], None, False),
    ],
)
def test_what_google_adds_is_no_difference(wanted, found, same):
    assert alerts.fits(wanted, found) is same


@pytest.mark.parametrize(
    "email", ["night", "night@example", "a@b.example,c@d.example", "a b@c.example", "a=b@c.example"]
)
def test_what_is_no_address_is_refused(email):
    with pytest.raises(CloudError, match="is no address such as") as error:
        alerts.checked(email)
    assert "\n" not in str(error.value)


# What the queries say, by Prometheus's own tool: a service of some requests a minute, of which some fail or are slow


HEALTHY = 12  # hours before the trouble begins


def series(*, failed: float, slow: float, rate: float, hours: int, quiet: int = 0) -> list[dict[str, str]]:
    """Counters of a service with so many requests a minute, of which these shares go wrong for some hours.

    Hours of health lie before, and `quiet` ones after. A sample a minute.
    """
    these = 'monitored_resource="cloud_run_revision",service_name="atelier",location="europe-west1"'
    count, seconds = "run_googleapis_com:request_count", "logging_googleapis_com:user_atelier_latency"
    # By the name of a series: what it counts a minute in health, and in trouble.
    counters = {
        f'{count}{{{these},response_code_class="2xx"}}': (rate, rate * (1 - failed)),
        f'{count}{{{these},response_code_class="5xx"}}': (0, rate * failed),
        # Another service of the project, where all fails.
        f'{count}{{{these.replace("atelier", "other")},response_code_class="5xx"}}': (1000, 1000),
    }
    counters[f"{seconds}_count{{{these}}}"] = (rate, rate * (1 - failed))
    for bound, share in (("0.2", 1 - slow), ("0.25", 1 - slow), ("2.5", 1.0), ("+Inf", 1.0)):
        counters[f'{seconds}_bucket{{{these},le="{bound}"}}'] = (rate, rate * (1 - failed) * share)
    made = []
    for name, (well, ill) in counters.items():
        start, parts = 0.0, []
        for step, length in ((well, HEALTHY), (ill, hours), (well, quiet)):
            if length:
                parts.append(f"{start:.9g}+{step:.9g}x{length * 60 - 1}")
            start += step * length * 60
        made.append({"series": name, "values": " ".join(parts)})
    return made


def fires(tmp_path: Path, policy: dict[str, Any], data: list[dict[str, str]], hours: int) -> set[str]:
    """The conditions that are met then."""
    queries = [c["conditionPrometheusQueryLanguage"]["query"] for c in policy["conditions"]]
    names = [f"condition{place}" for place in range(len(queries))]
    rules = [{"alert": name, "expr": query} for name, query in zip(names, queries, strict=True)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "policy", "rules": rules}]}))
    met = set()
    for name, condition in zip(names, policy["conditions"], strict=True):
        # An alert that is expected and does not fire is a failure of the tool's test, and the reverse.
        test = {"eval_time": f"{HEALTHY + hours}h", "alertname": name, "exp_alerts": []}
        tests = {"interval": "1m", "input_series": data, "alert_rule_test": [test]}
        content = {"rule_files": ["rules.yaml"], "evaluation_interval": "1h", "tests": [tests]}
        (tmp_path / "test.yaml").write_text(yaml.safe_dump(content))
        done = subprocess.run(
            ["promtool", "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0 or "got:" in said, said
        if done.returncode:
            met.add(condition["displayName"])
    return met


FAIL, SLOW = "answers fail", "REST answers are slow"


@PROMTOOL
@pytest.mark.parametrize(
    ("alert", "service", "hours", "met"),
    [
        ("fast-burn", {"failed": 0.0, "slow": 0.0, "rate": 60}, 2, set()),
        ("fast-burn", {"failed": 0.07, "slow": 0.0, "rate": 60}, 2, set()),  # 14 times, not for long
        ("fast-burn", {"failed": 0.08, "slow": 0.0, "rate": 60}, 2, {FAIL}),
        ("fast-burn", {"failed": 0.04, "slow": 0.0, "rate": 60}, 7, {FAIL}),  # 8 times, for six hours
        ("fast-burn", {"failed": 0.02, "slow": 0.0, "rate": 60}, 7, set()),
        ("fast-burn", {"failed": 0.0, "slow": 0.08, "rate": 60}, 2, {SLOW}),
        ("fast-burn", {"failed": 0.0, "slow": 0.02, "rate": 60}, 7, set()),
        ("fast-burn", {"failed": 1.0, "slow": 0.0, "rate": 60}, 2, {FAIL}),
        ("fast-burn", {"failed": 0.5, "slow": 0.5, "rate": 1}, 2, set()),  # sixty answers an hour say nothing
        ("slow-burn", {"failed": 0.004, "slow": 0.004, "rate": 60}, 73, set()),
        ("slow-burn", {"failed": 0.006, "slow": 0.0, "rate": 60}, 73, {FAIL}),
        ("slow-burn", {"failed": 0.0, "slow": 0.006, "rate": 60}, 73, {SLOW}),
        ("slow-burn", {"failed": 0.5, "slow": 0.5, "rate": 1}, 73, set()),
        ("error-burst", {"failed": 0.01, "slow": 0.0, "rate": 60}, 1, set()),
        ("error-burst", {"failed": 1.0, "slow": 0.0, "rate": 3}, 1, {"more than 10 answers failed in 5 minutes"}),
    ],
)
def test_when_a_query_is_met(tmp_path, policies, alert, service, hours, met):
    assert fires(tmp_path, policies[alert], series(**service, hours=hours), hours) == met


@PROMTOOL
@pytest.mark.parametrize(("alert", "quiet"), [("fast-burn", 1), ("slow-burn", 7)])
def test_what_is_over_is_told_no_more(tmp_path, policies, alert, quiet):
    """An hour in which half goes wrong, and then health: the long window remembers, the short one does not."""
    data = series(failed=0.5, slow=0.5, rate=600, hours=1, quiet=quiet)
    assert fires(tmp_path, policies[alert], data, 1) == {FAIL, SLOW}
    assert fires(tmp_path, policies[alert], data, 1 + quiet) == set()


@PROMTOOL
@pytest.mark.parametrize(("active", "met"), [(2, False), (3, True)])
def test_instances_near_the_maximum(tmp_path, policies, active, met):
    these = 'monitored_resource="cloud_run_revision",service_name="atelier",location="europe-west1"'
    data = [
        {"series": f'run_googleapis_com:container_instance_count{{{these},state="active"}}', "values": f"{active}x900"},
        {"series": f'run_googleapis_com:container_instance_count{{{these},state="idle"}}', "values": "3x900"},
    ]
    assert bool(fires(tmp_path, policies["instances"], data, 1)) is met
