"""Where the processes that train together meet, and how each notices that another is gone."""

import contextlib
import datetime
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from stages.stage import StageError
from stages.world import LOOPBACK, LOST, World

JOIN = 15 * 60  # seconds that one process waits for the others to come
SILENT = 15  # seconds without a sign of life after which a process counts as gone
BEAT = 1  # seconds between signs of life
STEP = 10 * 60  # seconds that one exchange may take while all are alive: a checkpoint may be on its way to a bucket
EXCHANGE = ("gloo", "Gloo", "NCCL", "c10d", "onnection")  # words in the errors of a failed one


@contextlib.contextmanager
def join(place: World, device: torch.device) -> Iterator[World]:
    """Meet the others, and leave together with them. With one process there is nothing to do.

    Raises:
        StageError: some did not come.
        SystemExit: LOST, when another process is gone.
    """
    if place.size == 1:
        yield place
        return
    device_index = place.local_rank if device.type == "cuda" else None
    if device_index is not None:
        torch.cuda.set_device(device_index)
    store = _meet(place)
    if device.type != "cuda" and (interface := _interface(place)):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    backend = "nccl" if device.type == "cuda" else "gloo"
    limit = datetime.timedelta(seconds=STEP)
    watch = Watch(place, store)
    stopped: SystemExit | None = None
    try:
        dist.init_process_group(backend, store=store, rank=place.rank, world_size=place.size, timeout=limit)
        try:
            yield place
        except SystemExit as end:  # agreed by all, who may still be needed: rank 0 saves, say
            stopped = end
        dist.barrier()
    except Exception as error:
        if isinstance(error, RuntimeError) and any(word in str(error) for word in EXCHANGE):
            watch.explain(error)
        with contextlib.suppress(RuntimeError):
            store.set(f"why/{place.rank}", _line(error))
        watch.stop()
        raise
    watch.stop()
    _leave(place, store)
    if stopped:
        raise stopped


