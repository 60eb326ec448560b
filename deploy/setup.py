"""Makes in a project what the other cloud tasks need, and only what is missing.

It asks before it makes, so that it can be run again: after it was stopped, or after a change of invoke.yaml.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from deploy import access, resources
from deploy.access import Place
from deploy.gcloud import ApiOffError, Argv, CloudError, ConflictError, NotFoundError, Shell, shown
from deploy.names import Names

FOUND, MADE, CHANGED = "found", "made", "changed"
POSIX = os.name != "nt"
NUMBER = "PROJECT_NUMBER"  # stands for it in a dry run, which asks nothing
# Seconds between tries of what needs something that was made a moment ago: Google knows it everywhere after a while.
PAUSES = (2, 4, 8, 16, 30, 60)


@dataclass(frozen=True)
class Row:
    """What was looked for, and whether it was there."""

    what: str
    name: str
    state: str


@dataclass
class Setup:
    """One run.

    Attributes:
        pauses: seconds between tries of what Google does not know everywhere yet.
        rows: what was found and made so far.
        made: kinds of things made in this run, which are empty and may not be known everywhere.
    """

    shell: Shell
    names: Names
    pauses: Sequence[float] = PAUSES
    rows: list[Row] = field(default_factory=list)
    made: set[str] = field(default_factory=set)

    def run(self) -> str:
        """Make all that is missing.

        Returns:
            The project's number.

        Raises:
            CloudError: what could not be made, in one line. What was made until then stays, and is found next time.
        """
        number = self.project()
        self.apis()
        self.bucket(number, self.names.bucket)
        if self.names.feedback:
            self.bucket(number, self.names.feedback)
        self.repository()
        self.accounts()
        if self.names.github:
            self.federation()
        self.grants(number)
        self.remote()
        return number

    def project(self) -> str:
        """The project's number."""
        if self.shell.dry_run:
            command = f"gcloud projects describe {self.names.project} --format='value(projectNumber)'"
            if self.names.github:
                print(
                    f"{NUMBER}=$({command})" if POSIX else f"# in place of {NUMBER}, below, what this prints: {command}"
                )
            return NUMBER
        found = self.shell.ask(resources.project(self.names))
        if found.get("lifecycleState", "ACTIVE") != "ACTIVE":
            raise CloudError(f"the project {self.names.project} is being deleted: choose another in invoke.yaml")
        self.note("project", self.names.project, FOUND)
        return str(found["projectNumber"])

    def apis(self) -> None:
        """The APIs, all in one step."""
        on = resources.enabled(self.ask(resources.list_apis(self.names)))
        missing = [api for api in resources.apis(self.names) if api not in on]
        if missing:
            self.make("apis", resources.enable(self.names, missing))
        self.note("APIs", f"{len(resources.apis(self.names))}", f"{MADE} {len(missing)}" if missing else FOUND)

    def bucket(self, number: str, bucket: str) -> None:
        """A bucket and its settings."""
        found, name = self.ask(resources.bucket(self.names, bucket)), f"gs://{bucket}"
        if found is None:
            self.make(f"bucket {bucket}", resources.create_bucket(self.names, bucket))
            self.make("", resources.update_bucket(self.names, bucket, ["--versioning"]))
            self.note("bucket", name, MADE)
            return
        if found.get("projectNumber", number) != number:  # names are the whole world's: a stranger would read along
            raise CloudError(f"{name} is a bucket of another project: choose another name in invoke.yaml")
        lacks = resources.bucket_lacks(found)
        if lacks:
            self.make("", resources.update_bucket(self.names, bucket, lacks))
        place = str(found.get("location", "")).lower()
        elsewhere = "" if place == self.names.region else f", in {place}"
        self.note("bucket", name, (CHANGED if lacks else FOUND) + elsewhere)

    def repository(self) -> None:
        """The repository of images and its clean-up policy."""
        found = self.ask(resources.repository(self.names))
        if found is None:
            self.make("repository", resources.create_repository(self.names))
        cleans = found is not None and resources.cleans_up(found)
        if not cleans:
            self.make("", resources.set_cleanup(self.names))
        self.note("repository", self.names.registry, MADE if found is None else FOUND if cleans else CHANGED)

    def accounts(self) -> None:
        """The three service accounts."""
        there = {account["email"] for account in self.ask(resources.accounts(self.names)) or []}
        for short, title in (
            (self.names.trainer, "Atelier: trainings on Vertex AI"),
            (self.names.app, "Atelier: the service on Cloud Run"),
            (self.names.deployer, "Atelier: builds and workflows"),
        ):
            missing = self.names.account(short) not in there
            if missing:
                self.make(f"account {short}", resources.create_account(self.names, short, title))
            self.note("service account", short, MADE if missing else FOUND)

    def federation(self) -> None:
        """The pool and the provider that take GitHub's tokens."""
        new = self.federated("pool", resources.pool, "create", fresh=False)
        self.federated("provider", resources.provider, "create-oidc", fresh=new)

    def federated(self, what: str, words: Callable[[Names, str], list[str]], create: str, fresh: bool) -> bool:
        """The pool or the provider; whether it was created. With `fresh` it cannot be there."""
        found = None if fresh else self.ask(words(self.names, "describe"))
        state = FOUND
        if found is None:
            self.make(what, words(self.names, create))
            state = MADE
        elif found.get("state") == "DELETED":
            self.make(what, words(self.names, "undelete"))
            state = CHANGED
        if what == "provider" and found is not None and not resources.provider_fits(self.names, found):
            self.make("", words(self.names, "update-oidc"))
            state = CHANGED
        self.note(f"identity {what}", access.POOL if what == "pool" else self.names.github, state)
        return state == MADE

    def grants(self, number: str) -> None:
        """The roles, each where it is granted."""
        if self.shell.dry_run:
            print(
                "# Google knows a new account everywhere after some seconds: where one does not exist, type that again"
            )
        policies: dict[Place, Any] = {}
        for grant in access.grants(self.names, number):
            place = grant.on
            if place not in policies:
                called = access.where(self.names, place).removeprefix("gs://")
                fresh = {place.kind, f"{place.kind} {called}"} & self.made
                policies[place] = None if fresh else self.ask(access.policy(self.names, place))
            there = access.has(self.names, policies[place], grant)
            if not there:
                self.make("", access.bind(self.names, grant))
            who = self.names.github if ":" in grant.who else grant.who
            name = f"{who}: {grant.role.removeprefix('roles/')} on {access.where(self.names, place)}"
            self.note("role", name, FOUND if there else MADE)

    def remote(self) -> None:
        """DVC's remote, in .dvc/config."""
        there, default = ({}, "") if self.shell.dry_run else resources.remote()
        fits = there.get("url") == f"gs://{self.names.bucket}/dvc" and bool(default)
        if not fits:
            self.dvc(resources.add_remote(self.names, default=default in ("", resources.REMOTE)))
        if not fits or there.get("verify") != "true":
            self.dvc(resources.verify_remote())
        name = f"{resources.REMOTE}: gs://{self.names.bucket}/dvc"
        if default not in ("", resources.REMOTE):
            name += f" (the default stays {default})"
        self.note("DVC's remote", name, FOUND if fits else CHANGED if there else MADE)

    def ask(self, argv: Argv) -> Any:
        """What is there; None if it is not, or in a dry run."""
        if self.shell.dry_run:
            return None
        try:
            return self.patiently(lambda: self.shell.ask(argv), ApiOffError)
        except NotFoundError:
            return None

    def make(self, what: str, argv: Argv) -> None:
        """Run a command that makes or changes something."""
        if self.shell.dry_run:
            print(shown(argv).replace(NUMBER, f"${NUMBER}" if POSIX else NUMBER))  # as `project` has said
        else:
            self.patiently(lambda: self.shell.run(argv), ApiOffError, NotFoundError)
        if what:
            self.made.add(what)

    def dvc(self, argv: Argv) -> None:
        """Run DVC, as this environment has it."""
        if self.shell.dry_run:
            argv = ["uv", "run", *argv]
        self.shell.run(argv)

    def patiently(self, step: Callable[[], Any], *early: type[CloudError]) -> Any:
        """Try again what met another change, or may be too early after what this run made."""
        passing: tuple[type[CloudError], ...] = (ConflictError, *(early if self.made else ()))
        for pause in self.pauses:
            try:
                return step()
            except passing as error:
                print(f"again in {pause} s: {error}", flush=True)
                time.sleep(pause)
        return step()

    def note(self, what: str, name: str, state: str) -> None:
        self.rows.append(Row(what, name, state))


