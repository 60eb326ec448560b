"""Who may do what: no more than is needed, on the smallest thing, and nothing of others is touched."""

import re
from typing import Any

import pytest

from deploy import access
from deploy.access import BUCKET, PROJECT, PUBLIC, REPOSITORY, Grant, Place
from deploy.gcloud import Shell
from deploy.names import Names
from tests.cloud.conftest import GCP, Cloud
from tests.cloud.fake import Google, RefusedError, Request
from tests.cloud.fake.everything import NUMBER, Everything
from tests.cloud.fake.policies import Policies
from tests.conftest import ROOT

WORKFLOWS = "somebody/garments"
# What Google grants on the project only; all else has a smaller place.
PROJECT_WIDE = {
    "roles/aiplatform.user",
    "roles/cloudbuild.builds.editor",
    "roles/logging.logWriter",
    "roles/logging.viewer",
    "roles/run.developer",
    "roles/serviceusage.serviceUsageConsumer",
}


@pytest.fixture
def names() -> Names:
    return Names.of({**GCP, "github": WORKFLOWS})


def test_nobody_gets_a_role_that_may_grant_roles_or_everything(names: Names) -> None:
    basic = {"roles/owner", "roles/editor", "roles/viewer"}
    roles = {grant.role for grant in access.grants(names, NUMBER)}
    assert not roles & basic
    assert [role for role in roles if re.search("admin|setiam|keyadmin|tokencreator", role, re.IGNORECASE)] == []


def test_roles_are_granted_on_the_smallest_thing(names: Names) -> None:
    found = access.grants(names, NUMBER)
    assert {grant.role for grant in found if grant.on == PROJECT} <= PROJECT_WIDE
    assert len(found) == len({(grant.on, grant.who, grant.role) for grant in found})


def test_the_app_may_do_nothing(names: Names) -> None:
    assert [grant for grant in access.grants(names, NUMBER) if grant.who == names.app] == []


def test_the_app_keeps_feedback_where_nothing_else_is(names: Names) -> None:
    found = access.grants(names.model_copy(update={"feedback": "demo-feedback"}), NUMBER)
    (grant,) = [grant for grant in found if grant.who == names.app]
    assert (grant.on, grant.role) == (Place("bucket", "demo-feedback"), "roles/storage.objectUser")
    assert "gs://demo-feedback" in access.bind(names, grant)


def test_the_trainer_starts_and_deploys_nothing(names: Names) -> None:
    assert {(grant.on, grant.role) for grant in access.grants(names, NUMBER) if grant.who == names.trainer} == {
        (PROJECT, "roles/logging.logWriter"),
        (BUCKET, "roles/storage.objectUser"),
        (BUCKET, "roles/storage.legacyBucketReader"),
        (REPOSITORY, "roles/artifactregistry.reader"),
    }


def test_the_deployer_acts_as_our_accounts_and_no_others(names: Names) -> None:
    acts = [grant for grant in access.grants(names, NUMBER) if grant.role == "roles/iam.serviceAccountUser"]
    assert {grant.on for grant in acts} == {Place("account", n) for n in (names.trainer, names.app, names.deployer)}
    assert {grant.who for grant in acts} == {names.deployer}


def test_only_that_repositorys_workflows_act_as_the_deployer(names: Names) -> None:
    outside = [grant for grant in access.grants(names, NUMBER) if ":" in grant.who]
    assert [(grant.on.name, grant.role) for grant in outside] == [(names.deployer, "roles/iam.workloadIdentityUser")]
    assert outside[0].who.endswith(f"/workloadIdentityPools/github/attribute.repository/{WORKFLOWS}")
    assert outside[0].who.startswith(f"principalSet://iam.googleapis.com/projects/{NUMBER}/")
    closed = names.model_copy(update={"github": ""})
    assert [grant for grant in access.grants(closed, NUMBER) if ":" in grant.who] == []


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (PROJECT, "projects add-iam-policy-binding demo-project"),
        (BUCKET, "storage buckets add-iam-policy-binding gs://demo-project-atelier --project=demo-project"),
        (REPOSITORY, "artifacts repositories add-iam-policy-binding atelier --project=demo-project "
                     "--location=europe-west1"),
        (Place("account", "atelier-app"), "iam service-accounts add-iam-policy-binding "
                                          "atelier-app@demo-project.iam.gserviceaccount.com --project=demo-project"),
        (PUBLIC.on, "run services add-iam-policy-binding atelier --project=demo-project --region=europe-west1"),
    ],
    ids=lambda value: value.kind if isinstance(value, Place) else "",
)  # fmt: skip
def test_what_gcloud_is_told(names: Names, place: Place, words: str) -> None:
    told = access.bind(names, Grant(place, names.trainer, "roles/some.role", "why"))
    assert " ".join(told) == (
        f"gcloud {words} --member=serviceAccount:atelier-trainer@demo-project.iam.gserviceaccount.com "
        "--role=roles/some.role --condition=None --format=none"
    )


