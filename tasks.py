"""The vocabulary: people, hooks and CI say these tasks. `uv run invoke --list` shows them."""

import hashlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Iterable
from pathlib import Path

import yaml
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task
from rich.console import Console
from rich.table import Table

from deploy import repository, runs, sweep_here
from deploy import sweep as sweeping
from deploy import verify as verifying
from deploy.alerts_tasks import alerts
from deploy.gcloud import CloudError, Shell
from deploy.github_tasks import check_data, comment, docs, in_step, release, report
from deploy.load_tasks import load
from deploy.lock import PICTURES, behind
from deploy.registry_tasks import models, promote, register
from deploy.tasks import DRY, build, cloud_setup, deploy, rollback, status
from deploy.tasks import cloud as in_cloud
from deploy.training_tasks import results, train
from deploy.watching_tasks import drift, feedback

# Found here by invoke: the cloud's tasks, and those that GitHub's workflows say.
__all__ = ["alerts", "build", "cloud_setup", "deploy", "results", "rollback", "status", "train"]
__all__ += ["check_data", "comment", "docs", "in_step", "release", "report"]
__all__ += ["models", "promote", "register"]
__all__ += ["drift", "feedback", "load"]

DEMO = Path("demo/models")
# Small enough for a minute on two cores; what is not named here is the user's own params.yaml.
DEMO_PARAMS = {
    "seed": 1,
    "dataset": "sketches",
    "data_dir": "data/pictures",
    "extra_dir": "data/feedback",
    "image_size": 28,
    "sketches": 8000,
    "width": 48,
    "epochs": 5,
    "batch_size": 256,
    "lr": 0.005,
    "augment": "shift",
    "min_accuracy": 0.5,
}
HOST = "127.0.0.1"
BENCHMARKS = (
    "accuracy",
    "capacity",
    "drift",
    "int8",
    "memory",
    "overhead",
    "preparing",
    "scale",
    "seeds",
    "serving",
    "sketches",
    "sustained",
    "sweep",
    "together",
    "training",
    "unlike",
)
EXPORTS = {
    "requirements/app.txt": ["--no-default-groups"],
    "requirements/train.txt": ["--no-group", "dev", "--no-group", "cloud"],
}


def call(*command: str, env: dict[str, str] | None = None, quiet: bool = False) -> int:
    """Run a command with the terminal's own input and output; return its exit status."""
    output = subprocess.DEVNULL if quiet else None
    return subprocess.run(
        command, env={**os.environ, **(env or {})}, stdout=output, stderr=output, check=False
    ).returncode


def must(*command: str, env: dict[str, str] | None = None) -> None:
    """Run a command; end the task with its status, and no traceback, if it fails."""
    if status := call(*command, env=env):
        raise Exit(f"`{' '.join(command)}` failed", code=status)


def dvc(*arguments: str) -> tuple[str, ...]:
    """DVC as this Python has it: no other installation on the PATH gets in between."""
    return (sys.executable, "-m", "dvc", *arguments)


def settings(values: dict[str, object]) -> list[str]:
    """`-S key=value` for each param."""
    return [word for key, value in values.items() for word in ("-S", f"{key}={value}")]


def run_experiment(name: str, values: dict[str, object], bring: Iterable[str] = ()) -> int:
    """Run the pipeline as an experiment in a folder of its own, leaving the workspace alone; return the status.

    That folder holds what git tracks and what is in `bring`.
    """
    sweep_here.forget([name])
    return call(*experiment(name, values, bring), env=identity())


def experiment(name: str, values: dict[str, object], bring: Iterable[str] = ()) -> tuple[str, ...]:
    """The command that does."""
    copies = [word for path in bring for word in ("--copy-paths", path)]
    return dvc("exp", "run", "--temp", "--name", name, *copies, *settings(values))


def identity() -> dict[str, str]:
    """A name for the commit that holds an experiment, where git knows none."""
    known = subprocess.run(["git", "config", "user.email"], capture_output=True, check=False).stdout.strip()
    who = {"NAME": "atelier", "EMAIL": "atelier@localhost"}
    return {} if known else {f"GIT_{role}_{k}": v for role in ("AUTHOR", "COMMITTER") for k, v in who.items()}


