"""A project in Google's cloud: all that `cloud-setup` asks for and makes."""

import json
from typing import Any

from deploy import access, resources
from deploy.names import Names
from tests.cloud.fake import Google
from tests.cloud.fake.iam import Iam
from tests.cloud.fake.policies import Policies
from tests.cloud.fake.projects import Projects
from tests.cloud.fake.repositories import Repositories
from tests.cloud.fake.services import Services
from tests.cloud.fake.storage import Buckets

NUMBER = "123456789"


class Everything:
    """Its parts, which share what they have to know of each other; empty at first."""

    def __init__(self, google: Google, names: Names) -> None:
        self.names = names
        self.services = Services(google, NUMBER)
        self.iam = Iam(google, self.services, names.project)
        self.projects = Projects(google, self.services, names.project, self.iam.accounts)
        self.buckets = Buckets(google, self.services, self.iam.accounts)
        self.repositories = Repositories(google, self.services, self.iam.accounts)

    def policies(self, place: access.Place) -> tuple[Policies, str]:
        """Where the roles on something are kept, and the name that it has there."""
        return {
            "project": (self.projects.policies, self.names.project),
            "bucket": (self.buckets.policies, place.name or self.names.bucket),
            "repository": (self.repositories.policies, self.names.repository),
            "account": (self.iam.policies, self.names.account(place.name)),
        }[place.kind]

    def granted(self) -> list[access.Grant]:
        """Of what is to be granted, what is."""
        return [grant for grant in access.grants(self.names, NUMBER) if self.has(grant)]

    def has(self, grant: access.Grant) -> bool:
        policies, name = self.policies(grant.on)
        return (access.member(self.names, grant), grant.role) in policies.granted(name)

    def others(self) -> set[tuple[str, str]]:
        """Member and role of what is granted and was not to be."""
        wanted = {(access.member(self.names, g), g.role) for g in access.grants(self.names, NUMBER)}
        kinds = (self.projects, self.buckets, self.repositories, self.iam)
        return {pair for kind in kinds for name in kind.policies.held for pair in kind.policies.granted(name)} - wanted

    def complete(self) -> None:
        """Have all there as an earlier set-up left it."""
        names, base = self.names, f"projects/{NUMBER}/locations/global/workloadIdentityPools/{access.POOL}"
        self.services.on |= set(resources.apis(names))
        self.iam.accounts |= {names.account(short) for short in (names.trainer, names.app, names.deployer)}
        lifecycle = json.loads(resources.LIFECYCLE.read_text(encoding="utf-8"))
        settings: dict[str, Any] = {
            "location": names.region,
            "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"},
            "versioning": {"enabled": True},
            "lifecycle": lifecycle,
        }
        for bucket in filter(None, (names.bucket, names.feedback)):
            self.buckets.put(bucket, settings)
        cleanup = json.loads(resources.CLEANUP.read_text(encoding="utf-8"))
        policies = {p["name"]: {**p, "id": p["name"], "action": p["action"]["type"].upper()} for p in cleanup}
        for policy in policies.values():
            del policy["name"]
            if "condition" in policy:
                policy["condition"] = policy["condition"] | {"tagState": policy["condition"]["tagState"].upper()}
        place = f"projects/{names.project}/locations/{names.region}/repositories/{names.repository}"
        self.repositories.held[names.repository] = {"name": place, "format": "DOCKER", "cleanupPolicies": policies}
        self.iam.pools[access.POOL] = {"name": base, "state": "ACTIVE"}
        self.iam.providers[resources.PROVIDER] = {
            "name": f"{base}/providers/{resources.PROVIDER}",
            "state": "ACTIVE",
            "oidc": {"issuerUri": resources.ISSUER},
            "attributeMapping": dict(resources.MAPPING),
            "attributeCondition": resources.condition(names),
        }
        for grant in access.grants(names, NUMBER):
            held, name = self.policies(grant.on)
            binding = {"role": grant.role, "members": [access.member(names, grant)]}
            held.held.setdefault(name, []).append(binding)
