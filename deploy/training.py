"""Vertex AI: hands a run to a custom job, shows its log, and says how it ended.

A run's ID is its job's display name; asked for again (`--run ID`), it goes on from the checkpoints that lie under it.
"""

import itertools
import json
import re
import string
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy import images, runs, settings
from deploy.gcloud import CloudError, NotFoundError, Shell, located
from deploy.names import Names

TEMPLATE = Path(__file__).with_name("vertex.yaml")
ENDED = ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "PARTIALLY_SUCCEEDED")
EVERY = 20.0  # seconds between two questions for a job's state
PATIENCE = 600.0  # seconds without an answer from Google until following a job is given up
# The flags of `train` for what invoke.yaml calls otherwise.
FLAGS = {"machine": "--machine", "gpu": "--gpu", "gpus": "--count", "nodes": "--nodes"}


@dataclass(frozen=True)
class Plan:
    """What a job is to run.

    Attributes:
        commit: whose train image runs.
        settings: `key=value`, as -S takes them.
        spot: on machines that are cheaper and can be taken back.
    """

    run: str
    commit: str
    settings: tuple[str, ...] = ()
    spot: bool = False


def sized(names: Names, **sizes: Any) -> Names:
    """The names, with the machine, gpu, gpus and nodes that were asked for; None: as invoke.yaml has it.

    Raises:
        CloudError: a size that cannot be, by its flag, or a number of no GPUs.
    """
    try:
        found = Names.of(names.model_dump() | {key: value for key, value in sizes.items() if value is not None})
    except CloudError as error:
        said = str(error)
        for key, flag in FLAGS.items():
            said = said.replace(f"invoke.yaml: gcp.{key} ", f"{flag} ")
        raise CloudError(said) from None
    if sizes.get("gpus") is not None and not found.gpu:
        raise CloudError(f"--count {found.gpus}: of which? add --gpu, such as --gpu NVIDIA_TESLA_T4")
    return found


def config(names: Names, plan: Plan) -> str:
    """vertex.yaml filled in."""
    arguments = [f"--bucket={names.bucket}", f"--run={plan.run}"]
    arguments += [word for setting in plan.settings for word in ("-S", setting)]
    filled = string.Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        machine=names.machine,
        image=names.image("train", plan.commit),
        arguments=json.dumps(arguments),
        account=names.account(names.trainer),
        bucket=names.bucket,
        run=plan.run,
        strategy="SPOT" if plan.spot else "STANDARD",
        restart=json.dumps(plan.spot or names.nodes > 1),
    )
    job = yaml.safe_load(filled)
    first = job["workerPoolSpecs"][0]
    if names.gpu:
        first["machineSpec"] |= {"acceleratorType": names.gpu, "acceleratorCount": names.gpus}
    if names.nodes > 1:
        job["workerPoolSpecs"].append(first | {"replicaCount": names.nodes - 1})
    return json.dumps(job, indent=2) + "\n"  # which is YAML, without anchors


# The commands


def create(names: Names, plan: Plan, file: Path) -> list[str]:
    """Start the job of a run."""
    labels = f"app=atelier,run={plan.run},commit={plan.commit}"
    words = ["gcloud", "ai", "custom-jobs", "create", f"--display-name={plan.run}", f"--config={file.as_posix()}"]
    return [*words, f"--labels={labels}", *_where(names), "--format=json"]


def find(names: Names, run: str) -> list[str]:
    """Ask for the jobs of a run, the newest first; `run*` asks for those of all runs that begin so."""
    match = f"displayName:{run}" if run.endswith("*") else f"displayName={run}"
    words = ["gcloud", "ai", "custom-jobs", "list", f"--filter={match}", "--sort-by=~createTime"]
    return [*words, *_where(names), "--format=json"]


def describe(names: Names, number: str) -> list[str]:
    """Ask for a job."""
    return ["gcloud", "ai", "custom-jobs", "describe", number, *_where(names), "--format=json"]


def stream(names: Names, number: str) -> list[str]:
    """Show a job's log as it is written."""
    return ["gcloud", "ai", "custom-jobs", "stream-logs", number, "--polling-interval=10", *_where(names)]


def cat(names: Names, run: str, name: str) -> list[str]:
    """Read a file that a run left in the bucket."""
    return ["gcloud", "storage", "cat", runs.file(names.bucket, run, name), f"--project={names.project}"]


def _where(names: Names) -> list[str]:
    return [f"--project={names.project}", f"--region={names.region}"]


# What a job says of itself


def number_of(job: Any) -> str:
    """The number by which gcloud knows a job."""
    return str(job["name"].rsplit("/", 1)[-1])


def state_of(job: Any) -> str:
    """SUCCEEDED, FAILED, RUNNING, PENDING, ..."""
    return str(job.get("state", "PENDING")).removeprefix("JOB_STATE_")


def settings_of(job: Any) -> tuple[str, ...]:
    """The -S that a job was given."""
    words = job["jobSpec"]["workerPoolSpecs"][0]["containerSpec"].get("args", [])
    return tuple(value for flag, value in itertools.pairwise(words) if flag == "-S")


