"""Cloud Storage's buckets: their settings, and who may do what with their objects."""

from typing import Any

from tests.cloud.fake import Google, RefusedError, Request
from tests.cloud.fake.policies import Policies, version
from tests.cloud.fake.services import Services
from tests.cloud.fake.strict import parsed

HOST = r"storage\.googleapis\.com"
BASE = r"/storage/v1/b"
ONE = BASE + r"/(?P<name>[^/]+)"
SHAPE = {
    "name": str,
    "location": str,
    "storageClass": str,
    "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": bool}, "publicAccessPrevention": str},
    "versioning": {"enabled": bool},
    "lifecycle": {"rule": list},
}
CONDITIONS = {"age": int, "matchesPrefix": list, "daysSinceNoncurrentTime": int}
ROLES = {"roles/storage.objectUser", "roles/storage.legacyBucketReader", "roles/storage.legacyBucketOwner"}


class Buckets:
    """The buckets of the world.

    Attributes:
        held: a bucket, as its API gives it, by name.
        closed: names of strangers' buckets.
    """

    def __init__(self, google: Google, services: Services, accounts: set[str]) -> None:
        self.services = services
        self.held: dict[str, Any] = {}
        self.closed: set[str] = set()
        self.policies = Policies(ROLES, accounts)
        google.route("POST", HOST, BASE, self.create)
        google.route("GET", HOST, ONE, self.get)
        google.route("PATCH", HOST, ONE, self.patch)
        google.route("GET", HOST, ONE + "/iam", self.get_policy)
        google.route("PUT", HOST, ONE + "/iam", self.set_policy)

    def get(self, request: Request, name: str) -> Any:
        self.services.need("storage")
        if name in self.closed:
            denied = "Permission 'storage.buckets.get' denied on resource (or it may not exist)."
            message = f"somebody@example.com does not have storage.buckets.get access to the bucket. {denied}"
            raise RefusedError(403, "PERMISSION_DENIED", message)
        if name not in self.held:
            raise RefusedError(404, "NOT_FOUND", "The specified bucket does not exist.")
        return self.held[name]

    def create(self, request: Request) -> Any:
        self.services.need("storage")
        body = self.checked(request.body)
        if body["name"] in self.held:
            raise RefusedError(409, "ALREADY_EXISTS", "The requested bucket name is not available.")
        return self.put(body["name"], body)

    def put(self, name: str, settings: Any, number: str = "") -> Any:
        """Have a bucket there."""
        place = {"location": "US", "storageClass": "STANDARD", "projectNumber": number or self.services.number}
        known = {"kind": "storage#bucket", "id": name, "name": name, "metageneration": "1", **place}
        self.held[name] = {**known, **settings, "location": settings.get("location", "US").upper()}
        return self.held[name]

    def patch(self, request: Request, name: str) -> Any:
        known, body = self.get(request, name), self.checked(request.body)
        if body.get("name", name) != name:
            raise RefusedError(400, "INVALID_ARGUMENT", "a bucket keeps its name")
        iam = {**known.get("iamConfiguration", {}), **body.get("iamConfiguration", {})}
        self.held[name] = {**known, **body, **({"iamConfiguration": iam} if iam else {})}
        return self.held[name]

    def checked(self, body: Any) -> Any:
        """The body, if Google would take it."""
        for rule in parsed(body, **SHAPE).get("lifecycle", {}).get("rule", []):
            parsed(rule, action={"type": str}, condition=CONDITIONS)
            if rule["action"]["type"] not in ("Delete", "AbortIncompleteMultipartUpload"):
                raise RefusedError(400, "INVALID_ARGUMENT", f"action {rule['action']}")
        return body

    def get_policy(self, request: Request, name: str) -> Any:
        self.get(request, name)
        return self.said(name, self.policies.get(name, version(request.query)))

    def set_policy(self, request: Request, name: str) -> Any:
        self.get(request, name)
        policy = {key: value for key, value in request.body.items() if key not in ("kind", "resourceId")}
        return self.said(name, self.policies.replace(name, policy))

    def said(self, name: str, policy: Any) -> Any:
        return {"kind": "storage#policy", "resourceId": f"projects/_/buckets/{name}", **policy}
