"""IAM: service accounts with their policies, and the pools and providers that take other people's tokens."""

from typing import Any

from tests.cloud.fake import Google, RefusedError, Request
from tests.cloud.fake.policies import Policies, version
from tests.cloud.fake.services import Services
from tests.cloud.fake.strict import masked, parsed

HOST = r"iam\.googleapis\.com"
BASE = r"/v1/projects/(?P<project>[^/]+)"
ACCOUNT = BASE + r"/serviceAccounts/(?P<address>[^/:]+)"
POOLS = BASE + r"/locations/global/workloadIdentityPools"
POOL = POOLS + r"/(?P<pool>[^/:]+)"
PROVIDERS = POOL + "/providers"
PROVIDER = PROVIDERS + r"/(?P<provider>[^/:]+)"
OIDC = {"issuerUri": str, "allowedAudiences": list, "jwksJson": str}
SHAPE = {
    "name": str,
    "displayName": str,
    "description": str,
    "disabled": bool,
    "attributeMapping": dict,
    "attributeCondition": str,
    "oidc": OIDC,
}
ROLES = {"roles/iam.serviceAccountUser", "roles/iam.workloadIdentityUser"}


class Iam:
    """One project's.

    Attributes:
        accounts: addresses of the service accounts.
        pools: by name; a deleted one stays for thirty days, in the state DELETED.
        providers: by pool and name.
    """

    def __init__(self, google: Google, services: Services, project: str) -> None:
        self.services = services
        self.project = project
        self.accounts: set[str] = set()
        self.pools: dict[str, Any] = {}
        self.providers: dict[str, Any] = {}
        self.policies = Policies(ROLES, self.accounts)
        google.route("GET", HOST, BASE + "/serviceAccounts", self.list_accounts)
        google.route("POST", HOST, BASE + "/serviceAccounts", self.create_account)
        google.route("POST", HOST, ACCOUNT + ":getIamPolicy", self.get_policy)
        google.route("POST", HOST, ACCOUNT + ":setIamPolicy", self.set_policy)
        google.route("POST", HOST, POOLS, self.create_pool)
        google.route("GET", HOST, POOL, self.get_pool)
        google.route("POST", HOST, POOL + ":undelete", self.undelete_pool)
        google.route("POST", HOST, PROVIDERS, self.create_provider)
        google.route("GET", HOST, PROVIDER, self.get_provider)
        google.route("PATCH", HOST, PROVIDER, self.patch_provider)
        google.route("POST", HOST, PROVIDER + ":undelete", self.undelete_provider)

    # Service accounts

    def list_accounts(self, request: Request, project: str) -> Any:
        self.services.need("iam")
        return {"accounts": [self.described(address) for address in sorted(self.accounts)]}

    def create_account(self, request: Request, project: str) -> Any:
        self.services.need("iam")
        body = parsed(request.body, accountId=str, serviceAccount={"displayName": str, "description": str})
        address = f"{body['accountId']}@{project}.iam.gserviceaccount.com"
        if address in self.accounts:
            raise RefusedError(409, "ALREADY_EXISTS", f"Service account {body['accountId']} already exists")
        self.accounts.add(address)
        return self.described(address)

    def described(self, address: str) -> Any:
        return {"name": f"projects/{self.project}/serviceAccounts/{address}", "email": address}

    def account(self, address: str) -> str:
        self.services.need("iam")
        if address not in self.accounts:
            raise RefusedError(404, "NOT_FOUND", f"Unknown service account {address}")
        return address

    def get_policy(self, request: Request, project: str, address: str) -> Any:
        return self.policies.get(self.account(address), version(request.query))

    def set_policy(self, request: Request, project: str, address: str) -> Any:
        body = parsed(request.body, policy=dict, updateMask=str)
        return self.policies.replace(self.account(address), body["policy"])

    # Other people's tokens

    def create_pool(self, request: Request, project: str) -> Any:
        name = request.query["workloadIdentityPoolId"]
        self.services.need("iam")
        if name in self.pools:
            raise RefusedError(409, "ALREADY_EXISTS", "Requested entity already exists")
        path = f"projects/{self.services.number}/locations/global/workloadIdentityPools/{name}"
        self.pools[name] = {**parsed(request.body, **SHAPE), "name": path, "state": "ACTIVE"}
        return self.done(self.pools[name])

    def get_pool(self, request: Request, project: str, pool: str) -> Any:
        self.services.need("iam")
        return self.found(self.pools, pool)

    def undelete_pool(self, request: Request, project: str, pool: str) -> Any:
        return self.undelete(self.get_pool(request, project, pool))

    def create_provider(self, request: Request, project: str, pool: str) -> Any:
        name = request.query["workloadIdentityPoolProviderId"]
        parent = self.get_pool(request, project, pool)
        if parent["state"] != "ACTIVE":
            raise RefusedError(400, "FAILED_PRECONDITION", "the pool is deleted")
        if name in self.providers:
            raise RefusedError(409, "ALREADY_EXISTS", "Requested entity already exists")
        body = parsed(request.body, **SHAPE)
        self.check(body)
        self.providers[name] = {**body, "name": f"{parent['name']}/providers/{name}", "state": "ACTIVE"}
        return self.done(self.providers[name])

    def get_provider(self, request: Request, project: str, pool: str, provider: str) -> Any:
        self.get_pool(request, project, pool)
        return self.found(self.providers, provider)

    def patch_provider(self, request: Request, project: str, pool: str, provider: str) -> Any:
        known = self.get_provider(request, project, pool, provider)
        changed = masked(parsed(request.body, **SHAPE), request.query["updateMask"])
        self.check({**known, **changed})
        known |= changed
        return self.done(known)

    def undelete_provider(self, request: Request, project: str, pool: str, provider: str) -> Any:
        return self.undelete(self.get_provider(request, project, pool, provider))

    def check(self, provider: Any) -> None:
        """What Google wants of a provider."""
        if "google.subject" not in provider.get("attributeMapping", {}):
            raise RefusedError(400, "INVALID_ARGUMENT", "attribute_mapping must map google.subject")
        if "githubusercontent" in provider["oidc"]["issuerUri"] and not provider.get("attributeCondition"):
            message = "The attribute condition must reference one of the provider's claims."
            raise RefusedError(400, "INVALID_ARGUMENT", message)

    def found(self, held: dict[str, Any], name: str) -> Any:
        if name not in held:
            raise RefusedError(404, "NOT_FOUND", "Requested entity was not found.")
        return held[name]

    def undelete(self, known: Any) -> Any:
        if known["state"] != "DELETED":
            raise RefusedError(400, "FAILED_PRECONDITION", "it is not deleted")
        known["state"] = "ACTIVE"
        return self.done(known)

    def done(self, made: Any) -> Any:
        return {"name": f"{made['name']}/operations/1", "done": True, "response": made}
