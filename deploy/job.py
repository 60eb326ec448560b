"""What the train image runs: the pipeline, with its data from the bucket and its results into the bucket.

    python -m deploy.job --bucket BUCKET --run ID [-S key=value ...]

Reads DVC's remote gs://BUCKET/dvc and the environment that Vertex AI sets (CLUSTER_SPEC, AIP_CHECKPOINT_DIR); pushes
to that remote, and leaves dvc.lock, params.yaml, metrics.json and state.json under gs://BUCKET/runs/ID/. Without
--bucket it runs the pipeline on this disk and leaves everything there. On SIGTERM the stage that runs saves its
checkpoint, and the job ends with 143.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from deploy import runs, settings
from deploy.gcloud import CloudError
from deploy.runner import Runner, StoppedError, end

T = TypeVar("T")
WAITS = (5, 10, 20, 40, 60)  # seconds between tries; gcsfs itself tries for half a minute each time
DVC = (sys.executable, "-m", "dvc")
STAGE = re.compile(r"(prepare|train|evaluate|export): .+")  # how a stage says what is wrong

STOPPED = re.compile(rf"^ERROR: .*exited with {128 + signal.SIGTERM}\b", re.MULTILINE)


@dataclass
class Bucket:
    """A run's own files in the bucket."""

    bucket: str
    run: str
    settings: Sequence[str] = ()
    waits: Sequence[float] = field(default=WAITS)

    def put(self, name: str, content: bytes) -> None:
        """Write a file.

        Raises:
            CloudError: the bucket cannot be reached, or refuses.
        """
        where = runs.file(self.bucket, self.run, name)
        patiently(f"{where} cannot be written", lambda: self._fs.pipe_file(where, content), self.waits)

    def get(self, name: str) -> bytes | None:
        """Read a file; None if it is not there.

        Raises:
            CloudError: the bucket cannot be reached, or refuses.
        """
        where = runs.file(self.bucket, self.run, name)

        def read() -> bytes | None:
            try:
                return bytes(self._fs.cat_file(where))
            except FileNotFoundError:
                return None

        return patiently(f"{where} cannot be read", read, self.waits)

    def say(self, state: str, reason: str = "") -> None:
        """Leave word of how far the run is: running, finished, failed or stopped."""
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        left = {"state": state, "reason": reason, "at": now, "settings": list(self.settings)}
        self.put("state.json", (json.dumps(left, indent=2) + "\n").encode())

    def end_since(self, started: datetime) -> str:
        """`finished`, or what else ended the run after a time; empty while it goes on.

        Results that are there are there, whenever they came; a failure from before is of an earlier attempt.
        """
        left = json.loads(self.get("state.json") or b'{"state": ""}')
        if left["state"] in ("failed", "stopped") and datetime.fromisoformat(left["at"]) < started:
            return ""
        return str(left["state"]) if left["state"] != "running" else ""

    @property
    def _fs(self) -> Any:
        import gcsfs

        return gcsfs.GCSFileSystem()


def patiently(what: str, action: Callable[[], T], waits: Sequence[float]) -> T:
    """Do something over the network, again and again while the network is what fails.

    Raises:
        CloudError: it cannot be done, and why.
    """
    import aiohttp
    import requests
    from gcsfs.retry import HttpError, is_retriable
    from google.auth.exceptions import GoogleAuthError

    for wait in (*waits, None):
        try:
            return action()
        except (
            OSError,
            ValueError,
            HttpError,
            GoogleAuthError,
            aiohttp.ClientError,
            requests.RequestException,
        ) as error:
            said = " ".join(str(error).split())[:200] or type(error).__name__
            if wait is None or not (is_retriable(error) or isinstance(error, ConnectionError | TimeoutError)):
                raise CloudError(f"{what}: {said}") from None
            print(f"# {what}: {said}; again in {wait:.0f} s", flush=True)
            time.sleep(wait)
    raise AssertionError("the last wait is None")


def reason(lines: Sequence[str]) -> str:
    """Of what DVC and a stage printed, the line that says why: the stage's own, else DVC's."""
    stage = [line for line in lines if STAGE.fullmatch(line)]
    dvc = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (stage or dvc or [line for line in lines if line.strip()] or ["it printed nothing"])[-1][:300]


def is_first() -> bool:
    """Whether this node is the first of the first pool, by CLUSTER_SPEC.

    Raises:
        CloudError: CLUSTER_SPEC is not what Vertex AI sets.
    """
    spec = os.environ.get("CLUSTER_SPEC", "")
    try:
        task = json.loads(spec or "{}").get("task", {})
        return (task.get("type", "workerpool0"), int(task.get("index", 0))) == ("workerpool0", 0)
    except (ValueError, AttributeError, TypeError):
        raise CloudError(f"CLUSTER_SPEC is not what Vertex AI sets: {spec[:200]}") from None


def configure(runner: Runner, bucket: str) -> None:
    """DVC without git, with the bucket as its remote.

    Raises:
        CloudError: DVC does not take it.
    """
    must(runner, "config", "--local", "core.no_scm", "true")
    if bucket:
        must(runner, "remote", "add", "--local", "--force", "--default", runs.REMOTE, runs.remote(bucket))
        must(runner, "remote", "modify", "--local", runs.REMOTE, "verify", "true")  # silent damage is not silent


