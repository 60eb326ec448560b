"""What a SIGTERM does to a command, to all that it has started, and to those that would have come next."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.runner import Runner, StoppedError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the train image is Linux; Windows has no SIGTERM")

# Says that it is ready, and at SIGTERM takes its time to save.
STAGE = """
import pathlib, signal, sys, time
def save(*_):
    time.sleep(0.3)
    pathlib.Path(sys.argv[1]).write_text("saved")
    print("saved", flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(60)
"""
# Starts a stage as DVC does, and ends at the first SIGTERM without waiting for it.
PARENT = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", *sys.argv[1:]]).wait()
"""


@pytest.fixture
def runner() -> Iterator[Runner]:
    with Runner().listening() as runner:
        yield runner


def python(*words: str) -> list[str]:
    return [sys.executable, "-c", *words]


def when_ready(capfd: pytest.CaptureFixture[str], said: list[str]) -> threading.Thread:
    """Send this process a SIGTERM once the command has said that it is ready."""

    def wait_and_send() -> None:
        for _ in range(600):
            said.append(capfd.readouterr().out)
            if "ready" in "".join(said):
                break
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=wait_and_send)
    thread.start()
    return thread


@pytest.mark.parametrize("command", [python(STAGE), python(PARENT, STAGE)], ids=["alone", "below another"])
def test_a_sigterm_reaches_what_was_started_and_is_waited_for(
    runner: Runner, tmp_path: Path, capfd: pytest.CaptureFixture[str], command: list[str]
) -> None:
    said: list[str] = []
    sender = when_ready(capfd, said)
    with pytest.raises(StoppedError):
        runner.run([*command, str(tmp_path / "checkpoint")])
    sender.join()
    assert (tmp_path / "checkpoint").read_text() == "saved"
    assert "saved" in "".join(said) + capfd.readouterr().out


def test_nothing_is_started_after_a_sigterm(runner: Runner, tmp_path: Path) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    command = python("import sys; open(sys.argv[1], 'w')", str(tmp_path / "started"))
    with pytest.raises(StoppedError):
        runner.run(command)
    with pytest.raises(StoppedError), runner.started(command):
        pass
    assert not (tmp_path / "started").exists()


def test_a_sigterm_after_the_end_is_noted_and_hits_nobody(runner: Runner) -> None:
    assert runner.run(python("pass")) == (0, [])
    os.kill(os.getpid(), signal.SIGTERM)
    assert runner.stopped


def test_status_and_last_lines_are_told_and_all_lines_go_through(
    runner: Runner, capfd: pytest.CaptureFixture[str]
) -> None:
    status, lines = runner.run(python("import sys; [print(n) for n in range(100)]; sys.exit('at last')"))
    assert (status, lines) == (1, [*map(str, range(61, 100)), "at last"])
    assert capfd.readouterr().out.splitlines() == [*map(str, range(100)), "at last"]


def test_bytes_that_are_no_text_do_not_end_it(runner: Runner) -> None:
    status, lines = runner.run(python("import sys; sys.stdout.buffer.write(b'caf\\xe9\\n')"))
    assert (status, lines) == (0, ["caf\ufffd"])


def test_what_listened_before_listens_again() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), Runner().listening():
        assert signal.getsignal(signal.SIGTERM) != before
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_command_in_a_process_group_of_its_own_is_spared_a_keyboards_signal(runner: Runner) -> None:
    with runner.started(python("input()"), capture=False) as process:
        assert os.getpgid(process.pid) == process.pid != os.getpgid(0)
        process.kill()
    assert subprocess.Popen.poll(process) == -signal.SIGKILL
