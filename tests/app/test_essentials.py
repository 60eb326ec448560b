"""What is left out of a file, what stays, and that the pixels do not change by it."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from app.essentials import FileError, essentials, exif_orientation
from app.pictures import decode

WORDS = b"words that nobody needs"


@pytest.fixture(scope="module")
def picture():
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    return Image.fromarray(noise)


def opened(data):
    return Image.open(io.BytesIO(data))


def exif(turn, order=">"):
    """A TIFF block of one entry."""
    start = b"MM\0*" if order == ">" else b"II*\0"
    return start + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, turn, 0, 0)


def test_text_profiles_and_comments_are_left_out(encode, picture):
    info = PngInfo()
    info.add_text("comment", WORDS.decode())
    files = [
        encode(picture, pnginfo=info, icc_profile=WORDS),
        encode(picture, "JPEG", comment=WORDS, icc_profile=WORDS, xmp=WORDS),
        encode(picture, "GIF", comment=WORDS),
    ]
    for data in files:
        kept = essentials(data).data
        assert WORDS in data
        assert len(kept) < len(data)
        for part in (WORDS, b"iCCP", b"ICC_PROFILE"):
            assert part not in kept
        np.testing.assert_array_equal(opened(kept), opened(data))


def test_what_follows_the_picture_is_left_out(encode, picture):
    for kind in ("PNG", "JPEG"):
        data = encode(picture, kind)
        assert essentials(data + WORDS).data == essentials(data).data


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "I;16"])
def test_png_of_every_mode_stays_as_it_is(encode, picture, mode):
    image = Image.fromarray(np.arange(2400, dtype=np.uint16).reshape(40, 60)) if mode == "I;16" else picture
    data = encode(image.convert(mode))
    assert essentials(data).data == data


def test_transparent_colours_stay(encode, picture):
    palette = picture.quantize(16)
    for kind in ("PNG", "GIF"):
        alpha = np.asarray(decode(encode(palette, kind, transparency=7)).convert("RGBA"))[..., 3]
        assert (alpha == 0).any()
        assert (alpha == 255).any()


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "RGB", "L"])
@pytest.mark.parametrize("kind", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_jpeg_keeps_its_colours(encode, picture, mode, kind):
    data = encode(picture.convert(mode), "JPEG", **kind)
    file = essentials(data)
    np.testing.assert_array_equal(opened(file.data), opened(data))
    assert (file.scans > 1) == ("progressive" in kind)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_is_kept(encode, picture, kind, order):
    turned = decode(encode(picture, kind, exif=b"Exif\0\0" + exif(6, order)))
    assert turned.getexif()[0x0112] == 6
    assert 0x0112 not in decode(encode(picture, kind)).getexif()


@pytest.mark.parametrize(
    "block",
    [b"", b"Exif\0\0", b"MM\0*", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", exif(6)[:18], b"\0" * 100],
)
def test_malformed_exif_says_upright(block):
    assert exif_orientation(block) == 1


def test_exif_that_another_type_or_tag_precedes():
    entries = struct.pack(">HHII", 0x0100, 4, 1, 5) + struct.pack(">HHIHH", 0x0112, 3, 1, 8, 0)
    assert exif_orientation(b"MM\0*" + struct.pack(">IH", 8, 2) + entries) == 8


def test_a_checksum_that_is_wrong_is_damage(encode, picture):
    data = bytearray(encode(picture))
    data[-20] ^= 1  # in the last chunk of pixels
    with pytest.raises(FileError):
        essentials(bytes(data))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_every_shorter_file_is_refused(encode, picture, kind):
    data = encode(picture.resize((9, 9)), kind)
    for length in range(26, len(data)):
        with pytest.raises(FileError):
            essentials(data[:length])


def test_other_files_come_back_as_they_are(encode, picture):
    for data in (b"", b"text", encode(picture, "WEBP"), encode(picture, "BMP")):
        assert essentials(data) == (data, 1, 1)


def test_parts_are_counted(encode, picture):
    data = encode(picture)
    part = struct.pack(">I4sI", 0, b"abCd", zlib.crc32(b"abCd"))
    assert essentials(data[:33] + part * 5000 + data[33:]).data == data
    with pytest.raises(FileError, match="too many parts"):
        essentials(data[:33] + part * 10_000 + data[33:])