@task(help={"serve": "open the page at the end (--no-serve: don't)", "port": "of the page"})
def demo(_: Context, serve: bool = True, port: int = 7860) -> None:
    """Run the whole pipeline on built-in drawings, beside your own work, and open the page."""
    if serve:
        refuse_taken(port)
    started = time.monotonic()
    if run_experiment("demo", DEMO_PARAMS):
        raise Exit("the demo's pipeline failed; the reason stands above", code=1)
    shutil.rmtree(DEMO.parent, ignore_errors=True)
    DEMO.parent.mkdir()
    must(*dvc("get", ".", "models", "--rev", "demo", "--out", str(DEMO), "--quiet"))
    from app.classifier import Classifier

    classifier = Classifier.from_directory(DEMO)
    table = Table(title=f"Demo, {time.monotonic() - started:.0f} s", show_header=False)
    table.add_row("accuracy on drawn test pictures", f"{classifier.metadata['metrics']['accuracy']:.1%}")
    table.add_row("model", str(classifier.path))
    table.add_row(
        "page", f"http://{HOST}:{port}" + ("" if serve else f"  (uv run invoke serve --models {DEMO.as_posix()})")
    )
    table.add_row("the real run, on Fashion-MNIST", "uv run dvc repro")
    Console().print(table)
    if serve:
        open_page(DEMO, port)


@task(
    help={
        "models": "folder with the exported model",
        "port": "of the page",
        "feedback": "folder for what is said to be wrong; empty, and the page does not ask",
    }
)
def serve(_: Context, models: str = "models", port: int = 7860, feedback: str = "feedback") -> None:
    """Serve the exported model with its page."""
    refuse_taken(port)
    open_page(Path(models), port, feedback)


def refuse_taken(port: int) -> None:
    """End before any work if the port is in use."""
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise Exit(f"port {port} is in use: stop what listens there, or choose another with --port", code=1)


def open_page(models: Path, port: int, feedback: str = "") -> None:
    """Run the app until it is stopped; show it in the browser once it answers."""
    address = f"http://{HOST}:{port}"
    env = {**os.environ, "HOST": HOST, "PORT": str(port), "MODEL_DIR": str(models), "FEEDBACK_DIR": feedback}
    with subprocess.Popen([sys.executable, "-m", "app.main"], env=env) as server:
        try:
            while server.poll() is None and not answers(f"{address}/healthz"):
                time.sleep(0.2)
            if server.poll() is None:
                webbrowser.open(address)
            server.wait()
        except KeyboardInterrupt:
            server.terminate()
    if server.returncode > 0:  # the app has said why
        raise Exit(code=server.returncode)


def answers(url: str) -> bool:
    """Whether a server is there."""
    try:
        with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - our own address
            return True
    except (urllib.error.URLError, OSError):
        return False


@task(
    iterable=["grid"],
    help={
        "grid": "key=value,value,...; may be given several times",
        "cloud": "on Vertex AI, a job a point, not here",
        "parallel": "with --cloud: how many jobs at a time",
        "jobs": "here: how many points at a time; 0, as many as there are cores, which they share",
        "spot": "on machines that are cheaper and may be taken back",
        "dry_run": f"with --cloud: {DRY}",
    },
)
def sweep(
    context: Context,
    grid: list[str],
    cloud: bool = False,
    parallel: int = 4,
    spot: bool = False,
    dry_run: bool = False,
    jobs: int = 0,
) -> None:
    """Run a grid of params, here or on Vertex AI, some points at a time, and print the table of results."""
    points = list(grid_points(grid))
    if cloud:
        failed = sweep_in_cloud(context, points, parallel, spot, dry_run)
    elif spot or dry_run:
        raise Exit("--spot and --dry-run want --cloud", code=1)
    else:
        failed = sweep_on_this_machine(points, jobs)
    if not dry_run:
        call(*dvc("exp", "show", "--no-pager", "--only-changed", "--sort-by", "accuracy", "--sort-order", "desc"))
    if failed:
        raise Exit(f"{len(failed)} of {len(points)} points failed: {', '.join(failed)}", code=1)