def test_everybody_is_a_member_by_name(names: Names) -> None:
    assert "--member=allUsers" in access.bind(names, PUBLIC)
    assert access.bind(names, PUBLIC, "remove")[3] == "remove-iam-policy-binding"


@pytest.mark.parametrize(
    ("policy", "there"),
    [
        ({"role": "roles/run.invoker", "members": ["user:a@example.com", "allUsers"]}, True),
        ({"role": "roles/run.invoker", "members": ["user:a@example.com"]}, False),
        ({"role": "roles/run.admin", "members": ["allUsers"]}, False),
        ({"role": "roles/run.invoker", "members": ["allUsers"], "condition": {"expression": "false"}}, False),
    ],
    ids=["among others", "others", "another role", "under a condition"],
)
def test_whether_a_role_is_granted(names: Names, policy: object, there: bool) -> None:
    assert access.has(names, {"bindings": [policy]}, PUBLIC) is there


@pytest.mark.parametrize("policy", [None, {}, {"etag": "ACAB"}])
def test_a_new_policy_holds_nothing(names: Names, policy: object) -> None:
    assert not access.has(names, policy, PUBLIC)


def test_the_page_of_the_docs_has_every_role(names: Names) -> None:
    page = (ROOT / "docs/cloud.md").read_text(encoding="utf-8")
    table = {tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in page.splitlines() if "roles/" in line}
    ons = {"project": "the project", "bucket": "the bucket", "repository": "the repository of images"}
    who = {names.trainer: "trainer", names.app: "app", names.deployer: "deployer"}
    names = names.model_copy(update={"feedback": "demo-feedback"})
    wanted = {
        (
            who.get(g.who, "workflows"),
            "the bucket for feedback"
            if g.on == Place("bucket", names.feedback)
            else ons.get(g.on.kind, f"the account {g.on.name.removeprefix('atelier-')}"),
            f"`{g.role}`",
            g.why,
        )
        for g in access.grants(names, NUMBER)
    }
    assert table == wanted | {("everybody", "the service", f"`{PUBLIC.role}`", PUBLIC.why)}


# The stand-in itself


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"etag": "BwY00001"}, "concurrent policy changes"),
        ({"etag": None}, "concurrent policy changes"),
        ({"binding": []}, 'no field named "binding"'),
        ({"bindings": [{"role": "roles/run.invoker", "members": ["allusers"]}]}, "Invalid member allusers"),
        (
            {"bindings": [{"role": "roles/run.invokr", "members": ["allUsers"]}]},
            "Role roles/run.invokr is not supported",
        ),
        (
            {
                "bindings": [
                    {"role": "roles/run.invoker", "members": ["serviceAccount:nobody@x.iam.gserviceaccount.com"]}
                ]
            },
            "nobody@x.iam.gserviceaccount.com does not exist",
        ),
        (
            {"bindings": [{"role": "roles/run.invoker", "members": ["allUsers"], "condition": {"expression": "true"}}]},
            "wants a policy of version 3",
        ),
    ],
    ids=["old etag", "no etag", "unknown key", "unknown member", "unknown role", "unknown account", "old version"],
)
def test_the_stand_in_refuses_a_policy_as_google_does(changes: dict[str, Any], said: str) -> None:
    policies = Policies({"roles/run.invoker"}, set(), public=True)
    good = {"etag": policies.get("atelier", 3)["etag"], "version": 1}
    policy = {key: value for key, value in (good | changes).items() if value is not None}
    with pytest.raises(RefusedError, match=said):
        policies.replace("atelier", policy)
    assert policies.replace("atelier", good)["etag"] == "BwY00001"


def test_the_stand_in_answers_no_route_that_it_does_not_know() -> None:
    google = Google()
    there = Everything(google, Names.of(GCP))
    typo = Request("GET", "storage.googleapis.com", "/storage/v1/buckets/b", {}, b"")
    assert google.answer(typo)[0] == 400
    assert google.unknown == ["GET storage.googleapis.com/storage/v1/buckets/b"]
    misspelt = {"name": "b", "versionning": {"enabled": True}}
    status, said = google.answer(Request("POST", "storage.googleapis.com", "/storage/v1/b", {}, misspelt))
    assert (status, there.buckets.held) == (400, {})
    assert 'Unknown name "versionning"' in said["error"]["message"]


def test_somebodys_binding_under_a_condition_stays(cloud: Cloud, names: Names) -> None:
    there = Everything(cloud.google, names)
    there.complete()
    grant = next(grant for grant in access.grants(names, NUMBER) if grant.role == "roles/run.developer")
    member = access.member(names, grant)
    temporary = {"title": "until Friday", "expression": "request.time < timestamp('2026-12-04T00:00:00Z')"}
    binding = {"role": grant.role, "members": [member], "condition": temporary}
    there.projects.policies.held[names.project] = [binding]
    Shell().run(access.bind(names, grant))
    assert access.has(names, Shell().ask(access.policy(names, PROJECT)), grant)
    Shell().run(access.bind(names, grant, "remove"))
    assert there.projects.policies.held[names.project] == [binding]
