"""A load generator: HTTP/1.1 by hand over asyncio streams, so that it costs little beside the server it asks.

Run it in a process of its own, with `apart`: its processor time is then not the server's, nor does it wait for
what else the benchmark does. The closed load keeps N clients busy and finds what a server can do; the open one sends
at a given rate, whatever comes back, as the world does.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import numpy as np

HOST = "127.0.0.1"
PATIENCE = 30.0  # seconds until a request counts as never answered
FRESH = 4.0  # seconds: an idle connection is used again up to this age, since uvicorn closes it at 5
CONNECTIONS = 256  # of the open load at once; what is due while all are busy waits, and its latency says so
CHUNK = 65536


@dataclass(frozen=True)
class Ask:
    """A request, and the answer that is right for it.

    Attributes:
        raw: all bytes of the request.
        status: the right status.
        body: the right body; None takes any.
    """

    raw: bytes
    status: int = 200
    body: bytes | None = None


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: bytes


class LostError(Exception):
    """A request got no complete answer.

    Attributes:
        how: `refused`, nobody listened, so the request was not sent; `raced`, a kept-alive connection was closed
            without a byte in answer, which HTTP allows a server to do at any time between two requests, so that it
            may never have read this one; `unanswered`, the same on a new connection; `cut`, the answer began and did
            not end; `silent`, nothing came in PATIENCE.
    """

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


@dataclass
class Tally:
    """What a load brought.

    Attributes:
        seconds: how long it took, to the last answer.
        cpu_seconds: the generator's own processor time; near `seconds`, it was the bottleneck and not the server.
        latencies: seconds of each answer whose status is 200: from its request, or, of the open load, from when its
            request was due.
        statuses: how many answers of each status.
        lost: how many requests without a complete answer, by `LostError.how`.
        wrong: how many complete answers were not the right ones.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    wrong: int = 0

    @property
    def answers(self) -> int:
        return self.statuses.total()

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds

    def percentile(self, percent: float) -> float:
        """Latency in milliseconds; NaN where nothing was answered with 200."""
        return float(np.percentile(self.latencies, percent)) * 1000 if self.latencies else float("nan")


def post(path: str, body: bytes, kind: str) -> bytes:
    """All bytes of a POST request with this body and content type."""
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def upload(path: str, field_name: str, file: bytes) -> bytes:
    """All bytes of a POST request that carries a file in a form, as browsers and curl send it."""
    disposition = f'Content-Disposition: form-data; name="{field_name}"; filename="garment.png"'
    head = f"--boundary\r\n{disposition}\r\nContent-Type: image/png\r\n\r\n".encode()
    return post(path, head + file + b"\r\n--boundary--\r\n", "multipart/form-data; boundary=boundary")


class Connection:
    """A client's connection: made when first needed, kept alive, made anew once the server has closed it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.used = 0.0  # when the last answer came, in time.monotonic()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, raw: bytes) -> Answer:
        """Sends a request and reads its answer.

        Raises:
            LostError: there is no complete answer; the connection is closed.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._ask(raw)
        except TimeoutError:
            self.close()
            raise LostError("silent") from None
        except LostError:
            self.close()
            raise

    async def _ask(self, raw: bytes) -> Answer:
        if self._streams and (self._streams[0].at_eof() or self._streams[1].is_closing()):
            self.close()  # the server did, while nothing was asked: nothing is lost
        reused = self._streams is not None
        if self._streams is None:
            try:
                self._streams = await asyncio.open_connection(HOST, self.port)
            except OSError:
                raise LostError("refused") from None
        reader, writer = self._streams
        data = b""
        try:
            writer.write(raw)
            while b"\r\n\r\n" not in data:
                data += await _more(reader)
            head, _, body = data.partition(b"\r\n\r\n")
            status, length, stays = _parse(head)
            while len(body) < length:
                body += await _more(reader)
        except ConnectionError:
            raise LostError("cut" if data else "raced" if reused else "unanswered") from None
        self.used = time.monotonic()
        if not stays:
            self.close()
        return Answer(status, body)

    def close(self) -> None:
        if self._streams:
            self._streams[1].close()
        self._streams = None


async def _more(reader: asyncio.StreamReader) -> bytes:
    chunk = await reader.read(CHUNK)
    if not chunk:
        raise ConnectionResetError
    return chunk


def _parse(head: bytes) -> tuple[int, int, bool]:
    """Status, length of the body, and whether the connection stays open."""
    lines = head.lower().split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in lines[1:])
    return int(lines[0].split(b" ")[1]), int(headers[b"content-length"]), headers.get(b"connection") != b"close"


async def closed(port: int, asks: Sequence[Ask], clients: int, seconds: float) -> Tally:
    """Keeps clients busy: each sends its next request once the last is answered, until nobody listens any more."""
    tally = Tally()
    started, cpu = time.monotonic(), time.process_time()

    async def client(first: int) -> None:
        connection, number = Connection(port), first
        while time.monotonic() - started < seconds and not tally.lost["refused"]:
            await _count(tally, connection, asks[number % len(asks)], time.monotonic())
            number += 1
        connection.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    tally.seconds, tally.cpu_seconds = time.monotonic() - started, time.process_time() - cpu
    return tally


async def open_(port: int, asks: Sequence[Ask], rate: float, seconds: float) -> Tally:
    """Sends `rate` requests a second, evenly spaced, however long the answers take."""
    tally, idle, free = Tally(), list[Connection](), asyncio.Semaphore(CONNECTIONS)
    started, cpu = time.monotonic(), time.process_time()

    async def one(ask: Ask, due: float) -> None:
        async with free:
            # The one used last; if that is stale, all are.
            while idle and time.monotonic() - idle[-1].used > FRESH:
                idle.pop().close()
            connection = idle.pop() if idle else Connection(port)
            await _count(tally, connection, ask, due)
            idle.append(connection)

    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = started + number / rate
            if (early := due - time.monotonic()) > 0:
                await asyncio.sleep(early)
            group.create_task(one(asks[number % len(asks)], due))
    for connection in idle:
        connection.close()
    tally.seconds, tally.cpu_seconds = time.monotonic() - started, time.process_time() - cpu
    return tally


async def _count(tally: Tally, connection: Connection, ask: Ask, due: float) -> None:
    """Sends one request and enters into the tally what comes of it."""
    try:
        answer = await connection.ask(ask.raw)
    except LostError as error:
        tally.lost[error.how] += 1
        return
    tally.statuses[answer.status] += 1
    if answer.status == 200:
        tally.latencies.append(time.monotonic() - due)
    if answer.status != ask.status or (ask.body is not None and answer.body != ask.body):
        tally.wrong += 1


def once(port: int, raw: bytes) -> Answer | None:
    """The answer to one request on a new connection; None where nobody listens, or none came."""
    try:
        return asyncio.run(Connection(port).ask(raw))
    except LostError:
        return None


def run_closed(port: int, asks: Sequence[Ask], clients: int, seconds: float) -> Tally:
    """`closed`, for a process of its own."""
    return asyncio.run(closed(port, asks, clients, seconds))


def run_open(port: int, asks: Sequence[Ask], rate: float, seconds: float) -> Tally:
    """`open_`, for a process of its own."""
    return asyncio.run(open_(port, asks, rate, seconds))


def apart() -> ProcessPoolExecutor:
    """A process of its own, started once, for what must not share the caller's."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
