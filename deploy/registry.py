"""The registry of models: git tags in GTO's format. Versions, who holds a stage, and making the next tag.

`model@v1.2.0` is a version; `model#prod#3` gives the version at that commit the stage `prod`, for the third time. The
format is GTO's (github.com/iterative/gto), and so is the code that writes it.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy import lock, repository
from deploy.gcloud import CloudError, shown

ARTIFACT = "model"  # of dvc.yaml
BUMPS = ("patch", "minor", "major")
VERSION = re.compile(r"v\d+\.\d+\.\d+(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?")
STAGE = re.compile(r"[a-z][a-z0-9-]{0,31}")  # GTO would take more; a tag is typed into shells


@dataclass(frozen=True)
class Version:
    """One version.

    Attributes:
        name: such as v1.2.0.
        commit: 40 digits.
        date: when it was registered, as 2026-11-26.
    """

    name: str
    commit: str
    date: str


@dataclass(frozen=True)
class Registry:
    """What the tags of this repository say.

    Attributes:
        versions: the newest first, by number.
        holders: stage -> commits that were given it and still may hold it, the last is the one that does.
        held: stage -> every commit that ever was given it.
    """

    versions: list[Version]
    holders: dict[str, list[str]]
    held: dict[str, set[str]]

    def version(self, name: str) -> Version:
        """One version by its name.

        Raises:
            CloudError: there is none.
        """
        for version in self.versions:
            if version.name == name:
                return version
        known = ", ".join(version.name for version in self.versions[:5]) or "none yet: type `uv run invoke register`"
        raise CloudError(f"{name} is no version of {ARTIFACT}; there are {known}")

    def at(self, commit: str) -> str:
        """The name of the version at a commit; empty if there is none."""
        return next((version.name for version in self.versions if version.commit == commit), "")

    def champion(self, stage: str) -> Version | None:
        """Who holds a stage. Of a commit that has the stage and no version, its digits stand for the name."""
        commits = self.holders.get(stage)
        return Version(self.at(commits[-1]) or commits[-1][:12], commits[-1], "") if commits else None

    def stages(self, commit: str) -> list[str]:
        """The stages that a commit holds."""
        return sorted(stage for stage, commits in self.holders.items() if commits[-1] == commit)


def gto() -> Any:
    """GTO, which comes with DVC.

    Raises:
        CloudError: it is not installed.
    """
    try:
        import gto.api
        import gto.tag
    except ImportError:
        raise CloudError("the package gto is missing, which reads the registry's tags: type `uv sync`") from None
    return gto


def read() -> Registry:
    """Read the tags.

    Raises:
        CloudError: this is no git repository, or GTO is missing.
    """
    parse = gto().tag.parse_name
    found = []
    for line in git(
        "for-each-ref", "refs/tags", "--format=%(refname:lstrip=2) %(objectname) %(*objectname) %(creatordate:short)"
    ).splitlines():
        words = line.split()
        tag = parse(words[0], raise_on_fail=False)
        if tag and tag["name"] == ARTIFACT:
            found.append((tag, words[-2], words[-1]))  # of a tag with a message, the commit that it is of
    gone = {tag["version"] for tag, _, _ in found if tag["action"].value == "deregister"}
    versions = [
        Version(tag["version"], commit, date)
        for tag, commit, date in found
        if tag["action"].value == "register" and tag["version"] not in gone
    ]
    holders: dict[str, list[str]] = {}
    held: dict[str, set[str]] = {}
    # By their numbers: two tags may be of one second.
    for tag, commit, _ in sorted(found, key=lambda entry: entry[0].get("counter") or 0):
        if tag["action"].value not in ("assign", "unassign"):
            continue
        commits = holders.setdefault(tag["stage"], [])
        if commit in commits:
            commits.remove(commit)
        if tag["action"].value == "assign":
            commits.append(commit)
            held.setdefault(tag["stage"], set()).add(commit)
    return Registry(
        sorted(versions, key=lambda version: _number(version.name), reverse=True),
        {stage: commits for stage, commits in holders.items() if commits},
        held,
    )


def _number(version: str) -> tuple[list[int], bool, str]:
    """For sorting: v1.10.0 after v1.9.0, and v1.9.0 after v1.9.0-rc.1."""
    numbers, _, rest = version.removeprefix("v").partition("-")
    return [int(part) for part in numbers.split(".") if part.isdigit()], not rest, rest


def version_at(commit: str) -> str:
    """The version that a commit is registered as, for what is deployed from it; empty if it is none."""
    return read().at(commit)


def register(bump: str, version: str) -> str:
    """Make the tag of a version on HEAD.

    Args:
        bump: which part of the newest version's number goes up, where no version is given.
        version: such as v1.2.0, or empty.

    Returns:
        The tag.

    Raises:
        CloudError: why there is nothing to register, or not here.
    """
    if bump not in BUMPS:
        raise CloudError(f"--bump {bump}: there are {', '.join(BUMPS)}")
    if version and not VERSION.fullmatch(version):
        raise CloudError(f"--version {version}: it should read like v1.2.0 or v1.2.0-rc.1")
    registry = read()
    if changed := repository.changed():
        raise CloudError(f"the work tree has changes ({changed}, ...): commit them, and register what is committed")
    commit = repository.commit()
    if same := next((known.name for known in registry.versions if known.name == version), ""):
        raise CloudError(f"{same} is registered already: give another --version, or --bump")
    model = fingerprint(commit)
    for known in registry.versions:
        if known.commit == commit or fingerprint(known.commit, "") == model:
            raise CloudError(
                f"the model of this commit is {known.name} already; what else changed needs no version: "
                "type `uv run invoke deploy`"
            )
    if behind := lock.behind():
        raise CloudError(f"dvc.lock is behind ({behind[0]}): type `uv run dvc repro`, and commit what it changed")
    wanted = {"version": version} if version else {f"bump_{bump}": True}
    return _made(gto().api.register, name=ARTIFACT, ref="HEAD", **wanted)


def assign(version: Version, stage: str, message: str) -> str:
    """Make the tag that gives a version a stage, even if it held it before; return the tag.

    Raises:
        CloudError: GTO or git refused.
    """
    words = {"version": version.name, "stage": stage, "message": message}
    return _made(gto().api.assign, name=ARTIFACT, force=True, skip_registration=True, **words)


def fingerprint(commit: str, default: str | None = None) -> str:
    """The hash of a commit's model, as its dvc.lock says.

    Raises:
        CloudError: there is none, and no default.
    """
    try:
        pipeline = yaml.safe_load(git("show", f"{commit}:dvc.yaml"))
        path = pipeline["artifacts"][ARTIFACT]["path"]
        return lock.hashes(lock.stages(git("show", f"{commit}:dvc.lock")))[path]
    except (CloudError, KeyError, TypeError, yaml.YAMLError):
        if default is not None:
            return default
        raise CloudError(
            f"dvc.lock of this commit has no {ARTIFACT}: type `uv run dvc repro`, and commit what it changed"
        ) from None


def push(tag: str) -> list[str]:
    """The command that shares a tag, which is when GitHub's workflow sees it."""
    return ["git", "push", "origin", tag]


def share(tag: str) -> None:
    """Push a tag.

    Raises:
        CloudError: git could not.
    """
    try:
        git(*push(tag)[1:])
    except CloudError as error:
        raise CloudError(f"{tag} is made here and not shared ({error}): type `{shown(push(tag))}` again") from None


def git(*words: str) -> str:
    """Ask git.

    Raises:
        CloudError: it refused; its last line.
    """
    done = subprocess.run(["git", *words], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it printed nothing"]
        raise CloudError(f"git {words[0]}: {lines[-1].removeprefix('fatal: ')}")
    return done.stdout


def _made(function: Any, **words: Any) -> str:
    """Let GTO make a tag, and say in a line why it could not."""
    before = set(git("tag").split())
    try:
        function(str(Path.cwd()), **words)
    except Exception as error:  # noqa: BLE001 - its own, scmrepo's and pygit2's have no common base class
        raise CloudError(f"no tag was made: {' '.join(str(error).split())[:300]}") from None
    (tag,) = set(git("tag").split()) - before
    return tag
