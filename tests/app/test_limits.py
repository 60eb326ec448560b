import asyncio
import json

import pytest

from app.limits import BodyLimit

LIMIT = 1000


def exchange(chunks, headers=(), app=None, kind="http"):
    """Sends a body in chunks; returns the messages that came back and how many chunks were taken."""
    sent, taken = [], []

    async def reader(scope, receive, send):
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError("the client has gone")
            size += len(message["body"])
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(size).encode()})

    async def receive():
        taken.append(1)
        body = chunks[len(taken) - 1]
        return {"type": "http.request", "body": body, "more_body": len(taken) < len(chunks)}

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "headers": list(headers)}
    asyncio.run(BodyLimit(app or reader, LIMIT)(scope, receive, send))
    return sent, len(taken)


def refused(sent) -> bool:
    assert len(sent) == 2
    if sent[0]["status"] == 413:
        assert "limit" in json.loads(sent[1]["body"])["detail"]
        return True
    return False


def test_declared_too_large_is_refused_unread():
    sent, taken = exchange([b"x"], [(b"content-length", b"1001")])
    assert refused(sent)
    assert taken == 0


@pytest.mark.parametrize("declared", [(), [(b"content-length", b"5")], [(b"content-length", b"many")]])
def test_bytes_are_counted_whatever_is_declared(declared):
    sent, taken = exchange([b"x" * 400] * 100, declared)
    assert refused(sent)
    assert taken == 3


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
