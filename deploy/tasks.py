"""The cloud's tasks, which tasks.py hands on: each checks the names, calls one function, and says errors in a line."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task
from rich.console import Console
from rich.table import Table

from deploy import images, registry, repository, serving, setup
from deploy.gcloud import CloudError, Shell
from deploy.names import Image, Names

MODELS = Path("models")
IMAGES: tuple[Image, ...] = ("app", "train")
DRY = "print the commands, ready to paste, and run nothing"
DIRTY = "though the work tree has changes that the commit does not hold"


@contextlib.contextmanager
def told() -> Iterator[None]:
    """An error of ours ends the task in a line."""
    try:
        yield
    except CloudError as error:
        raise Exit(str(error), code=1) from None


@contextlib.contextmanager
def cloud(context: Context) -> Iterator[Names]:
    """The checked names; an error of ours ends the task in a line."""
    try:
        yield Names.of(context.config.get("gcp", {}))
    except CloudError as error:
        raise Exit(str(error), code=1) from None
    except KeyboardInterrupt as stop:
        raise Exit(
            f"stopped here; what runs in the cloud goes on: {stop or '`uv run invoke status`'}", code=130
        ) from None


@task(help={"dry_run": DRY})
def cloud_setup(context: Context, dry_run: bool = False) -> None:
    """Make what the other cloud tasks need in the project, and only what is missing: safe to run again."""
    with cloud(context) as names:
        run = setup.Setup(Shell(dry_run), names)
        try:
            number = run.run()
        finally:
            if not dry_run and run.rows:
                table = Table("what", "name", "state")
                for row in run.rows:
                    table.add_row(row.what, row.name, row.state)
                Console().print(table)
        for line in setup.next_steps(names, number):
            print(f"# {line}" if dry_run else line)


@task(
    positional=["which"],
    help={
        "which": "app, train, or both",
        "local": "here, with docker or buildah, not with Cloud Build",
        "allow_dirty": DIRTY,
        "dry_run": DRY,
    },
)
def build(context: Context, which: str, local: bool = False, allow_dirty: bool = False, dry_run: bool = False) -> None:
    """Build an image of this commit, or both, and put it into the registry."""
    if which not in (*IMAGES, "both"):
        raise Exit(f"build {which}: there are {', '.join(IMAGES)} and both", code=1)
    with cloud(context) as names:
        commit = repository.commit(allow_dirty)
        for image in IMAGES:
            if which in ("both", image):
                model = repository.served_sha256(MODELS) if image == "app" else ""
                images.build(Shell(dry_run), names, image, commit=commit, model=model, local=local)


@task(
    help={
        "canary": f"{serving.CANARY} % of the traffic first, and all of it only if the service still answers well",
        "allow_dirty": DIRTY,
        "dry_run": DRY,
    }
)
def deploy(context: Context, canary: bool = False, allow_dirty: bool = False, dry_run: bool = False) -> None:
    """Put this commit's app on Cloud Run: try it without traffic, then move the traffic to it."""
    with cloud(context) as names:
        shell, commit = Shell(dry_run), repository.commit(allow_dirty)
        model = repository.served_sha256(MODELS)
        if dry_run or not images.is_there(shell, names, "app", commit):
            images.build(shell, names, "app", commit=commit, model=model)
        version = registry.version_at(commit)
        serving.deploy(shell, names, commit=commit, models=MODELS, canary=canary, version=version)


@task(help={"dry_run": DRY})
def rollback(context: Context, dry_run: bool = False) -> None:
    """Send all traffic to the revision that served before, at once."""
    with cloud(context) as names:
        serving.rollback(Shell(dry_run), names)


@task(help={"dry_run": DRY})
def status(context: Context, dry_run: bool = False) -> None:
    """Say what runs where: revisions, their traffic, commit, model and its version."""
    with cloud(context) as names:
        if dry_run:
            for argv in (serving.describe(names), serving.list_revisions(names)):
                Shell(dry_run=True).run(argv)
            return
        table = Table("revision", "traffic", "tags", "commit", "model", "version")
        for row in serving.status(Shell(), names):
            table.add_row(*row)
        Console().print(table)
