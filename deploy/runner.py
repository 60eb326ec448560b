"""Runs a command whose output goes through, and hands a SIGTERM on to all that it has started."""

import contextlib
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from types import FrameType

Process = subprocess.Popen[str]


class StoppedError(Exception):
    """The process was asked to end."""


class Runner:
    """One command at a time, in a process group of its own. Once asked to end, no other command is started."""

    def __init__(self) -> None:
        self.stopped = False
        self._process: Process | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator["Runner"]:
        """Catch SIGTERM until the block ends."""
        before = signal.signal(signal.SIGTERM, self._on_sigterm)
        try:
            yield self
        finally:
            signal.signal(signal.SIGTERM, before)

    def run(self, argv: Sequence[str]) -> tuple[int, list[str]]:
        """Run a command to its end; its status and the last lines that it printed.

        Raises:
            StoppedError: this process was asked to end, before or meanwhile.
        """
        last: deque[str] = deque(maxlen=40)
        with self.started(argv) as process:
            assert process.stdout is not None
            # To the end of whoever holds it: DVC ends at once, and the stage only when its checkpoint is saved.
            for line in process.stdout:
                sys.stdout.write(line)
                sys.stdout.flush()
                last.append(line.rstrip())
        if self.stopped:
            raise StoppedError
        return process.returncode, list(last)

    @contextlib.contextmanager
    def started(self, argv: Sequence[str], capture: bool = True) -> Iterator[Process]:
        """Start a command, for the block to wait for.

        Raises:
            StoppedError: this process was asked to end before.
        """
        if self.stopped:
            raise StoppedError
        with subprocess.Popen(
            argv,
            stdout=subprocess.PIPE if capture else None,
            stderr=subprocess.STDOUT if capture else None,
            text=True,
            errors="replace",
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        ) as process:
            self._process = process
            if self.stopped:  # between the question above and here
                end(process)
            try:
                yield process
            finally:
                self._process = None

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        self.stopped = True
        if self._process is not None:
            end(self._process)


def end(process: Process) -> None:
    """Ask a command to end, and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