def must(runner: Runner, *words: str) -> None:
    """Run a command of DVC.

    Raises:
        CloudError: why it failed.
    """
    status, lines = runner.run([*DVC, *words])
    if status:
        raise CloudError(reason(lines))


def push(runner: Runner, waits: Sequence[float], *words: str) -> None:
    """`dvc push`, again when the network was lost: what has arrived is not sent twice.

    Raises:
        CloudError: why it failed the last time.
    """
    for wait in (*waits, None):
        status, lines = runner.run([*DVC, "push", *words])
        if not status:
            return
        if wait is None:
            raise CloudError(f"the results are not in the bucket: {reason(lines)}")
        print(f"# dvc push: {reason(lines)}; again in {wait:.0f} s", flush=True)
        time.sleep(wait)


def reproduce(runner: Runner, bucket: Bucket) -> None:
    """The first node's work, which with one node is all there is.

    Raises:
        CloudError: a stage failed, or the results cannot be brought to the bucket.
    """
    bucket.say("running")
    status, lines = runner.run([*DVC, "repro", "--pull"])
    if STOPPED.search("\n".join(lines)):  # another node was taken back, and the training stopped on all of them
        raise StoppedError
    if status:
        print("# what the finished stages made goes to the bucket", flush=True)
        runner.run([*DVC, "push", "--run-cache"])
        raise CloudError(reason(lines))
    push(runner, bucket.waits, "--run-cache")
    metrics = subprocess.run([*DVC, "metrics", "show", "--json"], capture_output=True, check=False).stdout
    bucket.put("metrics.json", metrics or b"{}\n")
    for name in ("params.yaml", "dvc.lock"):
        bucket.put(name, Path(name).read_bytes())
    bucket.say("finished")


def assist(runner: Runner, bucket: Bucket, started: datetime, every: float = 10, grace: float = 60) -> None:
    """Another node's work: train with the first, and leave when the first is done.

    The first may have found the result in the bucket, or have failed before: then nobody joins the training here.

    Args:
        started: when this node was; a word from before is of an attempt that was taken back.
        every: seconds between two looks at what the first says.
        grace: seconds for the training to end by itself once the first is done.

    Raises:
        CloudError: the training failed, here or there.
    """
    must(runner, "repro", "--pull", "prepare")
    said = ""
    with runner.started([sys.executable, "-m", "stages.train"], capture=False) as training:
        while training.poll() is None and not said:
            with contextlib.suppress(subprocess.TimeoutExpired):
                training.wait(every)
            said = bucket.end_since(started)
        try:
            status = training.wait(grace if said else None)
        except subprocess.TimeoutExpired:
            end(training)
            status = training.wait()
    if runner.stopped or status == 128 + signal.SIGTERM or said == "stopped":
        raise StoppedError
    if said == "failed" or (status > 0 and said != "finished"):
        raise CloudError(f"the training ended with {status} here, and the first node {said or 'goes on'}: see its log")


def work(bucket: Bucket | None, chosen: Sequence[str], runner: Runner) -> int:
    """Do a node's part of a run; the status to end with."""
    started = datetime.now(UTC).replace(microsecond=0)
    try:
        settings.apply(chosen)
        configure(runner, bucket.bucket if bucket else "")
        if bucket is None:
            must(runner, "repro")
        elif is_first():
            reproduce(runner, bucket)
            forget_checkpoints()
        else:
            assist(runner, bucket, started)
    except StoppedError:
        tell(bucket, "stopped", "its machine was taken back, or the job was cancelled")
        print("job: asked to end; the checkpoint is kept", file=sys.stderr)
        return 128 + signal.SIGTERM
    except CloudError as error:
        tell(bucket, "failed", str(error))
        print(f"job: {error}", file=sys.stderr)
        return 1
    return 0


def tell(bucket: Bucket | None, state: str, why: str) -> None:
    """Leave word of an end that is not the good one, if that can be done."""
    try:
        if bucket is not None and is_first():
            bucket.say(state, why)
    except CloudError as error:
        print(f"job: {error}", file=sys.stderr)


def forget_checkpoints() -> None:
    """Remove the run's checkpoints, which nobody needs once its results are in the bucket."""
    import fsspec

    if folder := os.environ.get("AIP_CHECKPOINT_DIR", ""):
        try:
            files, path = fsspec.core.url_to_fs(folder)
            if files.exists(path):
                files.rm(path, recursive=True)
        except Exception as error:  # noqa: BLE001 - whatever the store says, the run is finished
            print(f"# {folder} cannot be removed: {error}", flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Read the command line and do the job; the status to end with."""
    parser = argparse.ArgumentParser(prog="python -m deploy.job", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bucket", default="", help="without gs://; none: run on this disk")
    parser.add_argument("--run", default="", help="the run's ID")
    parser.add_argument("-S", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="a param")
    given = parser.parse_args(words)
    if given.bucket and not runs.is_id(given.run):
        parser.error("--bucket wants --run: small letters, digits and hyphens")
    with Runner().listening() as runner:
        return work(Bucket(given.bucket, given.run, given.settings) if given.bucket else None, given.settings, runner)


if __name__ == "__main__":
    sys.exit(main())
