"""What a stranger sends: each is answered, or refused with a sentence, in little time and memory.

The files are in ``hostile.py``. What is only damaged, or of the wrong kind, is in test_pictures.py and test_api.py.
"""

import base64
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.main import Settings, create_app
from app.problems import MEDIA_TYPE
from tests.app import hostile, tiny_model

CPU = 0.1  # seconds
MEMORY = 300  # MB, with Python and Pillow
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def client(models, classifier):
    app = create_app(Settings(model_dir=models, page=False), classifier)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def picture():
    return tiny_model.shapes()["Trouser"]


@pytest.fixture(scope="module")
def file(encode, picture):
    return encode(picture)


@pytest.fixture(scope="module")
def fine(picture):
    return hostile.fine(picture)


@pytest.fixture(scope="module")
def bad():
    return hostile.bad()


def send(client, body, kind="application/octet-stream"):
    """The answer; its CPU time, best of three since the machine is not ours alone, is little."""
    took = []
    for _ in range(3):
        began = time.process_time()
        response = client.post("/v1/predict", content=body, headers={"content-type": kind})
        took.append(time.process_time() - began)
        if took[-1] < CPU:
            return response
    raise AssertionError(f"{min(took):.3f} s of CPU")


def refused(response):
    """The sentence of a problem whose status says that the fault is the client's."""
    assert 400 <= response.status_code < 500, response.text
    assert response.headers["content-type"] == MEDIA_TYPE
    assert response.json()["status"] == response.status_code
    return sentence(response.json()["detail"])


def sentence(words):
    assert words[0].isupper()
    assert words.isprintable()
    assert len(words) < 300
    return words


def answered(response, name="Trouser"):
    assert response.status_code == 200, response.text
    (answer,) = response.json()["answers"]
    assert answer["class"] == name
    return answer


# Files


def test_pictures_that_carry_what_they_need_not(client, fine, subtests):
    for name, data in fine.items():
        with subtests.test(name):
            answered(send(client, data))


def test_files_that_are_no_picture_to_be_read(client, bad, subtests):
    for name, data in bad.items():
        with subtests.test(name):
            refused(send(client, data))


def test_many_bad_files_at_once(client, bad, file):
    small = {name: data for name, data in bad.items() if len(data) < 100_000}
    parts = [("files", (name, data)) for name, data in (*small.items(), ("fine", file))]
    response = client.post("/v1/predict", files=parts)
    assert response.status_code == 200
    *errors, last = response.json()["answers"]
    assert len(errors) > 15
    for answer in errors:
        assert 400 <= answer["error"]["status"] < 500
        sentence(answer["error"]["detail"])
    assert last["class"] == "Trouser"