def sweep_on_this_machine(grid: list[dict[str, object]], jobs: int) -> list[str]:
    """Run a grid here; the names of the points that failed."""
    try:
        at_once, threads = sweep_here.share(len(grid), jobs, *sweep_here.machine())
    except CloudError as error:
        raise Exit(str(error), code=1) from None
    bring = own_pictures()
    named = {"-".join(f"{key}{value}" for key, value in point.items()): point for point in grid}
    commands = {name: experiment(name, point, bring) for name, point in named.items()}
    print(f"{len(commands)} points, {at_once} at a time, {threads} threads each", flush=True)
    return sweep_here.sweep(commands, at_once, threads, identity(), lambda line: print(line, flush=True))


def sweep_in_cloud(
    context: Context, grid: list[dict[str, object]], parallel: int, spot: bool, dry_run: bool
) -> list[str]:
    """Run a grid on Vertex AI; the names of the points that failed."""
    with in_cloud(context) as names:
        sweeping.check(grid, parallel)
        commit = repository.commit()
        todo = sweeping.points(grid, runs.new_id(commit), commit, spot)
        sweeping.sweep(Shell(dry_run), names, todo, parallel)
    return [point.name for point in todo if point.state == "failed"]


def own_pictures() -> list[str]:
    """Untracked files and folders where params.yaml says that the user's pictures are, where they are not in git."""
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    folders = [str(params[name]) for name in PICTURES if name in params]
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--others", "--exclude-standard", "--directory", "--", *folders],
        capture_output=True,
        text=True,
        check=False,  # a folder outside the repository is read where it lies
    ).stdout
    return [path.rstrip("/") for path in listed.split("\0") if path]


def grid_points(grid: Iterable[str]) -> Iterable[dict[str, object]]:
    """`["lr=1,2", "epochs=3"]` -> `{"lr": "1", "epochs": "3"}`, `{"lr": "2", "epochs": "3"}`."""
    axes = [line.partition("=") for line in grid]
    if not axes or not all(key and values for key, _, values in axes):
        raise Exit("give the grid as --grid 'lr=0.003,0.01' --grid 'batch_size=128,256'", code=1)
    keys = [key.strip() for key, _, _ in axes]
    for values in itertools.product(*(values.split(",") for _, _, values in axes)):
        yield dict(zip(keys, (value.strip() for value in values), strict=True))