def _meet(place: World) -> Any:
    """The store of all; rank 0 holds it, or torchrun's agent."""
    end = time.monotonic() + JOIN
    short = datetime.timedelta(seconds=60)
    if place.first and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        inherited = os.environ.get("ATELIER_LISTEN")  # a socket of the launcher's, on the loopback only
        listener = int(inherited) if inherited else None
        try:
            store = TCPStore(
                place.host, place.port, None, True, short, wait_for_workers=False, master_listen_fd=listener
            )
        except dist.DistError as error:
            raise StageError(
                f"port {place.port}, where the processes should meet, cannot be opened: {_line(error)}"
            ) from None
    else:
        while True:  # asked by hand: torch's own attempts fill the log
            with contextlib.suppress(OSError), socket.create_connection((place.host, place.port), timeout=5):
                break
            if time.monotonic() > end:
                raise StageError(
                    f"rank {place.rank}: rank 0 at {place.host}:{place.port} did not answer within {JOIN // 60} min"
                )
            time.sleep(0.5)
        store = TCPStore(place.host, place.port, None, False, short)
    # The agent's holds what an attempt before this one has left.
    ours = PrefixStore(f"attempt/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    ours.set(f"here/{place.rank}", "1")
    while missing := [rank for rank in range(place.size) if not ours.check([f"here/{rank}"])]:
        if time.monotonic() > end:
            raise StageError(f"{place.name(missing)} did not come within {JOIN // 60} min, of {place.size} processes")
        time.sleep(0.2)
    return ours


def _leave(place: World, store: Any) -> None:
    """End in order: rank 0, which holds the store, goes last."""
    with contextlib.suppress(RuntimeError):
        store.set(f"left/{place.rank}", "1")
        end = time.monotonic() + SILENT
        while place.first and time.monotonic() < end:
            if store.check([f"left/{rank}" for rank in range(place.size)]):
                break
            time.sleep(0.02)
    dist.destroy_process_group()


def _interface(place: World) -> str | None:
    """The network interface that leads to rank 0, for gloo, which else takes the one its host's name stands for."""
    if sys.platform == "win32":
        return None
    if place.host in (LOOPBACK, "localhost"):
        return "lo" if sys.platform == "linux" else "lo0"
    if sys.platform != "linux":
        return None
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((place.host, place.port))  # sends nothing; the kernel picks the way
            own = probe.getsockname()[0]
            for _, name in socket.if_nameindex():
                request = name.encode()[:15].ljust(32, b"\0")
                with contextlib.suppress(OSError):  # an interface without an address
                    if socket.inet_ntoa(fcntl.ioctl(probe, 0x8915, request)[20:24]) == own:  # SIOCGIFADDR
                        return None if name == "lo" and place.first else name
        except OSError:
            return None
    return None


class Watch:
    """Signs of life: a thread writes this process's own and looks for those of the others.

    A process that dies closes its connections, which the next exchange notices at once. One whose machine vanishes,
    or that is stopped, is noticed by its silence.
    """

    def __init__(self, place: World, store: Any) -> None:
        self.place, self.parent = place, os.getppid()
        self.store = store.clone()  # an exchange that waits on the other one must not hold up the signs
        self.over = threading.Event()
        self.answered = time.monotonic()  # when the store, which rank 0 holds, last did
        self.seen: dict[int, tuple[bytes, float]] = {}
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        threading.Thread(target=self.guard, daemon=True).start()

    def guard(self) -> None:
        """End this process when rank 0 is silent: a question to a store whose machine has vanished has no end."""
        while not self.over.wait(BEAT):
            if time.monotonic() - self.answered > SILENT:
                self.end([0], f"no sign of life for {SILENT} s")

    def run(self) -> None:
        """Beat and listen until `stop`, or until somebody is gone, which ends this process."""
        beats = 0
        while not self.over.wait(BEAT):
            beats += 1
            try:
                self.store.set(f"beat/{self.place.rank}", str(beats))
                gone, failed = self.silent(), self.failed()
                self.answered = time.monotonic()
            except RuntimeError as error:
                if self.over.wait(2 * BEAT):  # all leave in order, and rank 0 was quicker
                    return
                self.end([0], _line(error))
            if failed:
                self.end([failed[0]], failed[1])
            if gone:
                self.end(gone, f"no sign of life for {SILENT} s")
            if os.getppid() != self.parent:
                self.end([], "the process that started it is gone")

    def silent(self) -> list[int]:
        """The ranks not heard of for SILENT seconds."""
        now = time.monotonic()
        for rank in range(self.place.size):
            key = f"beat/{rank}"
            beat = self.store.get(key) if self.store.check([key]) else b""
            if rank not in self.seen or self.seen[rank][0] != beat:
                self.seen[rank] = (beat, now)
        return [rank for rank, (_, since) in self.seen.items() if now - since > SILENT]

    def failed(self) -> tuple[int, str] | None:
        """The first rank that has said why it ends, and why."""
        for rank in range(self.place.size):
            if rank != self.place.rank and self.store.check([f"why/{rank}"]):
                return rank, self.store.get(f"why/{rank}").decode(errors="replace")
        return None

    def explain(self, error: Exception) -> None:
        """An exchange failed: wait until it is known whose fault it is, then end this process."""
        self.thread.join(SILENT + 5 * BEAT)  # the thread knows more: it ends the process, by name of the rank
        self.end([], _line(error))

    def end(self, ranks: list[int], why: str) -> None:
        """End this process at once, whatever its other threads wait for."""
        who = f"{self.place.name(ranks)} is gone: " if ranks else ""
        print(f"train: rank {self.place.rank} ends: {who}{why}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(LOST)

    def stop(self) -> None:
        """Stop looking: the world ends, and the others may go."""
        self.over.set()
        self.thread.join(2 * BEAT)


def _line(error: BaseException) -> str:
    """The first line of what torch says, without its source file and advice."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text.rpartition("] ")[2].split(". This")[0]
