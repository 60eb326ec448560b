"""What GitHub's workflows say, and people can: tasks.py hands them on. Each is thin, and tells errors in a line."""

import os
import subprocess
import sys
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from deploy import comment as comments
from deploy import images, incoming, links, lock, registry, repository, serving
from deploy import release as releases
from deploy import report as reports
from deploy.gcloud import Shell
from deploy.outputs import tell
from deploy.tasks import DRY, MODELS, cloud, told

DOCS = "the packages of the docs are missing: type `uv sync --group docs`"


@task(
    help={
        "base": "what to compare with: a branch, a tag, a commit",
        "plots": "folder for the pictures, and for the report with them as report.md",
    }
)
def report(_: Context, base: str = "main", plots: str = "") -> None:
    """Say in Markdown what the last run changed: metrics against another commit, params, pictures."""
    with told():
        found = reports.compare(base)
        if plots:
            from deploy.drawing import draw  # matplotlib takes half a second

            folder = Path(plots)
            pictures = draw(Path("reports"), folder)
            (folder / comments.REPORT).write_text(reports.markdown(found, pictures), "utf-8", newline="\n")
        print(reports.markdown(found, []), end="")


@task(
    help={
        "number": "of the pull request",
        "report": "folder that `invoke report --plots` wrote",
        "repository": "owner/name on GitHub; on its runners it is known",
    }
)
def comment(_: Context, number: int, report: str = "report", repository: str = "") -> None:
    """Put a report into a pull request as a comment, in place of an earlier one."""
    repository = repository or os.environ.get("GITHUB_REPOSITORY", "")
    if not repository:
        raise Exit("which repository? Give --repository owner/name", code=1)
    with told():
        server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
        print(comments.post(Path(report), int(number), repository, server))


@task(positional=["tag"], help={"tag": "model@v1.2.0 builds the image, model#prod#1 deploys it", "dry_run": DRY})
def release(context: Context, tag: str, dry_run: bool = False) -> None:
    """Do what a tag of the registry asks for: the image of a version, or its deployment with a canary."""
    with told():
        found = releases.read(tag, releases.artifacts())
    with cloud(context) as names:
        if not dry_run:
            releases.refuse_elsewhere(tag)
        shell, commit, model = Shell(dry_run), repository.commit(allow_dirty=dry_run), repository.served_sha256(MODELS)
        if dry_run or not images.is_there(shell, names, "app", commit):
            images.build(shell, names, "app", commit=commit, model=model)
        if found.stage:
            version = registry.version_at(commit)
            serving.deploy(shell, names, commit=commit, models=MODELS, canary=True, version=version)


@task(
    help={
        "fetch": "first bring here what .dvc files name",
        "newest": "the same, and of what they import from an address take what is there now",
    }
)
def check_data(_: Context, fetch: bool = False, newest: bool = False) -> None:
    """Look through the pictures that params.yaml names, before hours of training."""
    if fetch or newest:
        with told():
            for file in incoming.fetch(newest):
                print(f"{file}: new pictures", flush=True)
    if code := subprocess.run([sys.executable, "-m", "stages.check"], check=False).returncode:
        raise Exit(code=code)  # it has said why


@task(help={"pictures": "changed pictures in data_dir and extra_dir count, too"})
def in_step(_: Context, pictures: bool = False) -> None:
    """Say whether dvc.lock is behind the code, the params and the pictures; on GitHub, to the next steps as well."""
    with told():
        changed = lock.behind(pictures=pictures)
    print("\n".join(["dvc.lock is behind:", *(f"  {line}" for line in changed)]) if changed else "dvc.lock is in step")
    tell(behind="true" if changed else "false")


@task(
    help={
        "serve": "show the site on http://127.0.0.1:8000, and again at each change",
        "external": "instead, ask every address outside that a page links to",
    }
)
def docs(_: Context, serve: bool = False, external: bool = False) -> None:
    """Build the site of docs/ into site/; a broken link fails it."""
    from importlib.util import find_spec

    if external:
        found = links.external([Path("README.md"), *sorted(Path("docs").glob("*.md"))])
        if lost := links.dead(found):
            raise Exit("\n".join(lost), code=1)
        print(f"{len(found)} addresses answer")
        return
    if not find_spec("material"):
        raise Exit(DOCS, code=1)
    # Not --quiet: it keeps warnings from being counted, and so --strict from failing.
    command = ("serve", "--strict") if serve else ("build", "--strict")
    # Its own notice about MkDocs 2, of which we ask for less.
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    if code := subprocess.run([sys.executable, "-m", "mkdocs", *command], env=env, check=False).returncode:
        raise Exit("the site was not built; the reason stands above", code=code)
