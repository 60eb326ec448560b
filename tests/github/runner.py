"""Runs the `run:` steps of a workflow's job as GitHub's runner does: bash, in a clone, step after step."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.project import ENVIRONMENT

WORKFLOWS = ROOT / ".github/workflows"
EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


def load(name: str) -> dict[str, Any]:
    """A workflow. YAML 1.1 reads the key `on` as true."""
    found = yaml.safe_load((WORKFLOWS / f"{name}.yaml").read_text(encoding="utf-8"))
    return {("on" if key is True else key): value for key, value in found.items()}


def names() -> list[str]:
    return sorted(file.stem for file in WORKFLOWS.glob("*.yaml"))


@dataclass
class Job:
    """One job in a clone.

    Attributes:
        context: what `${{ … }}` stands for, by its whole expression.
        instead: what is run in place of a step, by the step's whole text; empty: nothing. For what needs Google.
        ran: the steps that ran, with what they said.
    """

    workflow: str
    name: str
    folder: Path
    scratch: Path
    context: dict[str, str] = field(default_factory=dict)
    instead: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    ran: dict[str, str] = field(default_factory=dict)

    def run(self, ok: bool = True) -> None:
        """Run it to its end, or to the first step that fails; `ok` is whether it has to succeed."""
        whole = load(self.workflow)
        job = whole["jobs"][self.name]
        self.scratch.mkdir(parents=True, exist_ok=True)
        failed = ""
        for step in job["steps"]:
            if "run" in step and not failed:
                env = {**whole.get("env", {}), **job.get("env", {}), **step.get("env", {})}
                outcome = self.step(step, {key: self.filled(str(value)) for key, value in env.items()})
                if "id" in step:
                    self.context[f"steps.{step['id']}.outcome"] = outcome
                if outcome == "failure" and not step.get("continue-on-error"):
                    failed = step["run"]
        assert bool(failed) != ok, f"{failed}\n{self.ran.get(failed)}" if failed else "every step went well"

    def step(self, step: dict[str, Any], env: dict[str, str]) -> str:
        text = step["run"]
        if not self.holds(step.get("if", "")):
            return "skipped"
        command = text if not text.startswith("uv sync") else ""  # this environment has it all
        command = self.instead.get(text, command)
        output = self.scratch / "output"
        output.write_text("")
        script = self.scratch / "step.sh"
        script.write_text(command)
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.folder,
            env={**self.base(), "GITHUB_OUTPUT": str(output), **self.environment, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            check=False,
        )
        self.ran[text] = done.stdout
        for line in output.read_text().splitlines():
            key, _, value = line.partition("=")
            self.context[f"steps.{step.get('id')}.outputs.{key}"] = value
        return "failure" if done.returncode else "success"

    def base(self) -> dict[str, str]:
        """A runner's environment: nobody's home, nobody's settings of git."""
        kept = {k: v for k, v in ENVIRONMENT.items() if not k.startswith(("GIT_", "GITHUB_", "VIRTUAL_ENV", "INVOKE_"))}
        return {
            **kept,
            "HOME": str(self.scratch),
            "XDG_CONFIG_HOME": str(self.scratch),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GITHUB_STEP_SUMMARY": str(self.scratch / "summary.md"),
            "UV_PROJECT_ENVIRONMENT": sys.prefix,
        }

    def filled(self, text: str) -> str:
        """Fill expressions in; one that the test does not know fails it."""
        return EXPRESSION.sub(lambda match: self.value(match[1]), text)

    def value(self, name: str) -> str:
        """What a step that was skipped would have told is empty, as on GitHub."""
        return self.context.get(name, "") if name.startswith("steps.") else self.context[name]

    def holds(self, condition: str) -> bool:
        """Whether a step's `if` holds; of the language, what the workflows use."""
        for part in filter(None, condition.split(" && ")):
            left, how, right = re.fullmatch(r"([\w.]+) (==|!=) '(.*)'", part).groups()  # type: ignore[union-attr]
            if (self.value(left) == right) != (how == "=="):
                return False
        return True


def tools() -> None:
    """Skip, in sight, where the steps cannot run."""
    for name in ("bash", "uv", "git"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not on the PATH: the workflows' steps cannot be run here")
    if os.name == "nt":
        pytest.skip("the steps are written for the runner's Linux")
