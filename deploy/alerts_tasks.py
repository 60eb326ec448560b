"""The task that sets up the alerts: it asks what is there, and makes and mends only what is not as it has to be."""

import os
from dataclasses import dataclass, field
from typing import Any

from invoke.context import Context
from invoke.tasks import task
from rich.console import Console
from rich.table import Table

from deploy import alerts as alerting
from deploy import serving
from deploy.gcloud import Argv, CloudError, NotFoundError, Shell, shown
from deploy.names import Names
from deploy.setup import CHANGED, FOUND, MADE, Row
from deploy.tasks import DRY, cloud

POSIX = os.name != "nt"
# What a dry run cannot know, and the shell it is pasted into asks for.
HOST, CHECK, CHANNEL = "ATELIER_HOST", "ATELIER_CHECK", "ATELIER_CHANNEL"


@dataclass
class Alerts:
    """One run.

    Attributes:
        email: who is to be told; empty: whoever is now.
        rows: what was found and made so far.
    """

    shell: Shell
    names: Names
    email: str = ""
    rows: list[Row] = field(default_factory=list)

    def run(self) -> None:
        """Make what is missing, and set right what differs.

        Raises:
            CloudError: what could not be, in one line. What was made until then stays, and is found next time.
        """
        names, ask = self.names, self.shell.ask
        host = self.host()
        # All questions first: who may not even look learns that before anything is made.
        policies = alerting.ours(names, ask(alerting.list_policies(names)))
        channels = alerting.ours(names, ask(alerting.list_channels(names)))
        checks = alerting.ours(names, ask(alerting.list_uptime(names)))
        metrics = ask(alerting.list_metrics(names)) or []
        told = self.channel(channels)
        self.metric(metrics)
        check = self.check(host, checks)
        for name, policy in alerting.policies(names, alerting.check_id(check)).items():
            known = [p for p in policies if p["userLabels"].get("alert") == name]
            self.policy(name, policy, known[0] if known else None, told)
        for old in checks:
            if old["name"] != check["name"]:  # only now: Google keeps a check that a policy names
                self.shell.run(alerting.delete_uptime(names, old["name"]))

    def host(self) -> str:
        """The service's host."""
        missing = f"{self.names.service} has no address in {self.names.region} yet: type `uv run invoke deploy` first"
        try:
            host = alerting.host(self.shell.ask(serving.describe(self.names)))
        except NotFoundError:
            raise CloudError(missing) from None
        if not host:
            raise CloudError(missing)
        return host

    def channel(self, known: list[Any]) -> list[str]:
        """The channel that writes to the address; names of all that are ours."""
        told = [channel["name"] for channel in known]
        address = known[0].get("labels", {}).get("email_address", "") if known else ""
        if self.email and not known:
            told = [self.shell.make(alerting.create_channel(self.names, self.email))["name"]]
            self.note("notification channel", self.email, MADE)
        elif self.email and (address != self.email or known[0].get("enabled") is False):
            self.shell.run(alerting.update_channel(self.names, told[0], self.email))
            self.note("notification channel", self.email, CHANGED)
        elif known:
            self.note("notification channel", address, FOUND)
        return told

    def metric(self, there: list[Any]) -> None:
        """The metric that the burn alerts read."""
        wanted = alerting.metric(self.names)
        name = str(wanted["name"])
        known = next((found for found in there if found["name"] == name), None)
        fits = alerting.fits(wanted, known)
        if not fits:
            file = alerting.write(alerting.METRIC, wanted)
            self.shell.run(alerting.set_metric(self.names, "update" if known else "create", name, file))
        self.note("metric", name, FOUND if fits else CHANGED if known else MADE)

    def check(self, host: str, known: list[Any]) -> Any:
        """The check from outside. One that differs is not mended, another takes its place."""
        wanted = alerting.uptime(self.names, host)
        check = next((found for found in known if alerting.check_fits(wanted, found)), None)
        state = FOUND if check else CHANGED if known else MADE
        check = check or self.shell.make(alerting.create_uptime(self.names, host))
        self.note("uptime check", f"https://{host}/readyz", state)
        return check

    def policy(self, name: str, policy: dict[str, Any], known: Any, told: list[str]) -> None:
        """One policy. Channels that somebody added to it stay."""
        if known is None:
            self.shell.run(alerting.create_policy(self.names, alerting.write(name, policy), told))
            self.note("alert policy", name, MADE)
            return
        there = known.get("notificationChannels", [])
        told = [*there, *(channel for channel in told if channel not in there)]
        fits = alerting.fits(policy, known) and told == there
        if not fits:
            file = alerting.write(name, alerting.named(policy, known))
            self.shell.run(alerting.update_policy(self.names, known["name"], file, told))
        self.note("alert policy", name, FOUND if fits else CHANGED)

    def note(self, what: str, name: str, state: str) -> None:
        self.rows.append(Row(what, name, state))


def pasted(names: Names, email: str) -> list[str]:
    """The commands for a project that has none of it yet, as lines for this system's shell."""
    describe = [*serving.describe(names)[:-1], "--format=value(status.url.basename())"]
    lines = ["# for a project that has none of these yet; without --dry-run, what is there is looked at first"]
    lines += _asked(HOST, describe)
    told = []
    if email:
        lines += _asked(CHANNEL, [*alerting.create_channel(names, email)[:-1], "--format=value(name)"])
        told = [CHANNEL]
    lines += _asked(CHECK, [*alerting.create_uptime(names, HOST)[:-1], "--format=value(name.basename())"])
    metric = alerting.metric(names)
    file = alerting.write(alerting.METRIC, metric)
    lines.append(_line(alerting.set_metric(names, "create", metric["name"], file)))
    for name, policy in alerting.policies(names, CHECK).items():
        file = alerting.write(name, policy)
        if name == "uptime" and POSIX:
            piped = _line(alerting.create_policy(names, "-", told))
            lines.append(f"sed s/{CHECK}/${CHECK}/ {file.as_posix()} | {piped}")
        else:
            lines.append(_line(alerting.create_policy(names, file, told)))
    return lines


def _asked(name: str, argv: Argv) -> list[str]:
    """A name that later lines use, and the command that tells what it stands for."""
    if POSIX:
        return [f"{name}=$({_line(argv)})"]
    return [f"# in place of {name}, below and in {alerting.WRITTEN.as_posix()}, what this prints:", shown(argv)]


def _line(argv: Argv) -> str:
    line = shown(argv)
    for name in (HOST, CHECK, CHANNEL) if POSIX else ():
        line = line.replace(name, f"${name}")
    return line


@task(help={"email": "who is written to; without it, whoever is now", "dry_run": DRY})
def alerts(context: Context, email: str = "", dry_run: bool = False) -> None:
    """Have Google watch the service and write when something is wrong: makes what is missing, mends what differs."""
    with cloud(context) as names:
        alerting.checked(email)
        if dry_run:
            for line in pasted(names, email):
                print(line)
            return
        run = Alerts(Shell(), names, email)
        try:
            run.run()
        finally:
            if run.rows:
                table = Table("what", "name", "state")
                for row in run.rows:
                    table.add_row(row.what, row.name, row.state)
                Console().print(table)
        if not any(row.what == "notification channel" for row in run.rows):
            print("nobody is written to yet: type `uv run invoke alerts --email name@example.com`")