@task
def lint(_: Context) -> None:
    """Style, types, dockerfiles, workflows, and dvc.lock in step with dvc.yaml, params.yaml and the code."""
    python = (sys.executable, "-m")
    must(*python, "ruff", "check", ".")
    must(*python, "ruff", "format", "--check", ".")
    must(*python, "mypy")
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.splitlines()
    here = [name for name in tracked if Path(name).is_file()]
    must(*python, "pre_commit_hooks.check_yaml", *(n for n in here if n.endswith((".yaml", ".lock"))))
    must(*python, "pre_commit_hooks.check_toml", *(n for n in here if n.endswith(".toml")))
    if sys.platform != "win32":  # for which there is none
        must(str(Path(sys.executable).with_name("hadolint")), *(n for n in here if n.endswith(".dockerfile")))
    workflows = [name for name in here if name.startswith(".github/workflows/")]
    for schema, names in {
        "github-workflows": workflows,
        "dependabot": [".github/dependabot.yml"],
        "cloudbuild": ["deploy/cloudbuild.yaml"],
    }.items():
        must(*python, "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *names)
    # A program, no module: the one beside this Python.
    zizmor = shutil.which("zizmor", path=str(Path(sys.executable).parent)) or "zizmor"
    must(zizmor, "--offline", "--quiet", "--persona=pedantic", ".github")
    if big := [name for name in here if Path(name).stat().st_size > 900_000]:
        raise Exit(f"too large for git: {', '.join(big)}", code=1)
    lock_in_step()


def lock_in_step() -> None:
    """Fail if a stage was changed since dvc.lock was written; the user's own pictures do not count."""
    try:
        changed = behind()
    except CloudError as error:
        raise Exit(str(error), code=1) from None
    if changed:
        raise Exit("dvc.lock is behind (`uv run dvc repro` brings it up):\n  " + "\n  ".join(changed), code=1)


@task(help={"slow": "the slow ones and those in a browser instead"})
def test(_: Context, slow: bool = False) -> None:
    """Run the tests that take seconds, as `uv run pytest` does; or the slow ones, files side by side on all cores."""
    pytest = (sys.executable, "-m", "pytest")
    if not slow:
        must(*pytest)
        return
    cores = os.cpu_count() or 1
    workers = min(cores, 4)  # each may train: more would want more memory than most have
    share = {"OMP_NUM_THREADS": str(cores // workers)}  # two that train with all cores run each other down
    slow_ones = ("-m", "(slow or browser) and not alone", "-n", str(workers), "--dist", "loadfile")
    must(*pytest, *slow_ones, env=share)
    must(*pytest, "-m", "alone")


@task
def lock(_: Context) -> None:
    """Resolve pyproject.toml anew and write the hash-pinned requirements of the two images."""
    must("uv", "lock", "--upgrade")
    for name, groups in EXPORTS.items():
        must(
            "uv",
            "export",
            "--quiet",
            "--frozen",
            "--no-annotate",
            "--no-header",
            "--no-emit-project",
            *groups,
            "-o",
            name,
        )
        text = Path(name).read_text(encoding="utf-8")
        Path(name).write_text(f"# By `invoke lock`, from pyproject.toml {fingerprint()}\n{text}", "utf-8", newline="\n")


def fingerprint() -> str:
    """Hash of what decides the resolution in pyproject.toml."""
    table = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    decides = [
        table["project"]["dependencies"],
        table["project"]["requires-python"],
        table["dependency-groups"]["pipeline"],
        table["tool"]["uv"]["exclude-newer"],
    ]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]


@task(help={"keep": "a folder that is not there yet, for the clone to stay in"})
def verify(_: Context, keep: str = "") -> None:
    """Run the whole pipeline in a fresh clone from raw data, and compare what it makes with dvc.lock."""
    with tempfile.TemporaryDirectory(prefix="atelier-verify-") as scratch:
        folder = Path(keep).resolve() if keep else Path(scratch) / "clone"
        if keep and folder.exists():
            raise Exit(f"--keep {keep}: it exists already", code=1)
        try:
            verdicts, remarks = verifying.verify(Path.cwd(), folder)
        except CloudError as error:
            raise Exit(str(error), code=1) from None
    table = Table("out", "made anew")
    for path, verdict in verdicts.items():
        table.add_row(path, verdict)
    Console().print(table)
    print("\n".join([*remarks, f"on {verifying.machine()}"]))
    if verifying.DIFFERS in verdicts.values():
        raise Exit(f"{list(verdicts.values()).count(verifying.DIFFERS)} of {len(verdicts)} outs differ", code=1)


@task
def publish(_: Context) -> None:
    """Copy the figures of the run in dvc.lock to docs/results.json, and with those of `bench` into README and docs."""
    from benchmarks import pages  # here, since it imports torch

    pages.publish()


@task(help={"only": f"one of {', '.join(BENCHMARKS)}"})
def bench(_: Context, only: str = "") -> None:
    """Measure: what the figures in README and docs are made of."""
    if only and only not in BENCHMARKS:
        raise Exit(f"--only {only}: there are {', '.join(BENCHMARKS)}", code=1)
    for name in [only] if only else BENCHMARKS:
        must(sys.executable, "-m", f"benchmarks.{name}")


@task
def profile(_: Context) -> None:
    """Show where a training step's time goes, and leave the trace."""
    must(sys.executable, "-m", "benchmarks.profile")


@task(help={"models": "folder with the exported model"})
def screenshot(_: Context, models: str = "models") -> None:
    """Take the README's picture of the page in a real browser."""
    with tempfile.TemporaryDirectory() as folder:
        env = {"ATELIER_MODELS": str(Path(models).resolve()), "ATELIER_SCREENSHOTS": folder}
        must(sys.executable, "-m", "pytest", "-q", "-m", "browser", "tests/browser", "-k", "sample_uploaded", env=env)
        Path("docs/images").mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(folder) / "light.png", "docs/images/page.png")
