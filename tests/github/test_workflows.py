"""The workflows: what they may do, whether their words exist, and whether their steps work."""

import fnmatch
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from invoke.collection import Collection
from invoke.parser import Parser

import tasks
from tests.conftest import ROOT
from tests.github import runner

LINT = (sys.executable, "-m", "check_jsonschema", "--builtin-schema")
ACTION = re.compile(r"uses: ([\w.-]+/[\w./-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)$")
# What may do more than read, and no more than this.
WRITES = {
    "data/retrain": {"contents": "write", "id-token": "write", "pull-requests": "write"},
    "docs/deploy": {"id-token": "write", "pages": "write"},
    "experiment/comment": {"contents": "write", "pull-requests": "write"},
    "images/build": {"contents": "read", "id-token": "write"},
    "release/release": {"contents": "read", "id-token": "write"},
}
FILES = sorted((ROOT / ".github/workflows").glob("*.yaml"))


def jobs() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for name in runner.names():
        workflow = runner.load(name)
        for job, found in workflow["jobs"].items():
            yield f"{name}/{job}", found, workflow


JOBS = {name: (job, workflow) for name, job, workflow in jobs()}
EACH_JOB = pytest.mark.parametrize("name", JOBS)
COMMANDS = sorted(
    {
        (name, line.strip())
        for name, (job, _) in JOBS.items()
        for step in job["steps"]
        for line in step.get("run", "").splitlines()
    }
)


def test_the_schemas_hold() -> None:
    for schema, files in (("workflows", FILES), ("dependabot", [ROOT / ".github/dependabot.yml"])):
        name = f"vendor.{'github-' if schema == 'workflows' else ''}{schema}"
        done = subprocess.run([*LINT, name, *files], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_zizmor_has_nothing_to_say() -> None:
    program = shutil.which("zizmor", path=str(Path(sys.executable).parent))
    assert program
    done = subprocess.run(
        [program, "--offline", "--quiet", "--persona=pedantic", ".github"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_an_action_is_a_commit_with_its_version_and_everywhere_the_same() -> None:
    pinned: dict[str, set[tuple[str, str]]] = {}
    for file in FILES:
        for line in file.read_text(encoding="utf-8").splitlines():
            if "uses:" in line:
                match = ACTION.search(line.strip())
                assert match, f"{file.name}: {line}"
                pinned.setdefault(match[1], set()).add((match[2], match[3]))
    assert {action: pins for action, pins in pinned.items() if len(pins) > 1} == {}


@EACH_JOB
def test_a_job_may_do_what_it_has_to_and_ends(name: str) -> None:
    job, workflow = JOBS[name]
    assert workflow["permissions"] == {}
    assert job["permissions"] == WRITES.get(name, {"contents": "read"})
    assert job["timeout-minutes"] < 360
    assert workflow["concurrency"]["group"]
    for step in job["steps"]:
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@EACH_JOB
def test_a_pull_requests_code_gets_neither_the_cloud_nor_a_token_that_writes(name: str) -> None:
    job, workflow = JOBS[name]
    assert "pull_request_target" not in workflow["on"]
    assert "workflow_run" not in workflow["on"]
    if "pull_request" not in workflow["on"] or name == "docs/deploy":
        return
    assert "google-github-actions" not in str(job)
    if "write" in job["permissions"].values():
        checkout = next(step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@"))
        assert checkout["with"]["ref"] == "${{ github.event.pull_request.base.sha }}"
        assert "head.repo.full_name == github.repository" in job["if"]


@EACH_JOB
def test_without_a_project_the_cloud_is_left_out_in_sight(name: str) -> None:
    job, workflow = JOBS[name]
    uses = [step.get("uses", "") for step in job["steps"]]
    cloud = any(use.startswith("google-github-actions/auth@") for use in uses)
    assert cloud == ("vars.GCP_PROJECT != ''" in job.get("if", ""))
    if cloud:  # from main alone, or as the environment that Google lets in besides
        assert "refs/heads/main" in job["if"] or job["environment"] == "production"
        # What is deployed comes from no cache that another run could have filled.
        setup = next(step for step in job["steps"] if step.get("uses", "").startswith("astral-sh/setup-uv@"))
        assert setup["with"]["enable-cache"] is False
        assert workflow["concurrency"]["cancel-in-progress"] is False


def test_a_pull_request_that_changes_what_a_stage_reads_is_an_experiment() -> None:
    patterns = runner.load("experiment")["on"]["pull_request"]["paths"]
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    made = {out for stage in pipeline["stages"].values() for out in stage["outs"]}
    read = {
        dep.replace("${data_dir}", "data/pictures/hat/1.png").replace("${extra_dir}", "data/feedback/hat/1.png")
        for stage in pipeline["stages"].values()
        for dep in stage["deps"]
    }
    for path in [*(read - made), "params.yaml", "dvc.yaml", "dvc.lock"]:
        assert any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns), path


@pytest.mark.parametrize("tag", ["model@v1.2.0", "model@v0.1.0-rc.1", "model#prod#1"])
def test_a_release_listens_for_the_registrys_tags(tag: str) -> None:
    patterns = runner.load("release")["on"]["push"]["tags"]
    assert any(fnmatch.fnmatchcase(tag, pattern) for pattern in patterns)


# The words


def says(program: str) -> list[tuple[str, list[str]]]:
    """Where a program is said, and its arguments."""
    found = []
    for name, line in COMMANDS:
        for part in re.split(r"\||&&|;|\$\(", line):
            words = shlex.split(part.strip().rstrip(")"), comments=True) if part.count('"') % 2 == 0 else part.split()
            if program in words[:6]:
                found.append((name, words[words.index(program) + 1 :]))
    return found


def test_every_task_exists_with_these_flags() -> None:
    parser = Parser(contexts=Collection.from_module(tasks).to_contexts())
    said = says("invoke")
    assert {words[0] for _, words in said} >= {
        "build", "check-data", "comment", "docs", "in-step", "lint", "release", "report", "results", "test", "train",
    }  # fmt: skip
    for name, words in said:
        found = parser.parse_argv(words)
        assert len(found) == 1, (name, words)
        assert not found[0].missing_positional_args, (name, words)


def test_every_group_exists() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    named = [(words[k], words[k + 1]) for _, words in says("sync") for k in range(len(words) - 1)]
    asked = {group for flag, group in named if flag.endswith("group")}
    assert asked
    assert asked <= groups.keys()


def test_ci_is_what_the_script_runs() -> None:
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    for _, words in [(name, line) for name, line in COMMANDS if name.startswith("ci/")]:
        tail = words.partition("--no-sync ")[2]
        if tail and tail != "invoke test":  # which is the first of them without coverage
            assert tail in script, tail


def test_a_step_does_its_work_by_a_task() -> None:
    """Or by uv, DVC, git: so that it can be run here."""
    for name, line in COMMANDS:
        first = shlex.split(line)[0] if line.count('"') % 2 == 0 else line.split()[0]
        assert first in ("uv", "git", "gh", "echo", "sudo", "test"), (name, line)
