"""Cloud Run's services and revisions: etags, generations, traffic that has to add up to a hundred, who may call."""

import copy
from typing import Any

from tests.cloud.fake import Google, RefusedError, Request
from tests.cloud.fake.policies import Policies, version

HOST = r"[a-z0-9-]+-run\.googleapis\.com"
BASE = r"/apis/serving\.knative\.dev/v1/namespaces/(?P<project>[^/]+)"
POLICY = r"/v1/projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)/services/(?P<name>[^/:]+)"


class Run:
    """The state of one region.

    Attributes:
        backends: address of the application behind an image, as a registry and a machine would give it.
        policies: who may call which service.
    """

    def __init__(self, google: Google, backends: dict[str, str]) -> None:
        self.backends = backends
        self.services: dict[str, Any] = {}
        self.revisions: list[Any] = []  # the newest first
        self.policies = Policies({"roles/run.invoker"}, set(), public=True)
        google.route("GET", r"run\.googleapis\.com", POLICY + ":getIamPolicy", self.get_policy)
        google.route("POST", r"run\.googleapis\.com", POLICY + ":setIamPolicy", self.set_policy)
        google.route("GET", HOST, BASE + r"/services/(?P<name>[^/]+)", self.get)
        google.route("POST", HOST, BASE + r"/services", self.create)
        google.route("PUT", HOST, BASE + r"/services/(?P<name>[^/]+)", self.put)
        google.route("GET", HOST, BASE + r"/revisions", self.list_revisions)

    def get(self, request: Request, project: str, name: str) -> Any:
        if name not in self.services:
            raise RefusedError(404, "NOT_FOUND", f"Resource '{name}' of kind 'SERVICE' does not exist")
        return self.services[name]

    def create(self, request: Request, project: str) -> Any:
        if request.body["metadata"]["name"] in self.services:
            raise RefusedError(409, "ALREADY_EXISTS", "it is there")
        return self.apply(request.body)

    def put(self, request: Request, project: str, name: str) -> Any:
        known = self.get(request, project, name)["metadata"]
        if request.body["metadata"].get("resourceVersion") != known["resourceVersion"]:
            raise RefusedError(409, "ABORTED", "Conflict: the version given is not the current one")
        return self.apply(request.body)

    def list_revisions(self, request: Request, project: str) -> Any:
        return {"apiVersion": "serving.knative.dev/v1", "kind": "RevisionList", "metadata": {}, "items": self.revisions}

    def get_policy(self, request: Request, project: str, region: str, name: str) -> Any:
        self.get(request, project, name)
        return self.policies.get(name, version(request.query))

    def set_policy(self, request: Request, project: str, region: str, name: str) -> Any:
        self.get(request, project, name)
        return self.policies.replace(name, request.body["policy"])

    def apply(self, body: Any) -> Any:
        body = copy.deepcopy(body)
        metadata, template = body["metadata"], body["spec"]["template"]
        known = self.services.get(metadata["name"])
        revision = template["metadata"]["name"]
        if revision not in [r["metadata"]["name"] for r in self.revisions]:
            image = template["spec"]["containers"][0]["image"]
            if image not in self.backends:
                raise RefusedError(400, "INVALID_ARGUMENT", f"Revision '{revision}': Image '{image}' not found.")
            labels = {**template["metadata"].get("labels", {}), "serving.knative.dev/service": metadata["name"]}
            made = {"name": revision, "labels": labels, "creationTimestamp": "2026-11-25T00:00:00Z"}
            status = {"conditions": [{"type": "Ready", "status": "True"}], "imageDigest": image}
            self.revisions.insert(0, {"metadata": made, "spec": template["spec"], "status": status})
        traffic = body["spec"]["traffic"]
        names = {r["metadata"]["name"]: r["spec"]["containers"][0]["image"] for r in self.revisions}
        if sum(entry.get("percent") or 0 for entry in traffic) != 100:
            raise RefusedError(400, "INVALID_ARGUMENT", "spec.traffic: the percents must add up to 100")
        if lost := [entry["revisionName"] for entry in traffic if entry["revisionName"] not in names]:
            raise RefusedError(400, "INVALID_ARGUMENT", f"spec.traffic: Revision '{lost[0]}' not found")
        tags = [entry["tag"] for entry in traffic if entry.get("tag")]
        if len(tags) != len(set(tags)):
            raise RefusedError(400, "INVALID_ARGUMENT", "spec.traffic: a tag is given twice")
        most = max(traffic, key=lambda entry: entry.get("percent") or 0)
        generation = known["metadata"]["generation"] + 1 if known else 1
        ready = [{"type": kind, "status": "True"} for kind in ("Ready", "ConfigurationsReady", "RoutesReady")]
        metadata |= {"generation": generation, "resourceVersion": f"etag{generation}", "uid": "u", "selfLink": "s"}
        metadata["creationTimestamp"] = "2026-11-25T00:00:00Z"
        backend = {name: self.backends[image] for name, image in names.items()}
        body["status"] = {
            "observedGeneration": generation,
            "conditions": ready,
            "latestReadyRevisionName": revision,
            "latestCreatedRevisionName": revision,
            "url": backend[most["revisionName"]],
            "traffic": [e | ({"url": backend[e["revisionName"]]} if e.get("tag") else {}) for e in traffic],
        }
        self.services[metadata["name"]] = body
        return body

    def shares(self, service: str = "atelier") -> dict[str, int]:
        """Percent of the traffic by revision."""
        found: dict[str, int] = {}
        for entry in self.services[service]["spec"]["traffic"]:
            found[entry["revisionName"]] = found.get(entry["revisionName"], 0) + (entry.get("percent") or 0)
        return {name: share for name, share in found.items() if share}
