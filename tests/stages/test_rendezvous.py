"""Where processes meet, by two of them at most; tests/stages/test_together.py has whole trainings."""

import multiprocessing
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from stages import rendezvous
from stages.rendezvous import SILENT, Watch, join
from stages.stage import StageError
from stages.world import ALONE, LOOPBACK, LOST, World

CPU = torch.device("cpu")


Watched = tuple[Watch, "Store", list[int]]


class Ended(BaseException):
    """Instead of `os._exit`."""


class Store:
    """The store of all, in this process."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.broken = ""
        self.vanished, self.back = threading.Event(), threading.Event()

    def clone(self) -> "Store":
        return self

    def set(self, key: str, value: str) -> None:
        if self.vanished.is_set():
            self.back.wait(60)  # which a question to a machine that is gone may well take
        if self.broken:
            raise RuntimeError(self.broken)
        self.values[key] = value.encode()

    def get(self, key: str) -> bytes:
        return self.values[key]

    def check(self, keys: list[str]) -> bool:
        return all(key in self.values for key in keys)


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        return int(free.getsockname()[1])


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds instead of minutes."""
    monkeypatch.setattr(rendezvous, "JOIN", 1)
    monkeypatch.setattr(rendezvous, "BEAT", 0.02)


def place(rank: int, port: int) -> World:
    return World(rank=rank, size=2, port=port, hosts=("first", "second"))


# Who does not come


@pytest.mark.usefixtures("short")
def test_a_rank_0_that_never_comes_is_named_with_its_address(port: int) -> None:
    said = f"rank 1: rank 0 at {LOOPBACK}:{port} did not answer within"
    with pytest.raises(StageError, match=said), join(place(1, port), CPU):
        pytest.fail("nobody is there")


@pytest.mark.usefixtures("short")
def test_another_that_never_comes_is_named_with_its_host(port: int) -> None:
    said = r"rank 1 \(second\) did not come within .*, of 2 processes"
    with pytest.raises(StageError, match=said), join(place(0, port), CPU):
        pytest.fail("nobody is there")


@pytest.mark.usefixtures("short")
def test_a_port_that_is_taken_is_said_in_a_line() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        said = f"port {port}, where the processes should meet, cannot be opened"
        with pytest.raises(StageError, match=said) as error, join(place(0, port), CPU):
            pytest.fail("two cannot listen there")
    assert "\n" not in str(error.value)


def test_alone_nobody_is_waited_for() -> None:
    with join(ALONE, CPU) as here:
        assert here is ALONE


# Who goes


@pytest.fixture
def threads() -> Iterator[None]:
    """None of a watch's threads may outlive its test: the next one's clock and `os._exit` are real again."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, threads: None) -> list[float]:
    """What the process takes for the time."""
    now = [1000.0]
    monkeypatch.setattr(rendezvous, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=time.sleep))
    return now


@pytest.fixture
def watched(
    short: None, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Watch, Store, list[int]]]:
    """Rank 0 of two, which listens; the statuses with which it has ended."""
    ends: list[int] = []

    def end(status: int) -> None:
        ends.append(status)
        raise Ended

    monkeypatch.setattr(rendezvous.os, "_exit", end)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    store: Any = Store()
    watch = Watch(place(0, 1), store)
    yield watch, store, ends
    watch.stop()


def test_signs_of_life_keep_it_alive_and_silence_ends_it_by_name(watched, clock, capfd) -> None:
    watch, store, ends = watched
    for beat in range(3):
        store.set("beat/1", str(beat))
        while watch.seen.get(1, (b"", 0))[0] != store.get("beat/1"):
            time.sleep(0.01)
        clock[0] += SILENT - 1
        while watch.answered < clock[0]:  # the store's own silence, which `guard` looks for, is not what is tried here
            time.sleep(0.01)
    assert watch.thread.is_alive()
    clock[0] += 2
    watch.thread.join(10)
    assert ends == [LOST]
    assert f"rank 0 ends: rank 1 (second) is gone: no sign of life for {SILENT} s" in capfd.readouterr().err


def test_a_reason_that_was_left_is_passed_on(watched, capfd) -> None:
    watch, store, ends = watched
    store.set("why/1", "the disk is full")
    watch.thread.join(10)
    assert ends == [LOST]
    assert "rank 0 ends: rank 1 (second) is gone: the disk is full" in capfd.readouterr().err


def test_a_store_that_is_gone_is_rank_0s_end(watched, capfd) -> None:
    watch, store, ends = watched
    store.broken = "[enforce fail at TCPStore.cpp:12] Connection reset by peer. This may indicate a problem"
    watch.thread.join(10)
    assert ends == [LOST]
    assert "rank 0 (first) is gone: Connection reset by peer\n" in capfd.readouterr().err


def test_a_store_that_does_not_answer_is_rank_0s_silence(clock, short, monkeypatch, capfd) -> None:
    ended = threading.Event()
    monkeypatch.setattr(rendezvous.os, "_exit", lambda _: ended.set())
    store: Any = Store()
    watch = Watch(place(1, 1), store)
    store.vanished.set()
    clock[0] += SILENT + 1
    assert ended.wait(10)
    watch.over.set()
    store.back.set()
    watch.stop()
    assert f"rank 1 ends: rank 0 (first) is gone: no sign of life for {SILENT} s" in capfd.readouterr().err


def test_a_launcher_that_is_gone_is_followed(watched, monkeypatch, capfd) -> None:
    watch, _, ends = watched
    monkeypatch.setattr(rendezvous.os, "getppid", lambda: -1)
    watch.thread.join(10)
    assert ends == [LOST]
    assert "rank 0 ends: the process that started it is gone" in capfd.readouterr().err


# Two that come


def _two(rank: int, port: int, answers: Any) -> None:
    with join(place(rank, port), CPU) as here:
        values = torch.tensor([1e8, 0.1, 0.2 + here.rank])
        total, data = here.total(values), here.from_first(b"state" if here.first else b"other", CPU)
        nothing = here.from_first(None, CPU)
        try:
            here.agree("the numbers", values)
        except StageError as error:
            answers.put((rank, total.tolist(), data, nothing, str(error)))


@pytest.mark.slow
def test_two_processes_add_and_hand_down_and_notice_what_differs(port: int) -> None:
    context = multiprocessing.get_context("spawn")
    answers: Any = context.Queue()
    processes = [context.Process(target=_two, args=(rank, port, answers)) for rank in (0, 1)]
    for process in processes:
        process.start()
    found = sorted(answers.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    expected = (torch.tensor([1e8, 0.1, 0.2]) + torch.tensor([1e8, 0.1, 1.2])).tolist()
    said = "the numbers of rank 1 (second) differ from those of rank 0; nothing was written"
    assert found == [(rank, expected, b"state", None, said) for rank in (0, 1)]
