import contextlib
import struct
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageDraw

from app import pictures
from app.pictures import PictureError, decode, to_model_input

SIZE = (28, 28)


def refusal(data, status, **options) -> str:
    with pytest.raises(PictureError) as caught:
        decode(data, **options)
    assert caught.value.status == status
    message = caught.value.message
    assert message == str(caught.value)
    assert message[0].isupper()
    assert message.endswith(".")
    assert "\n" not in message
    return message


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of_nothing(width, height):
    """A grey PNG that claims any size, in few bytes; to be refused before its pixels are unpacked."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def garment():
    """A dark upright shape on white, uint8 RGB [300, 400, 3], off the middle."""
    image = Image.new("RGB", (400, 300), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((60, 40, 139, 239), fill=(60, 40, 90))
    draw.rectangle((80, 60, 100, 120), fill=(150, 120, 160))
    return image


def shares(picture):
    """How much of the picture is light, in the left, middle and right third."""
    return [float((part > 60).mean()) for part in np.array_split(picture, 3, axis=1)]


# Refusals


def test_empty_file():
    refusal(b"", 400)


def test_too_many_bytes():
    assert "limit is 1 MB" in refusal(bytes(2**20 + 1), 413, max_bytes=2**20)


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"GIF89a",
        b"RIFF",
        b"BM",
        b"\x00" * 100,
    ],
)
def test_what_is_no_picture(data):
    assert refusal(data, 415) == pictures.UNKNOWN_FORMAT


@pytest.mark.parametrize("kind", ["TIFF", "PPM", "ICO", "TGA"])
def test_formats_off_the_list(encode, garment, kind):
    refusal(encode(garment, kind), 415)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_truncated(encode, garment, kind):
    data = encode(garment, kind)
    refusal(data[: len(data) * 2 // 3], 400)


def test_damaged(encode, garment):
    data = bytearray(encode(garment))
    data[len(data) // 2] ^= 255
    refusal(bytes(data), 400)


@pytest.mark.parametrize("side", [5001, 10050, 20025])
def test_many_megapixels_in_few_bytes(side):
    assert "megapixels" in refusal(png_of_nothing(side, side), 400)


def test_no_pixels():
    with pytest.raises(PictureError) as caught:
        to_model_input(Image.new("L", (0, 5)), SIZE)
    assert caught.value.status == 400


def test_huge_gif_canvas(encode, garment):
    data = bytearray(encode(garment, "GIF"))
    data[6:10] = struct.pack("<HH", 65535, 65535)
    assert "megapixels" in refusal(bytes(data), 400)


def test_floating_point():
    with pytest.raises(PictureError) as caught:
        to_model_input(Image.fromarray(np.zeros((30, 30), np.float32)), SIZE)
    assert caught.value.status == 415


def test_mutated_files_give_a_picture_or_a_sentence(encode, garment):
    random = np.random.default_rng(0)
    small = garment.resize((60, 45))
    files = [encode(small, kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP")]
    for number in range(600):
        data = bytearray(files[number % len(files)])
        for place in random.integers(0, min(len(data), 400), 6):
            data[place] = random.integers(0, 256)
        with contextlib.suppress(PictureError):
            assert to_model_input(decode(bytes(data)), SIZE).shape == SIZE


# What passes bit for bit


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1"])
def test_a_picture_of_the_model_passes_unchanged(encode, mode):
    noise = np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)
    if mode == "1":
        noise = np.where(noise > 127, 255, 0).astype(np.uint8)
    seen = to_model_input(decode(encode(Image.fromarray(noise).convert(mode))), SIZE)
    assert seen.dtype == np.uint8
    np.testing.assert_array_equal(seen, noise)


def test_16_bits_pass_scaled(encode):
    noise = np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)
    seen = to_model_input(decode(encode(noise.astype(np.uint16) * 257)), SIZE)
    np.testing.assert_array_equal(seen, noise)


def test_light_paper_of_the_models_size_is_not_inverted(encode):
    paper = np.full(SIZE, 250, np.uint8)
    np.testing.assert_array_equal(to_model_input(decode(encode(paper)), SIZE), paper)


def test_the_image_itself_is_left_alone(garment):
    before = garment.tobytes()
    to_model_input(garment, SIZE)
    assert garment.tobytes() == before


def test_other_sizes_of_the_model(garment):
    assert to_model_input(garment, (32, 48)).shape == (32, 48)
    wide = np.zeros((32, 48), np.uint8)
    wide[4:9] = 9
    np.testing.assert_array_equal(to_model_input(Image.fromarray(wide), (32, 48)), wide)


# What is made of everything else


def test_dark_on_white_becomes_light_on_black(garment):
    seen = to_model_input(garment, SIZE)
    assert seen[:, 0].max() == seen[:, -1].max() == 0
    assert seen.max() == 255
    # Cropped to the object, which is 80 x 200: it fills the height, and a fifth of the width on each side of 14.
    assert (seen.max(axis=1) > 60).all()
    assert np.flatnonzero(seen.max(axis=0) > 60).tolist() == list(range(8, 19))
    assert shares(seen)[1] > 0.8


@pytest.mark.parametrize(
    ("ground", "grey"),
    [
        (ground, ground + contrast)
        for ground in (0, 30, 90, 128, 170, 220, 255)
        for contrast in (-120, -60, -20, 20, 60, 120)
        if 0 <= ground + contrast <= 255
    ],
)
def test_any_ground_with_an_object_lighter_or_darker(ground, grey):
    image = np.full((200, 300), ground, np.uint8)
    image[50:150, 100:140] = grey
    seen = to_model_input(Image.fromarray(image), SIZE)
    assert seen.max() == 255
    assert shares(seen)[1] > 0.8
    assert shares(seen)[0] + shares(seen)[2] < 0.25


@pytest.mark.parametrize("fall", [(40, 0), (0, -40), (30, 30)])
def test_uneven_light_and_noise(fall):
    random = np.random.default_rng(1)
    y, x = np.mgrid[-1:1:300j, -1:1:400j]
    table = 200 + fall[0] * x + fall[1] * y + random.normal(0, 4, x.shape)
    table[100:220, 250:300] *= 0.3
    seen = to_model_input(Image.fromarray(table.clip(0, 255).astype(np.uint8)), SIZE)
    assert seen[:, [0, 1, 2, -3, -2, -1]].max() == 0
    assert (seen.max(axis=1) > 60).all()


@pytest.mark.parametrize("grey", [0, 77, 128, 255])
@pytest.mark.parametrize("size", [(300, 200), (1, 1), (28, 29)])
def test_blank(grey, size):
    assert not to_model_input(Image.new("L", size, grey), SIZE).any()


def test_noise_alone_is_blank():
    noise = np.random.default_rng(0).normal(128, 3, (200, 200)).clip(0, 255).astype(np.uint8)
    assert not to_model_input(Image.fromarray(noise), SIZE).any()


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (3, 2), (27, 28), (28, 1000)])
def test_odd_shapes(size):
    noise = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    seen = to_model_input(Image.fromarray(noise), SIZE)
    assert seen.shape == SIZE
    assert seen.dtype == np.uint8


def cut_out(size, box, colour):
    image = Image.new("RGBA", size, (0, 0, 0, 0))
    ImageDraw.Draw(image).rectangle(box, fill=colour)
    return image


@pytest.mark.parametrize("colour", [(20, 20, 20), (128, 60, 60), (200, 200, 190), (250, 250, 250), "white"])
def test_cut_out_shows_on_the_right_ground(encode, colour):
    seen = to_model_input(decode(encode(cut_out((200, 200), (80, 20, 119, 179), colour))), SIZE)
    assert seen.max() == 255
    assert shares(seen)[1] > 0.6
    assert seen[:, 0].max() == 0


def test_cut_out_that_is_all_transparent():
    assert not to_model_input(Image.new("RGBA", (50, 50), (255, 0, 0, 0)), SIZE).any()


def test_transparent_colour_of_a_palette(encode):
    image = Image.new("P", (60, 60), 0)
    image.putpalette([0, 0, 0, 10, 10, 10])
    image.paste(1, (25, 5, 35, 55))
    # Both colours are nearly black: only transparency tells the object from the ground.
    seen = to_model_input(decode(encode(image, transparency=0)), SIZE)
    assert shares(seen)[1] > 0.6


def test_16_bits_are_scaled_not_cut(encode):
    ramp = np.zeros((100, 100), np.uint16)
    ramp[20:80, 40:60] = np.linspace(20000, 65535, 60)[:, None]
    seen = to_model_input(decode(encode(ramp)), SIZE)
    column = seen[:, 14].astype(int)
    assert column[0] < 110
    assert (np.diff(column) >= 0).all()


@pytest.mark.parametrize(
    ("tag", "turn"),
    [
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (3, Image.Transpose.ROTATE_180),
        (4, Image.Transpose.FLIP_TOP_BOTTOM),
        (5, Image.Transpose.TRANSPOSE),
        (6, Image.Transpose.ROTATE_90),
        (7, Image.Transpose.TRANSVERSE),
        (8, Image.Transpose.ROTATE_270),
    ],
)
def test_exif_orientation(encode, garment, tag, turn):
    exif = Image.Exif()
    exif[0x0112] = tag
    turned = decode(encode(garment.transpose(turn), "JPEG", exif=exif, quality=95))
    upright = decode(encode(garment, "JPEG", quality=95))
    difference = to_model_input(turned, SIZE).astype(int) - to_model_input(upright, SIZE)
    assert np.abs(difference).max() <= 12  # the seams of JPEG's blocks lie elsewhere


def test_malformed_exif_is_no_reason_to_refuse(encode, garment):
    seen = to_model_input(decode(encode(garment, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")), SIZE)
    assert shares(seen)[1] > 0.8


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "L", "RGB"])
def test_kinds_of_jpeg(encode, garment, mode):
    seen = to_model_input(decode(encode(garment.convert(mode), "JPEG", quality=95)), SIZE)
    assert shares(seen)[1] > 0.8


def test_first_frame_of_an_animation(encode, garment):
    data = encode(garment, "GIF", save_all=True, append_images=[Image.new("RGB", garment.size)] * 3)
    first = to_model_input(decode(data), SIZE)
    assert shares(first)[1] > 0.8


def test_large_jpeg_is_decoded_small(encode, garment):
    large = garment.resize((4000, 3000), Image.Resampling.NEAREST)
    image = decode(encode(large, "JPEG"))
    assert image.size == (500, 375)
    difference = to_model_input(image, SIZE).astype(int) - to_model_input(garment, SIZE)
    assert np.abs(difference).mean() < 6


def test_large_png_stays_within_memory(encode, garment):
    data = encode(garment.resize((5000, 5000), Image.Resampling.NEAREST), compress_level=1)
    tracemalloc.start()
    to_model_input(decode(data), SIZE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6  # Pillow's own 75 MB are not traced


def test_the_same_from_several_threads(encode, garment):
    files = [encode(garment, kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP")] * 6
    one_by_one = [to_model_input(decode(data), SIZE) for data in files]
    with ThreadPoolExecutor(8) as pool:
        at_once = list(pool.map(lambda data: to_model_input(decode(data), SIZE), files))
    np.testing.assert_array_equal(one_by_one, at_once)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("size", [(2500, 1100), (37, 3001)])
def test_tiles_give_the_bits_of_the_whole(mode, size):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), np.uint8)
    if mode == "I;16":
        image = Image.fromarray(noise.view(np.uint16)[..., 0])
    else:
        image = Image.fromarray(noise).convert("RGB" if mode == "P" else "RGBA").convert(mode)
    for factor in (2, 7, 300):
        assert pictures._reduce(image, factor).tobytes() == pictures._grey(image).reduce(factor).tobytes()


def test_run_length_encoded_bmp():
    header = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 0, 0, 0, 54, 40, 5000, 5000, 1, 8, 1, 0, 0, 0, 0, 0)
    assert "BMP" in refusal(header + b"\1\7" * 1_000_000, 415)


@pytest.mark.parametrize("size", [(1, 100_000), (100_000, 1)])
def test_sides_longer_than_any_pictures(size):
    assert "side" in refusal(png_of_nothing(*size), 400)
