"""The launcher, with processes that only pretend to train."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from stages import launch as module
from stages.launch import launch
from stages.stage import StageError
from stages.world import LOOPBACK, LOST, World

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="sends signals, which Windows has not")
HANG = "import time; time.sleep(600)"


def run(*ranks: str, place: World | None = None) -> None:
    """Launch a process for each piece of code, which finds its rank in RANK."""
    code = f"import os; exec({list(ranks)!r}[int(os.environ['LOCAL_RANK'])])"
    launch([sys.executable, "-c", code], place or World(size=len(ranks), local_size=len(ranks), started=False))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE", 0.5)
    monkeypatch.setattr(module, "BLAMED", 60)


def alive(file: Path) -> bool:
    """Whether the process that wrote its number into a file is still there."""
    try:
        os.kill(int(file.read_text()), 0)
    except ProcessLookupError:
        return False
    return True


# One fails


def test_the_one_that_failed_is_named_with_its_last_line() -> None:
    with pytest.raises(StageError, match=r"^rank 1: the disk is full$"):
        run("", "import sys; sys.exit('a warning\\ntrain: the disk is full')")


def test_one_that_failed_without_a_word_is_named_with_its_status() -> None:
    with pytest.raises(StageError, match=r"^rank 1: ended with status 3$"):
        run("", "import sys; sys.exit(3)")


def test_what_rank_0_said_is_not_said_twice(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run("import sys; sys.exit('train: lower lr')", "")
    assert end.value.code == 1
    assert capfd.readouterr().err == "train: lower lr\n"


@POSIX
@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_was_killed_is_named_and_the_other_is_ended(rank: int, tmp_path: Path) -> None:
    note = tmp_path / "other"
    codes = [f"import os; open({str(note)!r}, 'w').write(str(os.getpid()))\n{HANG}"] * 2
    waits = f"import time, os\nwhile not os.path.exists({str(note)!r}): time.sleep(0.01)\n"
    codes[rank] = waits + "time.sleep(0.1); os.kill(os.getpid(), 9)"
    with pytest.raises(StageError, match=f"^rank {rank} was killed by SIGKILL; the others were ended$"):
        run(*codes)
    assert not alive(note)


def test_one_that_left_because_another_is_gone_is_not_blamed() -> None:
    lost = f"import sys; print('train: rank 0 ends: rank 1 is gone', file=sys.stderr); sys.exit({LOST})"
    with pytest.raises(StageError, match=r"^rank 1: boom$"):
        run(lost, "import time, sys; time.sleep(0.2); sys.exit('boom')")


def test_where_the_one_to_blame_is_on_another_machine_its_name_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLAMED", 0.5)
    lost = f"import sys; print('train: rank 3 ends: rank 0 (a) is gone: boom', file=sys.stderr); sys.exit({LOST})"
    with pytest.raises(StageError, match=r"^rank 3 ends: rank 0 \(a\) is gone: boom$"):
        run(lost, HANG, place=World(rank=2, size=4, local_size=2, host="a", port=1, started=False))


# All go well


def test_each_gets_what_torchrun_would_give_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    write = f"import os, json; json.dump(dict(os.environ), open({str(tmp_path)!r} + '/' + os.environ['RANK'], 'w'))"
    run(write, write, place=World(rank=2, size=4, local_size=2, host="first", port=2222, started=False))
    for local, name in enumerate(("2", "3")):
        given = json.loads((tmp_path / name).read_text())
        expected = {"WORLD_SIZE": "4", "LOCAL_RANK": str(local), "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "2"}
        expected |= {"MASTER_ADDR": "first", "MASTER_PORT": "2222"}
        assert {key: given[key] for key in expected} == expected
        assert "ATELIER_LISTEN" not in given


@POSIX
def test_on_one_machine_rank_0_inherits_a_port_that_only_this_machine_reaches(tmp_path: Path) -> None:
    note = tmp_path / "note"
    first = f"""
import socket
listener = socket.socket(fileno=int(os.environ["ATELIER_LISTEN"]))
open({str(note)!r}, "w").write(repr((listener.getsockname(), os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"])))
listener.settimeout(20)
listener.accept()
"""
    second = """
import socket
assert "ATELIER_LISTEN" not in os.environ
socket.create_connection((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])), timeout=20)
"""
    run(first, second)
    (host, port), address, number = eval(note.read_text())
    assert (host, str(port)) == (address, number) == (LOOPBACK, number)


def test_only_rank_0_is_heard(capfd: pytest.CaptureFixture[str]) -> None:
    say = "import sys; print('out', os.environ['RANK']); print('err', os.environ['RANK'], file=sys.stderr)"
    run(say, say)
    assert tuple(capfd.readouterr()) == ("out 0\n", "err 0\n")


# Asked to end


SAVES = """
import signal, sys, time
def end(*_):
    open({folder!r} + "/saved" + os.environ["RANK"], "w").close()
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
open({folder!r} + "/ready" + os.environ["RANK"], "w").close()
if os.environ["RANK"] == "0":
    while not os.path.exists({folder!r} + {wait!r}):
        time.sleep(0.01)
    os.kill(os.getppid(), signal.SIGTERM)
time.sleep(600)
"""


@POSIX
def test_sigterm_reaches_all_and_ends_with_143(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        run(*[SAVES.format(folder=str(tmp_path), wait="/ready1")] * 2)
    assert end.value.code == 143
    assert {file.name for file in tmp_path.glob("saved*")} == {"saved0", "saved1"}
    assert signal.getsignal(signal.SIGTERM) == before


@POSIX
def test_sigterm_that_one_could_not_hear_yet_is_no_failure(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        run(SAVES.format(folder=str(tmp_path), wait="/ready0"), HANG)
    assert end.value.code == 143
