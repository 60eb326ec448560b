import base64

import pytest

from app.drawing import PREFIX, read
from app.pictures import PictureError


@pytest.mark.parametrize("value", [None, ""])
def test_nothing_drawn(value):
    assert read(value) is None


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("hello", 415),
        ("data:text/html;base64,aGVsbG8=", 415),
        ("/etc/hostname", 415),
        ({"path": "/etc/hostname"}, 415),
        (PREFIX + "not base64!", 400),
        (PREFIX + "abc", 400),
        (PREFIX + "A" * 2000, 413),
    ],
)
def test_refusals(value, status):
    with pytest.raises(PictureError) as caught:
        read(value, max_bytes=1000)
    assert caught.value.status == status
    assert caught.value.message.startswith("The drawing")


def test_the_file_comes_out():
    content = bytes(range(256)) * 3
    assert read(PREFIX + base64.b64encode(content).decode(), max_bytes=len(content)) == content
