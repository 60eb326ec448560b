"""Starts the processes of one machine and sees to it that they end together.

Each gets the variables that torchrun would set. When one fails, the launcher says which and why and ends the rest.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from types import FrameType
from typing import IO, Any

import torch

from stages.stage import StageError
from stages.world import LOOPBACK, LOST, World

GRACE = 2  # seconds that the others have to end by themselves: who failed first is then known
BLAMED = 5  # seconds that one which lost another has until it is taken at its word


def launch(command: list[str], place: World) -> None:
    """Run `command` once for each process of this machine, and wait for all.

    Raises:
        StageError: one failed; with its rank and the reason.
        SystemExit: 143, after SIGTERM, when all have saved and ended.
    """
    listener: socket.socket | None = None
    host, port = place.host, place.port
    if not port:  # no other machine: a port that only this one can reach, held until rank 0 has it
        listener = socket.create_server((LOOPBACK, 0), backlog=2 * place.size)
        host, port = LOOPBACK, listener.getsockname()[1]
        if sys.platform == "win32":  # which hands no sockets down like this
            listener.close()
            listener = None
    threads = max(1, torch.get_num_threads() // place.local_size)
    children: list[subprocess.Popen[bytes]] = []
    notes: list[Any] = []
    asked: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        for child in children:
            if child.poll() is None:
                child.terminate()

    before = signal.signal(signal.SIGTERM, stop)
    try:
        for local in range(place.local_size):
            notes.append(note := tempfile.TemporaryFile())  # noqa: SIM115 (closed below)
            variables: dict[str, Any] = {
                "RANK": place.rank + local,
                "WORLD_SIZE": place.size,
                "LOCAL_RANK": local,
                "LOCAL_WORLD_SIZE": place.local_size,
                "MASTER_ADDR": host,
                "MASTER_PORT": port,
                "OMP_NUM_THREADS": threads,
            }
            handed: list[int] = []
            if listener and local == 0:
                variables["ATELIER_LISTEN"] = listener.fileno()
                handed = [listener.fileno()]
            quiet = place.rank + local > 0  # only rank 0 has something to show
            children.append(
                subprocess.Popen(  # noqa: S603 (our own command)
                    command,
                    env={**os.environ, **{name: str(value) for name, value in variables.items()}},
                    stdout=subprocess.DEVNULL if quiet else None,
                    stderr=note if quiet else None,
                    **({"pass_fds": handed} if handed else {}),  # type: ignore[call-overload]
                )
            )
            if asked:  # while it was being started: `stop` did not know it yet
                children[-1].terminate()
        if listener:
            listener.close()
        _wait(children, notes, place.rank, asked)
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
            child.wait()
        for note in notes:
            note.close()
        signal.signal(signal.SIGTERM, before)
    if asked or any(child.returncode == 128 + signal.SIGTERM for child in children):
        sys.exit(128 + signal.SIGTERM)


def _wait(children: list[subprocess.Popen[bytes]], notes: Sequence[IO[bytes]], first: int, asked: list[int]) -> None:
    failed_at: float | None = None
    while True:
        # One that was asked before it could listen has just ended, and others have missed it.
        fine = {0, 128 + signal.SIGTERM, *((-signal.SIGTERM, LOST) if asked else ())}
        states = [child.poll() for child in children]
        failed = {local: state for local, state in enumerate(states) if state is not None and state not in fine}
        culprits = [local for local, state in failed.items() if state != LOST]
        if failed and failed_at is None:
            failed_at = time.monotonic()
        waited = time.monotonic() - failed_at if failed_at is not None else 0.0
        if failed and (None not in states or waited > (GRACE if culprits else BLAMED)):
            break
        if not failed and None not in states:
            return
        time.sleep(0.05)
    who = (culprits or list(failed))[0]
    state, rank = failed[who], first + who
    if state < 0:
        raise StageError(f"rank {rank} was killed by {signal.Signals(-state).name}; the others were ended")
    notes[who].seek(0)
    said = notes[who].read().decode(errors="replace").strip()
    if not said and rank == 0:  # it has written its reason itself
        sys.exit(1)
    reason = said.splitlines()[-1].removeprefix("train: ") if said else f"ended with status {state}"
    raise StageError(reason if reason.startswith("rank ") else f"rank {rank}: {reason}")