def variables(names: Names, number: str) -> dict[str, str]:
    """What GitHub's workflows need to know; none of it is secret."""
    return {
        "GCP_PROJECT": names.project,
        "GCP_WORKLOAD_IDENTITY_PROVIDER": resources.provider_name(names, number),
        "GCP_SERVICE_ACCOUNT": names.account(names.deployer),
    }


def next_steps(names: Names, number: str) -> list[str]:
    """What is left to do, a line each."""
    lines = [
        "commit .dvc/config and invoke.yaml, then: uv run dvc push, uv run invoke deploy",
        "to have Google write to you when a month costs 5 and 10 (of the billing account's currency), type once:",
        budget(names),
    ]
    if names.github:
        lines.append(f"variables for github.com/{names.github}/settings/variables/actions:")
        lines += [f"{key}={value}" for key, value in variables(names, number).items()]
    else:
        lines.append("to let GitHub's workflows in: set gcp.github in invoke.yaml, and type this again")
    return lines


def budget(names: Names) -> str:
    """The command that sets a budget: an e-mail at half of it, and at all of it. Nothing is turned off."""
    apis = "billingbudgets.googleapis.com cloudbilling.googleapis.com"
    account = f"$(gcloud billing projects describe {names.project} --format='value(billingAccountName)')"
    return (
        f"gcloud services enable {apis} --project={names.project} && "
        f'gcloud billing budgets create --billing-account="{account}" --display-name=atelier --budget-amount=10'
        f" --filter-projects=projects/{names.project} --threshold-rule=percent=0.5 --threshold-rule=percent=1.0"
        f" --billing-project={names.project}"
    )
