"""Policies as Google keeps them: an etag that has to be the newest, members and roles that have to exist."""

import re
from collections.abc import Collection
from typing import Any

from tests.cloud.fake import RefusedError

MEMBERS = re.compile(
    r"allUsers|user:[^@\s]+@[^@\s]+|serviceAccount:[^@\s]+@[^@\s]+"
    r"|principalSet://iam\.googleapis\.com/projects/\d+/locations/global/workloadIdentityPools/[\w-]+/attribute\..+"
)
AGAIN = "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff."
CONCURRENT = RefusedError(409, "ABORTED", AGAIN)


class Policies:
    """The policies of one kind of thing.

    Attributes:
        roles: that can be granted on it.
        accounts: addresses of the service accounts that exist; it may grow.
        held: bindings, by the thing's name.
        writes: how often each was written: the etag.
    """

    def __init__(self, roles: Collection[str], accounts: Collection[str], public: bool = False) -> None:
        self.roles = roles
        self.accounts = accounts
        self.public = public
        self.held: dict[str, list[Any]] = {}
        self.writes: dict[str, int] = {}

    def get(self, name: str, version: int) -> Any:
        """The policy, as a caller gets it who knows policies of a version."""
        bindings = self.held.get(name, [])
        conditions = any("condition" in binding for binding in bindings)
        if conditions and version < 3:
            raise RefusedError(400, "INVALID_ARGUMENT", "the policy has conditions: ask for version 3")
        return {
            "version": 3 if conditions else 1,
            "etag": self.etag(name),
            **({"bindings": bindings} if bindings else {}),
        }

    def replace(self, name: str, policy: Any) -> Any:
        """Take a whole policy in place of the one before."""
        from google.iam.v1.policy_pb2 import Policy
        from google.protobuf import json_format

        try:
            parsed = json_format.ParseDict(policy, Policy())
        except json_format.ParseError as error:
            raise RefusedError(400, "INVALID_ARGUMENT", f"Invalid JSON payload received. {error}") from None
        if policy.get("etag") != self.etag(name):
            raise CONCURRENT
        for binding in parsed.bindings:
            if binding.role not in self.roles:
                raise RefusedError(400, "INVALID_ARGUMENT", f"Role {binding.role} is not supported for this resource.")
            if binding.HasField("condition") and parsed.version != 3:
                raise RefusedError(400, "INVALID_ARGUMENT", "a condition wants a policy of version 3")
            for member in binding.members:
                self.check(member)
        self.held[name] = policy.get("bindings", [])
        self.writes[name] = self.writes.get(name, 0) + 1
        return self.get(name, 3)

    def check(self, member: str) -> None:
        kind, _, address = member.partition(":")
        if not MEMBERS.fullmatch(member) or (member == "allUsers" and not self.public):
            raise RefusedError(400, "INVALID_ARGUMENT", f"Invalid member {member}.")
        if kind == "serviceAccount" and address not in self.accounts:
            raise RefusedError(400, "INVALID_ARGUMENT", f"Service account {address} does not exist.")

    def etag(self, name: str) -> str:
        return f"BwY{self.writes.get(name, 0):05}"  # it has to be base64

    def granted(self, name: str) -> set[tuple[str, str]]:
        """Member and role, of the bindings without a condition."""
        return {
            (member, binding["role"])
            for binding in self.held.get(name, [])
            if "condition" not in binding
            for member in binding["members"]
        }


def version(query: dict[str, str]) -> int:
    """The version of policies that a GET's caller knows."""
    return int(query.get("options.requestedPolicyVersion") or query.get("optionsRequestedPolicyVersion") or 1)
