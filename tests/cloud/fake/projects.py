"""Resource Manager: the project, and who has which role on all of it."""

from typing import Any

from tests.cloud.fake import Google, RefusedError, Request
from tests.cloud.fake.policies import Policies
from tests.cloud.fake.services import Services
from tests.cloud.fake.strict import parsed

HOST = r"cloudresourcemanager\.googleapis\.com"
BASE = r"/v1/projects/(?P<project>[a-z0-9-]+)"
ROLES = {
    "roles/owner",
    "roles/logging.logWriter",
    "roles/logging.viewer",
    "roles/serviceusage.serviceUsageConsumer",
    "roles/cloudbuild.builds.editor",
    "roles/aiplatform.user",
    "roles/run.developer",
}


class Projects:
    """One project that the caller may see.

    Attributes:
        state: ACTIVE or DELETE_REQUESTED.
    """

    def __init__(self, google: Google, services: Services, project: str, accounts: set[str]) -> None:
        self.services = services
        self.project = project
        self.state = "ACTIVE"
        self.policies = Policies(ROLES, accounts)
        google.route("GET", HOST, BASE, self.get)
        google.route("POST", HOST, BASE + ":getIamPolicy", self.get_policy)
        google.route("POST", HOST, BASE + ":setIamPolicy", self.set_policy)

    def get(self, request: Request, project: str) -> Any:
        self.services.need("cloudresourcemanager")
        if project != self.project:  # Google does not say whether there is one
            raise RefusedError(403, "PERMISSION_DENIED", "The caller does not have permission")
        known = {"projectId": project, "projectNumber": self.services.number, "lifecycleState": self.state}
        return {**known, "name": project, "createTime": "2026-11-25T00:00:00Z"}

    def get_policy(self, request: Request, project: str) -> Any:
        self.get(request, project)
        body = parsed(request.body, options={"requestedPolicyVersion": int})
        return self.policies.get(project, body["options"]["requestedPolicyVersion"])

    def set_policy(self, request: Request, project: str) -> Any:
        self.get(request, project)
        return self.policies.replace(project, parsed(request.body, policy=dict, updateMask=str)["policy"])