def commit_of(job: Any) -> str:
    """The commit whose image a job runs."""
    return str(job["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]["imageUri"].rsplit(":", 1)[-1])


def verdict(job: Any, left: Any) -> str:
    """How a job ended that did not succeed, and what to do, in a line.

    Args:
        left: what the container left as state.json; None if it left nothing.
    """
    run, state = job["displayName"], state_of(job)
    said = " ".join(str(job.get("error", {}).get("message", "")).split())
    again = f"`uv run invoke train --cloud --run {run}` goes on from its checkpoint"
    left = left or {}
    if state == "CANCELLED":
        return f"{run} was cancelled: {again}"
    if state == "EXPIRED":
        return f"{run} took longer than vertex.yaml's timeout: {again}"
    if left.get("state") == "failed":
        return f"{run} failed: {left.get('reason') or said or 'Vertex gives no reason'}"
    if left.get("state") == "stopped" or re.search(r"preempt|reclaim|\bstatus(:| of)? 143\b", said, re.IGNORECASE):
        return f"{run} was stopped, its machine was taken back{f' ({said})' if said else ''}: {again}"
    return f"{run} failed{' before it wrote anything' if not left else ''}: {said or 'Vertex gives no reason'}"


# The tasks


def submit(shell: Shell, names: Names, plan: Plan) -> Any:
    """Start the job of a run whose image is there; what Vertex made of it, None in a dry run.

    Raises:
        CloudError: why it was not started.
    """
    file = Path(f".atelier/vertex/{plan.run}.yaml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(config(names, plan), "utf-8", newline="\n")
    return shell.make(create(names, plan, file))


def image(shell: Shell, names: Names, commit: str) -> None:
    """Build the train image of a commit, unless it is there.

    Raises:
        CloudError: why not.
    """
    if shell.dry_run or not images.is_there(shell, names, "train", commit):
        images.build(shell, names, "train", commit=commit, model="")


def must_be_id(run: str) -> None:
    """Raises CloudError if no run can be called so."""
    if not runs.is_id(run):
        raise CloudError(f"{run!r} is no run's ID: that is what `train --cloud` said, such as {runs.new_id('0' * 40)}")


def newest(shell: Shell, names: Names, run: str) -> Any:
    """The newest job of a run.

    Raises:
        CloudError: the run has none.
    """
    must_be_id(run)
    jobs = shell.ask(find(names, run))
    if not jobs:
        raise CloudError(f"there is no run {run} in {names.project}, {names.region}: it is what `train --cloud` said")
    return jobs[0]


def again(shell: Shell, names: Names, run: str, commit: str, given: Sequence[str]) -> tuple[str, ...]:
    """The settings with which a run that has stopped can go on.

    Raises:
        CloudError: it runs still, or is of another commit or other settings, whose checkpoints would not fit.
    """
    job = newest(shell, names, run)
    if state_of(job) not in ENDED:
        raise CloudError(f"{run} is not at its end ({state_of(job).lower()}): `uv run invoke results {run}`")
    if commit_of(job) != commit:
        raise CloudError(f"{run} is of commit {commit_of(job)[:8]}, here is {commit[:8]}: `git switch --detach` to it")
    if given and tuple(given) != settings_of(job):
        raise CloudError(f"{run} had -S {' '.join(settings_of(job)) or '(none)'}: leave -S out, or start a new run")
    return settings_of(job)


def train(shell: Shell, names: Names, plan: Plan) -> None:
    """Hand a run to Vertex AI and follow it to its end.

    Raises:
        CloudError: it was not started, or ended otherwise than well.
        KeyboardInterrupt: with how to come back; the job goes on.
    """
    settings.check(plan.settings)
    image(shell, names, plan.commit)
    if shell.dry_run:
        submit(shell, names, plan)
        print("# then the log of the job, by the number that the last command tells:")
        shell.run(stream(names, "JOB"))
        print(f"# and when it is finished, `uv run invoke results {plan.run}` brings home what it made")
        return
    try:
        job = submit(shell, names, plan)
        print(f"{plan.run} is submitted; Ctrl-C leaves it running", flush=True)
        job = follow(shell, names, job)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"`uv run invoke results {plan.run}`") from None
    if state_of(job) != "SUCCEEDED":
        raise CloudError(verdict(job, left_state(shell, names, plan.run)))
    print(f"{plan.run} is finished: `uv run invoke results {plan.run}` brings home what it made")


def follow(shell: Shell, names: Names, job: Any) -> Any:
    """Show a job's log until the job ends; the job as it then is.

    gcloud's stream asks for the job's state once, at its start, and so never ends by itself when the job was running
    then: the state is asked for here.

    Raises:
        CloudError: Google has not answered for PATIENCE seconds.
    """
    number, heard = number_of(job), time.monotonic()
    log = subprocess.Popen(located(stream(names, number)))
    try:
        while state_of(job) not in ENDED:
            time.sleep(EVERY)
            try:
                job, heard = shell.ask(describe(names, number)), time.monotonic()
            except CloudError as error:
                if time.monotonic() - heard > PATIENCE:
                    back = f"`uv run invoke results {job['displayName']}`"
                    raise CloudError(f"{error}; the job goes on: {back}") from None
                print(f"# {error}; asking again", flush=True)
        time.sleep(EVERY)  # the log's end comes late
    finally:
        log.terminate()
        log.wait()
    return job


def left_state(shell: Shell, names: Names, run: str) -> Any:
    """What the container left as state.json; None if it left nothing."""
    try:
        return shell.ask(cat(names, run, "state.json"))
    except NotFoundError:
        return None
