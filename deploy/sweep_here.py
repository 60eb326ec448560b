"""A grid of params on this machine: some points at a time, each an experiment in a folder of its own."""

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from deploy.gcloud import CloudError

DVC = (sys.executable, "-m", "dvc")
LOCKED = "Unable to acquire lock"  # DVC's word while another one of them sets out or comes home
TRIES = 60
WAIT = 2.0  # seconds, about, until the next try

Say = Callable[[str], None]


def share(points: int, jobs: int, cores: int, gpu: bool) -> tuple[int, int]:
    """How many points at a time, and with how many threads each, so that together they have the cores.

    Args:
        points: how many there are.
        jobs: what was asked for; 0 is as many as there are cores, and one where a GPU does the work.
        cores: of this machine.
        gpu: whether there is one.

    Raises:
        CloudError: fewer than none.
    """
    if jobs < 0:
        raise CloudError(f"--jobs {jobs}: a whole number, or 0 for as many as there are cores")
    at_once = min(points, jobs or (1 if gpu else cores))
    return at_once, max(1, cores // at_once)


def machine() -> tuple[int, bool]:
    """How many cores this process may use, and whether there is a GPU of NVIDIA's."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores, shutil.which("nvidia-smi") is not None


def sweep(commands: Mapping[str, Sequence[str]], jobs: int, threads: int, env: dict[str, str], say: Say) -> list[str]:
    """Run each point's command; what they print comes line by line, with the point's name before it.

    A point that fails does not stop the others.

    Args:
        commands: of each point, by its name.
        jobs: points at a time.
        threads: for each of them.
        env: variables besides this process's own.
        say: takes a line.

    Returns:
        The names of the points that failed, in their order.
    """
    forget(list(commands))
    own = {**os.environ, **env}
    if jobs > 1:  # one alone keeps the threads, and so the bits, of `dvc repro`
        own |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}

    def point(numbered: tuple[int, str]) -> bool:
        number, name = numbered
        say(f"{name}: point {number} of {len(commands)} begins")
        started = time.monotonic()
        done = run(name, commands[name], own, say)
        say(f"{name}: {'done' if done else 'FAILED'} after {time.monotonic() - started:.0f} s")
        return done

    pool = ThreadPoolExecutor(jobs)
    try:
        done = list(pool.map(point, enumerate(commands, 1)))
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C, which the points at work have heard as well
    return [name for name, good in zip(commands, done, strict=True) if not good]


def run(name: str, command: Sequence[str], env: dict[str, str], say: Say) -> bool:
    """Run one point, again while DVC's lock is another's; whether it came to its end."""
    for _ in range(TRIES):
        with subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            locked = False
            for line in process.stdout:
                if LOCKED in line:
                    locked = True
                elif line.strip():
                    say(f"{name}: {line.rstrip()}")
        if not (process.returncode and locked):
            return process.returncode == 0
        # What was done lies in the run-cache: the next try takes it from there. Not all at the same moment.
        time.sleep(WAIT * (0.5 + random.random()))  # noqa: S311 (no secret)
    say(f"{name}: DVC's lock was another's all the time: is another `dvc` at work, or was one killed?")
    return False


def forget(names: Sequence[str]) -> None:
    """Remove experiments of an earlier sweep: DVC gives a name once."""
    listed = subprocess.run([*DVC, "exp", "list", "--name-only"], capture_output=True, text=True, check=False).stdout
    if old := sorted(set(listed.split()) & set(names)):
        subprocess.run([*DVC, "exp", "remove", "--quiet", *old], check=False)
