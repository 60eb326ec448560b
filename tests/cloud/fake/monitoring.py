"""Cloud Monitoring: alert policies, notification channels and uptime checks, read by Google's own protobufs.

And the metrics that Cloud Logging makes of logs, which policies read.
"""

import re
from collections.abc import Collection
from typing import Any

from tests.cloud.fake import Google, RefusedError, Request
from tests.cloud.fake.services import Services
from tests.cloud.fake.strict import parsed as shaped

HOST = r"monitoring\.googleapis\.com"
BASE = r"/v3/projects/(?P<project>[^/]+)"
# Of https://cloud.google.com/monitoring/api/metrics_gcp: those of Cloud Run that ours may name, and the check's.
METRICS = {
    "run.googleapis.com/request_count",
    "run.googleapis.com/container/instance_count",
    "monitoring.googleapis.com/uptime_check/check_passed",
}
PROMQL = re.compile(r"\b[a-z]\w*:\w+")  # quoted values have no colon
FILTER = re.compile(r'metric\.type\s*=\s*"([^"]+)"')
LOGS = r"/v2/projects/(?P<project>[^/]+)/metrics"
LOG_METRIC = {
    "name": str,
    "description": str,
    "filter": str,
    "valueExtractor": str,
    "labelExtractors": dict,
    "metricDescriptor": {"metricKind": str, "valueType": str, "unit": str, "name": str, "type": str},
    "bucketOptions": {"explicitBuckets": {"bounds": list}},
}
MESSAGES = {
    "alertPolicies": "AlertPolicy",
    "notificationChannels": "NotificationChannel",
    "uptimeCheckConfigs": "UptimeCheckConfig",
}


