"""The tasks that train: here or on Vertex AI, and what comes back from there."""

import subprocess
import sys

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from deploy import repository, runs, settings, training
from deploy import results as bringing
from deploy.gcloud import Shell, shown
from deploy.outputs import tell
from deploy.tasks import DIRTY, DRY
from deploy.tasks import cloud as in_cloud


@task(
    iterable=["S"],
    help={
        "cloud": "on Vertex AI, not here",
        "S": "key=value: a param of this run, as in `dvc exp run -S lr=1e-3`; may be given several times",
        "machine": "type of the machines",
        "gpu": "NVIDIA_TESLA_T4, NVIDIA_L4, ...",
        "count": "GPUs for each machine",
        "nodes": "machines",
        "spot": "machines that are cheaper and may be taken back; the job then goes on from its checkpoint",
        "run": "the ID of a run that has stopped, to go on with",
        "allow_dirty": DIRTY,
        "dry_run": DRY,
    },
)
def train(
    context: Context,
    S: list[str],  # noqa: N803 - the flag is -S, as DVC's
    cloud: bool = False,
    machine: str | None = None,
    gpu: str | None = None,
    count: int | None = None,
    nodes: int | None = None,
    spot: bool = False,
    run: str = "",
    allow_dirty: bool = False,
    dry_run: bool = False,
) -> None:
    """Run the pipeline here, or with --cloud on Vertex AI, and show its log."""
    sizes = {"machine": machine, "gpu": gpu, "gpus": count, "nodes": nodes}
    if not cloud:
        if spot or run or any(value is not None for value in sizes.values()):
            raise Exit("--machine, --gpu, --count, --nodes, --spot and --run want --cloud", code=1)
        here(S, dry_run)
        return
    with in_cloud(context) as names:
        names = training.sized(names, **sizes)
        settings.check(S)
        if run:
            training.must_be_id(run)
        shell, commit = Shell(dry_run), repository.commit(allow_dirty)
        if run and not dry_run:
            S = list(training.again(shell, names, run, commit, S))  # noqa: N806
        run = run or runs.new_id(commit)
        tell(run=run)
        training.train(shell, names, training.Plan(run, commit, tuple(S), spot))


def here(chosen: list[str], dry_run: bool) -> None:
    """Run the pipeline on this machine, with other params if any are chosen."""
    words = [word for setting in chosen for word in ("-S", setting)]
    argv = [sys.executable, "-m", "dvc", *(("exp", "run", *words) if chosen else ("repro",))]
    if dry_run:
        print(shown(["dvc", *argv[3:]]))
    elif status := subprocess.run(argv, check=False).returncode:
        raise Exit("the pipeline failed; the reason stands above", code=status)


@task(positional=["run"], help={"run": "its ID, as `train --cloud` said", "dry_run": DRY})
def results(context: Context, run: str, dry_run: bool = False) -> None:
    """Bring home what a run on Vertex AI made; nothing is trained here."""
    with in_cloud(context) as names:
        bringing.results(Shell(dry_run), names, run)