MEASURE = """
import sys
from pathlib import Path
from app.pictures import PictureError, decode, to_model_input

for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        to_model_input(decode(path.read_bytes()), (28, 28))
        answer = "a picture"
    except PictureError as error:
        answer = error.message
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) // 1024, path.name, answer, sep="\\t")
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel's count of memory is Linux's")
def test_memory(fine, bad, tmp_path):
    heavy = hostile.heavy()
    for name, data in {**fine, **bad, **heavy}.items():
        (tmp_path / name).write_bytes(data)
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = [line.split("\t") for line in measured.stdout.splitlines()]
    assert len(lines) == len(fine) + len(bad) + len(heavy)
    peak = 0
    for so_far, name, answer in lines:
        assert (answer == "a picture") == (name not in bad), name
        assert int(so_far) < MEMORY, name
        peak = int(so_far)
    assert peak > 130  # megabytes that the largest picture has: else nothing was measured


# Names


def form(name, content, kind="multipart/form-data; boundary=x"):
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="' + name + b'"\r\n\r\n'
    return head + content + b"\r\n--x--\r\n", kind


@pytest.mark.parametrize(
    "name",
    [
        b"../../../../etc/passwd",
        b"..\\..\\windows\\system32",
        b"/etc/passwd",
        b"C:\\a.png",
        b"a%00.png",
        b"a%0d%0aSet-Cookie: a=b",
        b"\xed\xa0\x80.png",
        b"\xff\xfe.png",
        "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe".encode(),
        b"<script>alert(1)</script>",
        b"a" * 4000,
        b"con",
        b"'; drop table pictures; --",
    ],
)
def test_names_come_back_and_mean_nothing(client, file, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = answered(send(client, *form(name, file)))
    assert answer["name"].encode().decode()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [b"a\nb", b"a\r\nb: c", b"a\0b", b'a"b', b"a" * 10_000, b"", b"\x1b[2J"])
def test_names_that_a_form_cannot_have(client, file, name):
    response = send(client, *form(name, file))
    if response.status_code != 200:
        refused(response)
    else:
        answered(response)


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("undefined", b"a"),
        ("utf-7", b"+2AA-"),
        ("raw_unicode_escape", b"\\ud800"),
        ("punycode", b"\xff-"),
        ("idna", b"xn--\xff" * 500),
        ("zlib", b"a"),
        ("utf-16", b"a"),
        ("x" * 10_000, b"a"),
    ],
)
def test_charsets_of_names(client, file, charset, name):
    response = send(client, *form(name, file, f"multipart/form-data; boundary=x; charset={charset}"))
    if response.status_code != 200:
        refused(response)
    else:
        answered(response)


# Forms


@pytest.mark.parametrize("disposition", [b"", b"form-data", b'form-data; name="a"', b'form-data; filename="a"'])
def test_thousands_of_parts(client, disposition):
    part = b"--x\r\nContent-Disposition: " + disposition + b"\r\n\r\na\r\n"
    refused(send(client, part * 100_000 + b"--x--\r\n", "multipart/form-data; boundary=x"))


@pytest.mark.parametrize(
    "body",
    [
        b"--x\r\na: " + b"b" * 9_000_000 + b"\r\n\r\na\r\n--x--\r\n",
        b"--x\r\n" + b"b" * 9_000_000 + b": a\r\n\r\na\r\n--x--\r\n",
        b"--x\r\n" + b"a: b\r\n" * 1_000_000 + b"\r\na\r\n--x--\r\n",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + bytes(9_000_000) + b"\r\n--x--\r\n",
        b"\r\n" * 4_000_000 + b"--x--\r\n",
        b"--x" * 3_000_000,
        b"\r\n--" * 2_000_000,
        b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n' + b"\r\n--" * 2_000_000,
        b'--x\r\nContent-Disposition: form-data; name="a"; ' + b"a=b; " * 800 + b"\r\n\r\na\r\n--x--\r\n",
        b"--x--\r\n" + b"after" * 1_000_000,
        b"",
    ],
)
def test_forms_that_keep_a_parser_busy(client, body):
    refused(send(client, body, "multipart/form-data; boundary=x"))


@pytest.mark.parametrize("boundary", ["", "; boundary", "; boundary=", '; boundary="', "; boundary=" + "x" * 5000])
def test_boundaries_that_are_none(client, file, boundary):
    refused(send(client, form(b"a", file)[0], "multipart/form-data" + boundary))


# Content types


@pytest.mark.parametrize(
    "kind",
    [
        "image/png; charset=utf-8",
        "IMAGE/JPEG",
        "application/octet-stream",
    ],
)
def test_the_file_says_what_it_is(client, file, kind):
    answered(send(client, file, kind))


@pytest.mark.parametrize(
    "kind", ["", "/", "text/html", "image/svg+xml", "application/x-www-form-urlencoded", "x" * 10_000, "a\x1b[2J\x7f"]
)
def test_content_types_that_are_not_taken(client, file, kind):
    refused(send(client, file, kind))


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-16", "multipart/form-data"])
def test_a_picture_under_another_name(client, file, kind):
    refused(send(client, file, kind))


# JSON


@pytest.mark.parametrize(
    "body",
    [
        b'{"images": ' + b"[" * 5_000_000,
        b'{"a":' * 1_000_000,
        b'{"images": [' + b'"",' * 3_000_000 + b'""]}',
        b'{"images": [' + b"9" * 5_000_000 + b"]}",
        b'{"images": ["' + b"\\ud800" + b'"]}',
        b'{"images": [NaN]}',
        b'{"images": [null]}',
        b'{"images": {"0": ""}}',
        b'{"' + b"a" * 5_000_000 + b'": 1}',
        b'{"a\\nb\\u001b": 1, "images": [""]}',
        b'{"\\ud800": 1, "images": [""]}',
        b"{" + b",".join(b'"%d": 1' % number for number in range(500_000)) + b"}",
        b'\xef\xbb\xbf{"images": [""]}',
        '{"images": [""]}'.encode("utf-16"),
        b"\0" * 1000,
    ],
)
def test_json_that_keeps_a_parser_busy(client, body):
    refused(send(client, body, "application/json"))


def test_base64_that_is_nearly(client, file):
    right = base64.b64encode(file).decode()
    assert len(right) % 4 == 0
    nearly = [
        right[:-1],
        right + "A",
        "=" + right,
        right[:40] + "\n" + right[40:],
        " " + right,
        "data:image/png;base64," + right,
        right.replace("A", "-"),
        right + "\0",
        "é" * 100,
        "\N{PILE OF POO}",
        "=" * 1000,
        "A" * 1001,
        json.dumps({"images": [right]}),
    ]
    for text in nearly:
        refused(send(client, json.dumps({"images": [text]}), "application/json"))
    response = client.post("/v1/predict", json={"images": [*nearly, right]})
    *errors, last = response.json()["answers"]
    assert {answer["error"]["status"] for answer in errors} <= {400, 415}
    assert last["class"] == "Trouser"
