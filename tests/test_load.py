"""The app as a process under load: with bad requests among the good ones, and told to stop in the midst of it."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks import load, sustained
from benchmarks.servers import APP, Server, running, sample
from tests.app import tiny_model

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.write(tmp_path_factory.mktemp("load") / "models")


def test_nothing_fails_at_80_percent_of_the_capacity(models: Path) -> None:
    run = sustained.sustain(models, seconds=20, warm=5, capacity_seconds=3)
    assert run.faults() == []
    assert set(run.tally.statuses) == {200, 400, 413, 415}
    assert run.tally.answers == int(run.rate * 20)


@dataclass(frozen=True)
class Stopped:
    """What eight busy clients saw of an app that was told to stop, and how it ended."""

    tally: load.Tally
    seconds: float
    status: int


@pytest.fixture(scope="module")
def stopped(models: Path) -> Stopped:
    good = load.upload(sustained.PATH, sustained.FIELD, sample(models))

    async def until_refused(server: Server, ask: load.Ask) -> Stopped:
        clients = asyncio.create_task(load.closed(server.port, [ask], clients=8, seconds=30))
        await asyncio.sleep(1)
        server.process.terminate()
        told = time.monotonic()
        status = await asyncio.to_thread(server.process.wait, 20)
        seconds = time.monotonic() - told
        return Stopped(await clients, seconds, status)

    with running(APP, {"MODEL_DIR": str(models), "PAGE": "off"}) as server:
        answer = load.once(server.port, good)
        assert answer is not None
        return asyncio.run(until_refused(server, load.Ask(good, 200, answer.body)))


def test_what_was_taken_is_answered_though_the_app_is_told_to_stop(stopped: Stopped) -> None:
    assert stopped.status == 0
    assert stopped.seconds < 10
    assert stopped.tally.answers > 8
    assert set(stopped.tally.statuses) == {200}
    assert stopped.tally.wrong == 0
    # Refused: nothing was sent. Raced: no byte came on a connection that was kept alive, which HTTP lets a server
    # close whenever it owes no answer; it was closed before the request was read.
    assert set(stopped.tally.lost) <= {"refused", "raced"}, stopped.tally.lost


def test_busy_clients_are_told_before_their_connection_is_closed(stopped: Stopped) -> None:
    assert not stopped.tally.lost["raced"]
