"""Artifact Registry's repositories: their clean-up policies, and who may push and pull."""

from typing import Any

from tests.cloud.fake import Google, RefusedError, Request
from tests.cloud.fake.policies import Policies, version
from tests.cloud.fake.services import Services
from tests.cloud.fake.strict import masked, parsed

HOST = r"artifactregistry\.googleapis\.com"
PLACE = r"/v1/projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)"
ONE = PLACE + r"/repositories/(?P<name>[^/:]+)"
CONDITION = {"tagState": str, "olderThan": str, "newerThan": str, "tagPrefixes": list, "packageNamePrefixes": list}
POLICY = {"id": str, "action": str, "condition": CONDITION, "mostRecentVersions": {"keepCount": int}}
SHAPE = {
    "name": str,
    "format": str,
    "description": str,
    "mode": str,
    "cleanupPolicies": dict,
    "cleanupPolicyDryRun": bool,
}
ROLES = {"roles/artifactregistry.reader", "roles/artifactregistry.writer"}


class Repositories:
    """The repositories of one project.

    Attributes:
        held: a repository, as its API gives it, by name.
    """

    def __init__(self, google: Google, services: Services, accounts: set[str]) -> None:
        self.services = services
        self.held: dict[str, Any] = {}
        self.policies = Policies(ROLES, accounts)
        google.route("GET", HOST, ONE, self.get)
        google.route("POST", HOST, PLACE + "/repositories", self.create)
        google.route("PATCH", HOST, ONE, self.patch)
        google.route("GET", HOST, PLACE + r"/operations/(?P<operation>[^/]+)", self.operation)
        google.route("GET", HOST, ONE + ":getIamPolicy", self.get_policy)
        google.route("POST", HOST, ONE + ":setIamPolicy", self.set_policy)

    def get(self, request: Request, project: str, region: str, name: str) -> Any:
        self.services.need("artifactregistry")
        if name not in self.held:
            raise RefusedError(404, "NOT_FOUND", "Requested entity was not found.")
        return self.held[name]

    def create(self, request: Request, project: str, region: str) -> Any:
        self.services.need("artifactregistry")
        name = request.query["repositoryId"]
        body = parsed(request.body, **SHAPE)
        if name in self.held:
            raise RefusedError(409, "ALREADY_EXISTS", "the repository already exists")
        self.held[name] = {**body, "name": f"projects/{project}/locations/{region}/repositories/{name}"}
        return {"name": f"projects/{project}/locations/{region}/operations/{name}"}

    def operation(self, request: Request, project: str, region: str, operation: str) -> Any:
        kind = "type.googleapis.com/google.devtools.artifactregistry.v1.Repository"
        response = {"@type": kind, **self.held[operation]}
        return {
            "name": f"projects/{project}/locations/{region}/operations/{operation}",
            "done": True,
            "response": response,
        }

    def patch(self, request: Request, project: str, region: str, name: str) -> Any:
        known = self.get(request, project, region, name)
        body = parsed(request.body, **SHAPE)
        for policy in body.get("cleanupPolicies", {}).values():
            parsed(policy, **POLICY)
            if policy["action"] not in ("KEEP", "DELETE"):
                raise RefusedError(400, "INVALID_ARGUMENT", f"action {policy['action']}")
            if policy.get("condition", {}).get("tagState", "ANY") not in ("ANY", "TAGGED", "UNTAGGED"):
                raise RefusedError(400, "INVALID_ARGUMENT", f"condition {policy['condition']}")
        changed = {**known, **masked(body, request.query["updateMask"])}
        # What is false or empty, Google leaves out.
        self.held[name] = {key: value for key, value in changed.items() if value}
        return self.held[name]

    def get_policy(self, request: Request, project: str, region: str, name: str) -> Any:
        self.get(request, project, region, name)
        return self.policies.get(name, version(request.query))

    def set_policy(self, request: Request, project: str, region: str, name: str) -> Any:
        self.get(request, project, region, name)
        return self.policies.replace(name, parsed(request.body, policy=dict)["policy"])