class Monitoring:
    """What one project has.

    Attributes:
        held: things by their whole names, as lists give them; of each kind by its collection.
        metrics: made of logs, by their names.
        writes: method and collection of every change that was accepted.
    """

    def __init__(self, google: Google, services: Services | None = None) -> None:
        self.services = services
        self.held: dict[str, dict[str, Any]] = {kind: {} for kind in MESSAGES}
        self.metrics: dict[str, Any] = {}
        self.writes: list[str] = []
        self.made = 0
        one = BASE + r"/(?P<kind>{})/(?P<number>[^/]+)".format("|".join(MESSAGES))
        for kind in MESSAGES:
            google.route("GET", HOST, BASE + f"/(?P<kind>{kind})", self.list_things)
            google.route("POST", HOST, BASE + f"/(?P<kind>{kind})", self.create)
        logging = r"logging\.googleapis\.com"
        google.route("GET", logging, LOGS, self.list_metrics)
        google.route("POST", logging, LOGS, self.set_metric)
        google.route("GET", logging, LOGS + "/(?P<name>[^/]+)", self.get_metric)
        google.route("PUT", logging, LOGS + "/(?P<name>[^/]+)", self.set_metric)
        google.route("DELETE", logging, LOGS + "/(?P<name>[^/]+)", self.delete_metric)
        google.route("GET", HOST, one, self.get)
        google.route("PATCH", HOST, one, self.patch)
        google.route("DELETE", HOST, one, self.delete)

    def list_things(self, request: Request, project: str, kind: str) -> Any:
        self.need()
        found = list(self.held[kind].values())
        for term in filter(None, request.query.get("filter", "").split(" AND ")):
            match = re.fullmatch(r'userLabels\.(\w+)="([^"]*)"', term)
            if not match:
                raise RefusedError(400, "INVALID_ARGUMENT", f"this stand-in reads no filter such as {term}")
            found = [thing for thing in found if thing.get("userLabels", {}).get(match[1]) == match[2]]
        return {kind: found}

    def get(self, request: Request, project: str, kind: str, number: str) -> Any:
        self.need()
        name = f"projects/{project}/{kind}/{number}"
        if name not in self.held[kind]:
            raise RefusedError(404, "NOT_FOUND", f"Cannot find {kind} {number}.")
        return self.held[kind][name]

    def create(self, request: Request, project: str, kind: str) -> Any:
        self.need()
        body = parsed(kind, request.body)
        if "name" in body or any("name" in condition for condition in body.get("conditions", [])):
            invalid("A name is given by Google, and may not be in what is new.")
        self.check(kind, body)
        self.made += 1
        number = f"{10**18 + self.made}"
        if kind == "uptimeCheckConfigs":  # the one whose number people see
            number = re.sub(r"\W+", "-", body["displayName"].lower()) + f"-x{self.made:04}"
        return self.keep("POST", kind, f"projects/{project}/{kind}/{number}", body)

    def patch(self, request: Request, project: str, kind: str, number: str) -> Any:
        known = self.get(request, project, kind, number)
        body = parsed(kind, request.body)
        mask = request.query.get("updateMask")
        if mask:  # the rest stays as it is
            fields = {re.sub(r"_(\w)", lambda m: m[1].upper(), field.split(".")[0]) for field in mask.split(",")}
            if unknown := fields - set(parsed(kind, known)) - set(body):
                invalid(f"updateMask: {', '.join(sorted(unknown))}")
            body = {key: value for key, value in known.items() if key not in fields} | {
                field: body[field] for field in fields if field in body
            }
        if body.get("monitoredResource") != known.get("monitoredResource"):
            invalid("monitored_resource cannot be changed.")
        mine = {condition["name"] for condition in known.get("conditions", [])}
        if lost := {c["name"] for c in body.get("conditions", []) if "name" in c} - mine:
            raise RefusedError(404, "NOT_FOUND", f"Cannot find condition {lost.pop()}.")
        self.check(kind, body)
        return self.keep("PATCH", kind, known["name"], body)

    def delete(self, request: Request, project: str, kind: str, number: str) -> Any:
        known = self.get(request, project, kind, number)
        others = [policy for policy in self.held["alertPolicies"].values() if policy is not known]
        if any(number in str(policy.get("conditions")) + str(policy.get("notificationChannels")) for policy in others):
            raise RefusedError(400, "FAILED_PRECONDITION", f"{number} is used by an alert policy.")
        del self.held[kind][known["name"]]
        self.writes.append(f"DELETE {kind}")
        return {}

    def keep(self, method: str, kind: str, name: str, body: Any) -> Any:
        """Keep a thing, with what Google adds to it."""
        body = {**body, "name": name}
        if kind == "alertPolicies":
            body |= {
                "creationRecord": {"mutateTime": "2026-11-25T00:00:00Z", "mutatedBy": "owner@example.com"},
                "mutationRecord": {"mutateTime": "2026-11-25T00:00:00Z", "mutatedBy": "owner@example.com"},
            }
            for place, condition in enumerate(body["conditions"]):
                condition.setdefault("name", f"{name}/conditions/{10**18 + len(self.writes) * 10 + place}")
            if "conditionMatchedLog" not in body["conditions"][0]:
                body["alertStrategy"] = {"notificationPrompts": ["OPENED", "CLOSED"], **body.get("alertStrategy", {})}
        if kind == "notificationChannels":
            body = {"enabled": True, **body}
        if kind == "uptimeCheckConfigs":
            body["httpCheck"] = {"requestMethod": "GET", **body["httpCheck"]}
            body["checkerType"] = "STATIC_IP_CHECKERS"
        self.held[kind][name] = parsed(kind, body)
        self.writes.append(f"{method} {kind}")
        return self.held[kind][name]

    def list_metrics(self, request: Request, project: str) -> Any:
        return {"metrics": list(self.metrics.values())}

    def get_metric(self, request: Request, project: str, name: str) -> Any:
        if name not in self.metrics:
            raise RefusedError(404, "NOT_FOUND", f"Metric {name} does not exist.")
        return self.metrics[name]

    def set_metric(self, request: Request, project: str, name: str = "") -> Any:
        body = shaped(request.body, **LOG_METRIC)
        if not name and body["name"] in self.metrics:
            raise RefusedError(409, "ALREADY_EXISTS", f"Metric {body['name']} already exists.")
        bounds = body["bucketOptions"]["explicitBuckets"]["bounds"]
        if bounds != sorted(set(bounds)) or body["metricDescriptor"]["valueType"] != "DISTRIBUTION":
            invalid("bounds rise, and are of a distribution.")
        kind = {"type": f"logging.googleapis.com/user/{body['name']}"}
        self.metrics[body["name"]] = body | {"metricDescriptor": body["metricDescriptor"] | kind}
        self.writes.append(f"{request.method} metrics")
        return self.metrics[body["name"]]

    def delete_metric(self, request: Request, project: str, name: str) -> Any:
        del self.metrics[self.get_metric(request, project, name)["name"]]
        return {}

    def need(self) -> None:
        if self.services:
            self.services.need("monitoring")

    # What Google looks at before it takes something

    def check(self, kind: str, body: Any) -> None:
        for key, value in body.get("userLabels", {}).items():
            if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", key) or not re.fullmatch(r"[a-z0-9_-]{0,63}", value):
                invalid(f"user_labels: {key}={value}")
        if not body.get("displayName"):
            invalid("display_name is empty.")
        {
            "alertPolicies": self.check_policy,
            "notificationChannels": self.check_channel,
            "uptimeCheckConfigs": self.check_uptime,
        }[kind](body)

    def check_policy(self, policy: Any) -> None:
        if policy.get("combiner") not in ("AND", "OR", "AND_WITH_MATCHING_RESOURCE"):
            invalid("combiner is missing.")
        conditions = policy.get("conditions", [])
        if not 1 <= len(conditions) <= 6:
            invalid("a policy has one to six conditions.")
        for channel in policy.get("notificationChannels", []):
            if channel not in self.held["notificationChannels"]:
                raise RefusedError(404, "NOT_FOUND", f"Cannot find notification channel {channel}.")
        strategy = policy.get("alertStrategy", {})
        logs = [condition for condition in conditions if "conditionMatchedLog" in condition]
        if logs and (len(conditions) > 1 or "notificationRateLimit" not in strategy):
            invalid("a log match is alone in its policy, and wants a notification_rate_limit.")
        if not logs and "notificationRateLimit" in strategy:
            invalid("only a log match has a notification_rate_limit.")
        if 0 < seconds(strategy.get("autoClose", "0s")) < 1800:
            invalid("auto_close is below 30 minutes.")
        for condition in conditions:
            made = {f"logging.googleapis.com/user/{name}" for name in self.metrics}
            if unknown := metrics(condition, made) - METRICS - made:
                raise RefusedError(404, "NOT_FOUND", f"Cannot find metric(s) that match type = {unknown.pop()!r}.")
            interval = condition.get("conditionPrometheusQueryLanguage", {}).get("evaluationInterval", "30s")
            if seconds(interval) % 30:
                invalid("evaluation_interval is no multiple of 30 seconds.")
            threshold = condition.get("conditionThreshold", {})
            for check in re.findall(r'check_id="([^"]+)"', threshold.get("filter", "")):
                if not any(name.endswith(f"/{check}") for name in self.held["uptimeCheckConfigs"]):
                    invalid(f"there is no uptime check {check}")
            if threshold and seconds(threshold.get("duration", "0s")) % 60:
                invalid("duration is no multiple of a minute.")

    def check_channel(self, channel: Any) -> None:
        if channel.get("type") != "email" or set(channel.get("labels", {})) != {"email_address"}:
            invalid("a channel of type email has the label email_address, and no other.")

    def check_uptime(self, check: Any) -> None:
        resource = check.get("monitoredResource", {})
        if resource.get("type") != "uptime_url" or set(resource["labels"]) != {"host", "project_id"}:
            invalid("an uptime_url has a host and a project_id.")
        if not re.fullmatch(r"[\w.-]+", resource["labels"]["host"]):
            invalid(f"host: {resource['labels']['host']}")
        if check.get("period") not in ("60s", "300s", "600s", "900s"):
            invalid(f"period: {check.get('period')}")
        if not 1 <= seconds(check.get("timeout", "0s")) <= 60:
            invalid(f"timeout: {check.get('timeout')}")
        if len(check.get("selectedRegions", [])) in (1, 2):
            invalid("selected_regions: at least three.")


