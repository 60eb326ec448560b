"""Runs commands of Google's own client, shows them, and says in one line why one failed.

A cloud command is a plain list of words, made by a function that does nothing else: so it can be tested, shown by
`--dry-run`, pasted into a shell, and run.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Argv = Sequence[str]


class CloudError(Exception):
    """Something the user can mend. The message is what they read: what is wrong, where, what to do."""


class NotFoundError(CloudError):
    """What was asked for is not there."""


class ApiOffError(CloudError):
    """An API is not on in the project, or was turned on a moment ago."""


class ConflictError(CloudError):
    """Somebody else changed the same thing at the same moment; nothing was done."""


@dataclass(frozen=True)
class Trouble:
    """A failure of gcloud that has a known remedy."""

    pattern: str
    message: str  # may use the pattern's groups
    kind: type[CloudError] = CloudError


# The first that fits what gcloud printed counts.
TROUBLES = [
    Trouble(r"do not currently have an active account|Reauthentication|invalid_grant|credentials.*(revoked|expired)",
            "not signed in to Google Cloud: type `gcloud auth login`"),
    Trouble(r"(?:API|Service) \[?(?P<api>[\w.]+\.googleapis\.com)\]? (?:has not been used|is not enabled|not enabled)",
            "{api} is off in this project: type `uv run invoke cloud-setup`", ApiOffError),
    Trouble(r"(?P<api>[A-Z][\w -]+ API) has not been used in project|SERVICE_DISABLED",
            "an API is off in this project ({said}): type `uv run invoke cloud-setup`", ApiOffError),
    Trouble(r"installation of components: \[(?P<name>[\w, -]+)\]|component manager is disabled",
            "gcloud lacks a component: type `gcloud components install alpha beta`"),
    Trouble(r"concurrent policy changes", "somebody else changed the same roles just then: {said}", ConflictError),
    Trouble(r"[Bb]illing", "billing is off for this project: link an account on console.cloud.google.com/billing"),
    Trouble(r"RESOURCE_EXHAUSTED|[Qq]uota|\b429\b",
            "a quota is used up: {said}; ask for more on console.cloud.google.com/iam-admin/quotas, or choose less"),
    Trouble(r"storage\.buckets\.get",  # of a stranger's bucket Google says no more than that
            "permission denied: {said}; if the bucket is not yours, its name is taken: choose another in invoke.yaml"),
    Trouble(r"PERMISSION_DENIED|does not have permission|Permission '|\b403\b",
            "permission denied: {said}; the owner of the project has to grant it"),
    Trouble(r"[Uu]nable to (find|connect)|Max retries|[Cc]onnection (refused|reset|aborted)|Network is unreachable|"
            r"ConnectionError|NewConnectionError|RemoteDisconnected|UNAVAILABLE|gcloud crashed \(ServerNotFoundError\)",
            "Google Cloud cannot be reached: {said}"),
]  # fmt: skip
NOT_FOUND = re.compile(r"NOT_FOUND|not found|Cannot find|does not exist|could not be found|matched no objects|\b404\b")


@dataclass(frozen=True)
class Shell:
    """Runs commands, or only prints them.

    Attributes:
        dry_run: print what would be run, ready to paste, and run nothing.
    """

    dry_run: bool = False

    def run(self, argv: Argv) -> None:
        """Run a command that changes something; its output goes to the terminal.

        Raises:
            CloudError: it failed, in one line.
        """
        print(shown(argv), flush=True)
        if not self.dry_run:
            done = subprocess.run(
                located(argv), stderr=subprocess.PIPE, text=True, errors="replace", env=environment(), check=False
            )
            if done.returncode:
                raise trouble(argv, done.stderr)
            sys.stderr.write(done.stderr)  # what it created, in gcloud's words

    def make(self, argv: Argv) -> Any:
        """Run a command that makes something, and return what that became, from its JSON. None in a dry run.

        Raises:
            CloudError: it failed, in one line.
        """
        print(shown(argv), flush=True)
        return None if self.dry_run else self.ask(argv)

    def ask(self, argv: Argv) -> Any:
        """What a command answers that changes nothing, from its JSON (`--format=json`). Not to be asked in a dry run.

        Raises:
            NotFoundError: the thing that was asked for is not there.
            CloudError: it failed for another reason, in one line.
        """
        said = self.read(argv)
        return json.loads(said) if said.strip() else None

    def read(self, argv: Argv) -> str:
        """The same, as text."""
        assert not self.dry_run, argv
        done = subprocess.run(
            located(argv), capture_output=True, text=True, errors="replace", env=environment(), check=False
        )
        if done.returncode:
            raise trouble(argv, done.stderr)
        return done.stdout


def environment() -> dict[str, str]:
    """This process's, and no questions: gcloud would ask on stderr, which nobody sees, and wait."""
    return {**os.environ, "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}


def shown(argv: Argv) -> str:
    """The command as a line to paste into this system's shell."""
    return subprocess.list2cmdline(argv) if os.name == "nt" else shlex.join(argv)


def located(argv: Argv) -> list[str]:
    """The command with its program's whole path: on Windows gcloud is a .cmd file.

    Raises:
        CloudError: the program is not there.
    """
    path = shutil.which(argv[0])
    if path is None:
        hint = "install it from cloud.google.com/sdk, then type `gcloud auth login`"
        raise CloudError(f"{argv[0]} is not on the PATH: {hint if argv[0] == 'gcloud' else 'install it'}")
    return [path, *argv[1:]]


def trouble(argv: Argv, printed: str) -> CloudError:
    """Why a command failed, in one line."""
    said = gist(printed)
    for known in TROUBLES:
        if match := re.search(known.pattern, printed):
            return known.kind(known.message.format(said=said, **match.groupdict()))
    kind = NotFoundError if NOT_FOUND.search(printed) else CloudError
    return kind(f"{' '.join(argv[:4])}: {said}")


def gist(printed: str) -> str:
    """Of what gcloud printed, the sentence that says why."""
    lines = [line.strip(" -\t") for line in printed.splitlines() if line.strip(" -\t")]
    errors = [line for line in lines if line.startswith("ERROR:")]
    sentence = re.sub(r"^ERROR:\s*(\([\w.-]+\)\s*)?", "", (errors or lines or ["it printed nothing"])[-1])
    if sentence.endswith(":") and errors and (after := lines[lines.index(errors[-1]) + 1 :]):
        sentence = f"{sentence} {after[0]}"
    return sentence.rstrip(".")[:300]
