"""Service Usage: which APIs are on. What is off, the other fakes refuse to do."""

from typing import Any

from tests.cloud.fake import Google, RefusedError, Request
from tests.cloud.fake.strict import parsed

HOST = r"serviceusage\.googleapis\.com"
BASE = r"/v1/projects/(?P<project>[^/]+)/services"
# On in every new project; the others are asked for.
AT_FIRST = ("cloudresourcemanager", "serviceusage", "storage", "logging")


class Services:
    """The APIs of one project.

    Attributes:
        on: those that are on.
        billing: whether there is a billing account, without which most cannot be turned on.
        lag: how many calls of an API are still refused after it was turned on.
    """

    def __init__(self, google: Google, number: str) -> None:
        self.number = number
        self.on = {f"{api}.googleapis.com" for api in AT_FIRST}
        self.billing = True
        self.lag: dict[str, int] = {}
        google.route("GET", HOST, BASE, self.list_services)
        google.route("POST", HOST, BASE + ":batchEnable", self.enable)
        google.route("POST", HOST, BASE + r"/(?P<api>[^/:]+):enable", self.enable_one)

    def list_services(self, request: Request, project: str) -> Any:
        if request.query.get("filter") != "state:ENABLED":
            raise RefusedError(400, "INVALID_ARGUMENT", f"filter {request.query.get('filter')}")
        base = f"projects/{self.number}/services"
        found = [{"name": f"{base}/{n}", "config": {"name": n}, "state": "ENABLED"} for n in sorted(self.on)]
        return {"services": found}

    def enable(self, request: Request, project: str) -> Any:
        return self.turn_on(parsed(request.body, serviceIds=list)["serviceIds"])

    def enable_one(self, request: Request, project: str, api: str) -> Any:
        return self.turn_on([api])

    def turn_on(self, wanted: list[str]) -> Any:
        if len(wanted) > 20:
            raise RefusedError(400, "INVALID_ARGUMENT", "at most 20 services at a time")
        if not self.billing:
            message = (
                f"Billing account for project '{self.number}' is not found. Billing must be enabled for activation of "
                f"service(s) '{','.join(wanted)}' to proceed."
            )
            raise RefusedError(400, "FAILED_PRECONDITION", message)
        self.on |= set(wanted)
        return {"name": "operations/acf.p2-1", "done": True, "response": {}}

    def need(self, api: str) -> None:
        """Refuse as Google does where an API is off, or was turned on a moment ago."""
        name = f"{api}.googleapis.com"
        late = self.lag.get(api, 0)
        if name in self.on and not late:
            return
        if name in self.on:
            self.lag[api] = late - 1
        message = (
            f"{api} API has not been used in project {self.number} before or it is disabled. Enable it by visiting "
            f"https://console.developers.google.com/apis/api/{name}/overview?project={self.number} then retry. If you "
            "enabled this API recently, wait a few minutes for the action to propagate to our systems and retry."
        )
        details = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "SERVICE_DISABLED",
            "domain": "googleapis.com",
            "metadata": {"service": name, "consumer": f"projects/{self.number}"},
        }
        raise RefusedError(403, "PERMISSION_DENIED", message, [details])
