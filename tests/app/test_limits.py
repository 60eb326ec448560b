import asyncio
import json

import httpx
import pytest

from app import limits
from app.limits import BodyLimit
from app.problems import MEDIA_TYPE
from tests.app.conftest import trickle
from tests.app.served import served

LIMIT = 1000


async def reader(scope, receive, send):
    """Answers with the number of bytes of the body."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client has gone")
        size += len(message["body"])
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


def exchange(chunks, headers=(), app=None, kind="http", seconds=5, pause=0):
    """Sends a body in chunks; returns the messages that came back and how many chunks were taken."""
    sent, taken = [], []

    async def receive():
        await asyncio.sleep(pause)
        if len(taken) == len(chunks):
            return {"type": "http.disconnect"}
        taken.append(1)
        body = chunks[len(taken) - 1]
        return {"type": "http.request", "body": body, "more_body": len(taken) < len(chunks)}

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "headers": list(headers)}
    asyncio.run(BodyLimit(app or reader, LIMIT, seconds)(scope, receive, send))
    return sent, len(taken)


def refused(sent) -> bool:
    assert len(sent) in (2, 3)
    if sent[0]["status"] == 413:
        assert [message.get("body") for message in sent[2:]] == [b""]
        assert "limit" in json.loads(sent[1]["body"])["detail"]
        return True
    return False


def test_declared_too_large_is_refused_before_it_comes():
    order = []

    async def receive():
        order.append("receive")
        return {"type": "http.disconnect"}

    async def send(message):
        order.append(message.get("status", message.get("body")))

    scope = {"type": "http", "headers": [(b"content-length", b"1001")]}
    asyncio.run(BodyLimit(reader, LIMIT)(scope, receive, send))
    assert order[0] == 413
    assert b"limit" in order[1]
    assert order[2:] == ["receive", b""]  # then the rest is thrown away, so that the answer is not lost


def test_a_client_that_goes_on_sending_is_not_heard_for_ever(monkeypatch):
    monkeypatch.setattr(limits, "LINGER", 0.1)
    sent, taken = exchange([b"x" * 400] * 1000, pause=0.01)
    assert refused(sent)
    assert taken < 100


@pytest.mark.parametrize(
    "declared", [(), [(b"content-length", b"5")], [(b"content-length", b"many")], [(b"content-length", b"0" * 9999)]]
)
def test_bytes_are_counted_whatever_is_declared(declared):
    seen = []

    async def counting(scope, receive, send):
        async def counted():
            seen.append(await receive())
            return seen[-1]

        await reader(scope, counted, send)

    sent, _ = exchange([b"x" * 400] * 100, declared, app=counting)
    assert refused(sent)
    assert [message["type"] for message in seen] == ["http.request", "http.request", "http.disconnect"]


def test_up_to_the_limit_it_passes():
    sent, _ = exchange([b"x" * 500] * 2, [(b"content-length", b"1000")])
    assert not refused(sent)
    assert sent[1]["body"] == b"1000"


def test_an_application_that_had_begun_to_answer_is_cut_off():
    async def hasty(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive())["type"] != "http.disconnect":
            pass
        await send({"type": "http.response.body", "body": b"late"})
        assert (await receive())["type"] == "http.disconnect"

    sent, taken = exchange([b"x" * 400] * 100, app=hasty)
    assert [message["type"] for message in sent] == ["http.response.start"]
    assert taken == 3


def test_other_errors_pass():
    async def broken(scope, receive, send):
        raise RuntimeError("of its own")

    with pytest.raises(RuntimeError, match="of its own"):
        exchange([b""], app=broken)


def test_other_kinds_of_connection_pass():
    async def lifespan(scope, receive, send):
        await send({"type": scope["type"]})

    assert exchange([], app=lifespan, kind="lifespan") == ([{"type": "lifespan"}], 0)


def test_a_length_of_thousands_of_digits():
    sent, _ = exchange([b"x"], [(b"content-length", b"9" * 9999)])
    assert refused(sent)


# Bodies that take their time


def test_a_body_that_does_not_end_in_time_is_refused():
    sent, taken = exchange([b"x"] * 100, seconds=0.2, pause=0.05)
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    assert json.loads(sent[1]["body"])["detail"] == "The request took more than 0.2 seconds to arrive."
    assert sent[2:] == [{"type": "http.response.body", "body": b""}]
    assert 1 <= taken <= 4


def test_many_short_waits_are_none_too_long():
    sent, _ = exchange([b"x"] * 10, seconds=5, pause=0.01)
    assert sent[1]["body"] == b"10"


def test_the_time_that_an_application_takes_before_it_reads_does_not_count():
    async def late(scope, receive, send):
        await asyncio.sleep(0.3)
        await reader(scope, receive, send)

    sent, _ = exchange([b"x"] * 3, app=late, seconds=0.2)
    assert sent[1]["body"] == b"3"


def test_the_limit_ends_with_the_body():
    async def stream(scope, receive, send):
        assert not (await receive())["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        assert (await receive())["type"] == "http.disconnect"  # as Gradio waits for it, for hours
        await send({"type": "http.response.body", "body": b"until the client went"})

    sent, _ = exchange([b"x"], app=stream, seconds=0.15, pause=0.1)
    assert sent[1]["body"] == b"until the client went"


def test_an_application_that_had_begun_to_answer_a_slow_body_is_cut_off():
    async def hasty(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive())["type"] != "http.disconnect":
            pass
        await send({"type": "http.response.body", "body": b"late"})

    sent, _ = exchange([b"x"] * 100, app=hasty, seconds=0.1, pause=0.02)
    assert [message["type"] for message in sent] == ["http.response.start"]


def test_an_applications_own_timeout_passes():
    async def impatient(scope, receive, send):
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        exchange([b""], app=impatient)


@pytest.mark.parametrize("length", [b"content-length: 900", b"transfer-encoding: chunked"])
def test_bytes_that_trickle_into_a_real_socket(length):
    head = b"POST / HTTP/1.1\r\nhost: x\r\n" + length
    with served(BodyLimit(reader, LIMIT, seconds=0.6)) as address:
        answer, took = trickle(address, head, b"3e8\r\nxxxxx")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in answer.lower()
        assert MEDIA_TYPE.encode() in answer
        assert 0.6 <= took < 5
        assert httpx.post(address, content=b"abc").text == "3"