def metrics(condition: Any, made: Collection[str] = ()) -> set[str]:
    """The types of metrics that a condition names, by Google's rule for names in PromQL.

    Args:
        made: types of metrics that are made of logs.
    """
    query = condition.get("conditionPrometheusQueryLanguage", {}).get("query", "")
    found = set(FILTER.findall(condition.get("conditionThreshold", {}).get("filter", "")))
    for name in PROMQL.findall(query):
        whole = {promql(known): known for known in METRICS}
        parts = {promql(known) + part: known for known in made for part in ("_bucket", "_count")}
        found.add({**whole, **parts}.get(name, name))
    return found


def promql(metric: str) -> str:
    """A metric's type as PromQL has it: the first slash becomes a colon, whatever else is no letter a line below."""
    domain, _, path = metric.partition("/")
    return re.sub(r"\W", "_", domain) + ":" + re.sub(r"\W", "_", path)


def parsed(kind: str, body: Any) -> Any:
    """The body as Google's own definition reads it: a key or a value that it does not know is refused."""
    from google.cloud import monitoring_v3  # takes a second to import
    from google.protobuf import json_format

    message = getattr(monitoring_v3, MESSAGES[kind])
    try:
        return json_format.MessageToDict(json_format.ParseDict(body, message.pb(message())))
    except json_format.ParseError as error:
        raise RefusedError(400, "INVALID_ARGUMENT", f"Invalid JSON payload received. {error}") from None


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def invalid(message: str) -> None:
    raise RefusedError(400, "INVALID_ARGUMENT", message)
