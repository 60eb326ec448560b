"""The registry's tasks, which tasks.py hands on: a version, a stage after the gate, and the list."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task
from rich.console import Console
from rich.table import Table

from deploy import evidence, gate, registry
from deploy.evidence import Evidence
from deploy.gate import Verdict
from deploy.gcloud import CloudError, shown
from deploy.registry import Registry, Version
from deploy.release import STAGE
from deploy.tasks import told

PUSH = "share the tag at once, which is what GitHub's workflow waits for"
LOOK = 10  # rounds of measuring for the list, which is but a look
MARKS = {True: "passed", False: "failed", None: "-"}


@task(
    help={
        "bump": f"the part of the newest version's number that goes up: {', '.join(registry.BUMPS)}",
        "version": "in its place: v1.2.0",
        "push": PUSH,
    }
)
def register(_: Context, bump: str = "patch", version: str = "", push: bool = False) -> None:
    """Make the model of this commit a version: the tag model@v1.2.0."""
    with told():
        tag = registry.register(bump, version)
        print(f"{tag} is this commit")
        _share(tag, push, "`uv run dvc push`, then ")


@task(
    positional=["version"],
    help={
        "version": "such as v1.2.0",
        "stage": "which one it gets; only what is prod serves",
        "force": "why it gets it whatever the gate says; the tag will tell",
        "push": PUSH,
    },
)
def promote(context: Context, version: str, stage: str = STAGE, force: str = "", push: bool = False) -> None:
    """Give a version a stage, if it is no worse than who holds it: the tag model#prod#1."""
    with told():
        if not registry.STAGE.fullmatch(stage):
            raise CloudError(f"--stage {stage}: small letters, digits and hyphens, 32 at most, as in prod")
        limits = gate.Limits.of(context.config.get("gate", {}))
        known = registry.read()
        challenger, champion = known.version(version), known.champion(stage)
        if champion and champion.commit == challenger.commit:
            raise CloudError(f"{version} is {stage} already: nothing was changed")
        if challenger.commit in known.held.get(stage, set()):
            message = f"{version} was {stage} before and is again, without a gate"
            if champion:
                message += f", in place of {champion.name}"
        else:
            message = _through_the_gate(champion, challenger, stage, limits, force)
        reason = " ".join(force.split())
        tag = registry.assign(challenger, stage, message + (f"\n\nForced: {reason}" if reason else ""))
        print(f"{message.splitlines()[0]}: {tag}")
        _share(tag, push)


def _through_the_gate(
    champion: Version | None, challenger: Version, stage: str, limits: gate.Limits, force: str
) -> str:
    """Compare, print the table, and return the tag's message.

    Raises:
        CloudError: it may not pass, and why.
    """
    with tempfile.TemporaryDirectory(prefix="atelier-gate-") as scratch:
        new = evidence.gather(challenger, Path(scratch) / "challenger")
        try:
            old = evidence.gather(champion, Path(scratch) / "champion") if champion else None
        except CloudError as error:
            if not force:
                raise CloudError(f"{error}; or give --force 'why'") from None
            return f"{challenger.name} is {stage}, not compared: {error}"
        verdicts = gate.judge(old, new, limits)
    _show(verdicts, champion, challenger)
    if champion is None:
        return f"{challenger.name} is {stage}, the first: nobody was there to compare it with"
    failed = [verdict for verdict in verdicts if verdict.passed is False]
    if failed and not force:
        raise CloudError(_why_not(failed, champion, challenger, stage))
    lines = "\n".join(f"{MARKS[verdict.passed]}: {verdict.line}" for verdict in verdicts)
    return f"{challenger.name} is {stage} in place of {champion.name}\n\n{lines}"


def _why_not(failed: Sequence[Verdict], champion: Version, challenger: Version, stage: str) -> str:
    reasons = "; ".join(verdict.line for verdict in failed)
    said = f"{challenger.name} does not become {stage} in place of {champion.name}: {reasons}"
    if any(verdict.said == gate.ELSEWHERE for verdict in failed):
        said += (
            ". Of other pictures the figures cannot be compared: train the champion's settings on the new pictures as a"
            " version of its own, or decide by your own judgement and give --force 'why', which the tag keeps"
        )
    return said


def _show(verdicts: Sequence[Verdict], champion: Version | None, challenger: Version) -> None:
    table = Table("", champion.name if champion else "nobody", challenger.name, "verdict", "")
    colours = {True: "green", False: "red", None: ""}
    for verdict in verdicts:
        row = (verdict.name, verdict.champion, verdict.challenger, MARKS[verdict.passed], verdict.said)
        table.add_row(*row, style=colours[verdict.passed])
    Console().print(table)


def _share(tag: str, push: bool, before: str = "") -> None:
    if push:
        registry.share(tag)
        print(f"{tag} is shared")
    else:
        print(f"to share it: {before}`{shown(registry.push(tag))}`")


@task(help={"fetch": "ask DVC's remote for what its cache lacks"})
def models(_: Context, fetch: bool = False) -> None:
    """List the registered versions: stage, commit, date, and how good and how fast each is."""
    with told():
        known = registry.read()
        if not known.versions:
            raise Exit("no version is registered: type `uv run invoke register`", code=1)
        with tempfile.TemporaryDirectory(prefix="atelier-models-") as scratch:
            rows, remarks = _rows(known, Path(scratch), fetch)
    table = Table("version", "stage", "commit", "date", "accuracy", "calibration error", "robustness", "speed, here")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    for remark in remarks:
        print(remark)


def _rows(known: Registry, scratch: Path, fetch: bool) -> tuple[list[list[str]], list[str]]:
    """The table, and whose figures are not at hand."""
    found: dict[str, Evidence] = {}
    missing = []
    for version in known.versions:
        try:
            found[version.name] = evidence.gather(version, scratch / version.name, fetch)
        except CloudError:
            missing.append(version.name)
    speeds = {}
    try:
        times = evidence.race([each.model for each in found.values()], LOOK)
        speeds = {name: f"{1000 * median(took):.2f} ms" for name, took in zip(found, times, strict=True)}
        remarks = []
    except CloudError as error:
        remarks = [f"speed was not measured: {error}"]
    if missing:
        remarks.append(f"not in DVC's cache: {', '.join(missing)}; --fetch asks the remote")
    rows = []
    for version in known.versions:
        row = [version.name, " ".join(known.stages(version.commit)), version.commit[:12], version.date]
        if each := found.get(version.name):
            robust = "-" if each.robustness is None else f"{each.robustness:.2%}"
            row += [f"{each.accuracy:.2%}", f"{each.ece:.2%}", robust, speeds.get(version.name, "-")]
        else:
            row += ["-"] * 4
        rows.append(row)
    return rows, remarks
