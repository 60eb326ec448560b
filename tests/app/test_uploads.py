"""The page's upload route has the limits of the others, on a real socket; and nothing is left of what it refused."""

import functools
import time

import httpx
import pytest

from app import main
from app.limits import BodyLimit
from app.main import Settings, create_app
from tests.app.conftest import connected, trickle
from tests.app.served import served

ROUTE = "/gradio_api/upload"
LIMIT = 2**20
SLOW = 1.0  # seconds


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def address(models, classifier, folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        patch.setattr(main, "BodyLimit", functools.partial(BodyLimit, seconds=SLOW))
        app = create_app(Settings(model_dir=models, max_upload_mb=1), classifier)
        with served(app) as address:
            httpx.get(f"{address}/config", timeout=60)  # waits until Gradio is imported
            yield address


@pytest.fixture
def page(address):
    with httpx.Client(base_url=address, timeout=30) as page:
        yield page


@pytest.fixture(autouse=True)
def left(folder):
    """What a test leaves on the disk is told here."""
    before = kept(folder)
    return lambda: kept(folder) - before


def kept(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def refused(response, status):
    assert response.status_code == status, response.text
    assert len(response.text) < 300
    assert response.text.isprintable()


def test_an_upload(page, encode, shapes, left):
    data = encode(shapes["Bag"])
    response = page.post(ROUTE, files={"files": ("../../a\nb.PNG", data)})
    (path,) = response.json()
    assert [str(file) for file in left()] == [path]
    assert path.endswith("picture.png")
    assert page.get(f"/gradio_api/file={path}").content == data


def test_too_large_with_a_length(page, left):
    response = page.post(ROUTE, files={"files": ("a.png", bytes(3 * LIMIT))})
    assert response.status_code == 413
    assert "limit" in response.json()["detail"]
    assert not left()


def test_too_large_without_a_length(page, left):
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    chunks = (head, *[bytes(2**16)] * 100)
    with page.stream(
        "POST", ROUTE, content=iter(chunks), headers={"content-type": "multipart/form-data; boundary=x"}
    ) as response:
        assert response.status_code == 413
    assert not left()


def test_a_file_too_large_in_a_request_that_is_not(page, left):
    refused(page.post(ROUTE, files={"files": ("a.png", bytes(LIMIT + 1))}), 413)
    assert not left()


@pytest.mark.parametrize("count", [65, 1000, 10_000])
def test_many_files(page, left, count):
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\na\r\n'
    response = page.post(
        ROUTE, content=part * count + b"--x--\r\n", headers={"content-type": "multipart/form-data; boundary=x"}
    )
    refused(response, 400)
    assert not left()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=" + "x" * 300, b"x"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\na\r\n--x--'),
        ("multipart/form-data; boundary=x", b"--x\r\na: b\r\n\r\na\r\n--x--"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\na\r\n',
        ),
        ("text/plain", b"x"),
        ("application/json", b"{}"),
    ],
)
def test_what_is_no_form_of_files(page, left, kind, body):
    response = page.post(ROUTE, content=body, headers={"content-type": kind})
    refused(response, response.status_code)
    assert 400 <= response.status_code < 500
    assert not left()


@pytest.mark.parametrize("charset", ["undefined", "utf-7", "raw_unicode_escape"])
def test_charsets_of_names(page, charset):
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="+2AA-\\ud800"\r\n\r\na\r\n--x--\r\n'
    headers = {"content-type": f"multipart/form-data; boundary=x; charset={charset}"}
    assert page.post(ROUTE, content=part, headers=headers).status_code == 200


FORM = (
    f"POST {ROUTE} HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=x\r\ncontent-length: 90000"
).encode()
FILE = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n' + bytes(1000)


def test_a_slow_body(address, page, left):
    answer, took = trickle(address, FORM + b"\r\n\r\n" + FILE, b"x" * 10)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert SLOW <= took < 10
    assert not left()


def test_a_visitor_who_goes_while_sending(address, page, left):
    with connected(address) as connection:
        connection.sendall(FORM + b"\r\n\r\n" + FILE)
        time.sleep(0.3)
    time.sleep(0.3)
    assert page.get("/healthz").status_code == 200
    assert not left()


def test_event_streams_outlast_the_limit(page):
    """Gradio asks for more of the request as long as it streams, to learn that the visitor has gone."""
    with page.stream("GET", "/gradio_api/heartbeat/stranger", timeout=2 * SLOW) as response:
        assert response.status_code == 200
        with pytest.raises(httpx.ReadTimeout):  # it is silent for longer, and open
            list(response.iter_raw())


def test_progress_is_not_kept(page):
    assert "done" in page.get("/gradio_api/upload_progress", params={"upload_id": "stranger"}).text
