"""Twenty thousand files, each a picture that something happened to, through the route that programs use.

Hypothesis draws the mutations, the same ones each time. Where the format has checksums or sizes in its way, they are
mended, so that a mutation reaches the decoder and not only the check before it.
"""

import contextlib
import struct
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from app.judge import Judge
from app.main import Settings, create_app
from app.pictures import MAX_BYTES, PictureError
from app.reading import MAX_PICTURES
from app.watch import Metrics
from tests.app import hostile

LEAST = 20_000  # files
EXAMPLES = LEAST * 13 // 10  # some are drawn twice
CPU = 0.3  # seconds a file, on a machine that others use too
GROWTH = 20  # MB that the second half of the files may take more than the first half did

NUMBERS = [0, 1, 2, 7, 8, 27, 29, 100, 255, 256, 1000, 3000, 32767, 65535, 2**24 - 1, 2**31 - 1, 2**31, 2**32 - 1]
# Where a format says how large a picture is: what precedes the numbers, how far on they are, and how they are written.
SIZES = {
    b"\x89PNG": [(b"IHDR", 4, ">I"), (b"IHDR", 8, ">I"), (b"fcTL", 8, ">I")],
    b"\xff\xd8": [(b"\xff\xc0", 5, ">H"), (b"\xff\xc0", 7, ">H"), (b"\xff\xc2", 5, ">H"), (b"\xff\xc2", 7, ">H")],
    b"RIFF": [(b"RIFF", 4, "<I"), (b"VP8 ", 14, "<H"), (b"VP8L", 9, "<I"), (b"VP8X", 12, "<H"), (b"ANMF", 14, "<H")],
    b"GIF8": [(b"GIF8", 6, "<H"), (b"GIF8", 8, "<H"), (b",", 5, "<H"), (b",", 7, "<H")],
    b"BM": [(b"BM", 10, "<I"), (b"BM", 18, "<I"), (b"BM", 22, "<I"), (b"BM", 28, "<H"), (b"BM", 30, "<I")],
}


def originals():
    """Small pictures in every kind of file that is taken."""
    y, x = np.mgrid[:40, :48]
    colours = np.stack([x * 5, y * 6, (x * y) % 256], -1).astype(np.uint8)
    colours[10:30, 15:33] = [200, 30, 90]
    image = Image.fromarray(colours)
    grey, palette, alpha = image.convert("L"), image.quantize(64), image.copy()
    alpha.putalpha(grey)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    frames = {"save_all": True, "append_images": [image.rotate(90), image.rotate(180)]}
    encode = hostile.encode
    return [
        *(encode(picture) for picture in (grey, image, alpha, alpha.convert("LA"), palette, image.convert("1"), deep)),
        encode(palette, transparency=3),
        encode(image, **frames),
        encode(alpha, exif=exif),
        hostile.interlaced_png(np.asarray(grey)),
        hostile.png(40, 40, 16, 6),
        *(encode(picture, "JPEG") for picture in (grey, image, image.convert("CMYK"))),
        encode(image, "JPEG", progressive=True, exif=exif),
        encode(image, "JPEG", subsampling=0, restart_marker_blocks=2, comment=b"words", icc_profile=bytes(300)),
        *(encode(picture, "WEBP", lossless=lossless) for picture in (image, alpha) for lossless in (True, False)),
        encode(image, "WEBP", **frames),
        encode(image, "WEBP", exif=exif, icc_profile=bytes(300)),
        *(encode(palette, "GIF", **options) for options in ({}, {"transparency": 3}, {"interlace": 1}, frames)),
        *(encode(picture, "BMP") for picture in (grey, image, alpha, palette, image.convert("1"))),
        hostile.bmp(48, 2, compression=1, pixels=b"\x30\x07\0\0\x30\x09\0\1"),
    ]


ORIGINALS = originals()


# Mutations: of bytes, and of what a format is made of


def mutate_bytes(data, random):
    data = bytearray(data)
    # Most of what decides is near the beginning.
    place = random.randrange(max(1, min(len(data), random.choice([60, 10**6]))))
    match random.choice(["flip", "set", "cut", "insert", "repeat", "remove", "splice", "join", "number"]):
        case "flip" if data:
            data[place] ^= 1 << random.randrange(8)
        case "set" if data:
            data[place] = random.choice([0, 1, 0x7F, 0x80, 0xFE, 0xFF])
        case "cut":
            del data[random.randrange(len(data) + 1) :]
        case "insert":
            data[place:place] = random.randbytes(random.randint(1, 8))
        case "repeat":
            data[place:place] = data[place : place + random.randint(1, 64)] * random.choice([1, 2, 50])
        case "remove":
            del data[place : place + random.randint(1, 64)]
        case "splice":
            other = random.choice(ORIGINALS)
            data[place:] = other[random.randrange(len(other)) :]
        case "join":
            data += random.choice(ORIGINALS)
        case "number":
            data[place : place + 4] = struct.pack(random.choice("<>") + "I", random.choice(NUMBERS))
    return bytes(data)


def mutate_size(data, random):
    fields = next((fields for signature, fields in SIZES.items() if data.startswith(signature)), [])
    places = [(data.find(mark) + offset, form) for mark, offset, form in fields if mark in data]
    if not places:
        return mutate_bytes(data, random)
    place, form = random.choice(places)
    size = struct.calcsize(form)
    number = random.choice([*NUMBERS, random.randrange(200)]) % 256**size
    return join(data[:place] + struct.pack(form, number) + data[place + size :])


def mutate_parts(data, random):
    """Of a PNG's or WebP's chunks, or a JPEG's segments: one left out, doubled, moved, or changed inside."""
    parts = split(data)
    if not parts:
        return mutate_bytes(data, random)
    place = random.randrange(len(parts))
    match random.choice(["remove", "double", "many", "move", "swap", "inside", "pixels", "pixels"]):
        case "remove":
            del parts[place]
        case "double":
            parts.insert(place, parts[place])
        case "many":
            parts[place:place] = [parts[place]] * random.choice([20, 300])
        case "move":
            parts.insert(random.randrange(len(parts)), parts.pop(place))
        case "swap":
            parts[place] = random.choice(split(random.choice(ORIGINALS)) or parts)
        case "inside":
            parts[place] = mutate_bytes(parts[place], random)
        case "pixels":
            parts = [_mutate_pixels(part, random) for part in parts]
    return join(data, parts)


def _mutate_pixels(part, random):
    """Of a PNG: unpacked, changed and packed again. Only so do the filters see what they should not."""
    if not part.startswith(b"IDAT"):
        return part
    with contextlib.suppress(zlib.error):  # changed already
        part = b"IDAT" + zlib.compress(mutate_bytes(zlib.decompressobj().decompress(part[4:], 10**6), random))
    return part


def split(data):
    """The chunks of a PNG or a WebP, their names included and lengths and checksums not; or a JPEG's segments."""
    parts, place = [], {b"\x89PNG": 8, b"RIFF": 12, b"\xff\xd8\xff\xe0": 2}.get(data[:4], len(data))
    while place + 8 <= len(data):
        if data.startswith(b"\x89PNG"):
            end = place + 8 + struct.unpack_from(">I", data, place)[0]
            parts.append(data[place + 4 : end])
            place = end + 4
        elif data.startswith(b"RIFF"):
            length = struct.unpack_from("<I", data, place + 4)[0]
            parts.append(data[place : place + 4] + data[place + 8 : place + 8 + length])
            place += 8 + length + length % 2
        else:
            end = data.find(b"\xff\xda", place) if data[place + 1] == 0xDA else 0
            end = len(data) if end else place + 2 + struct.unpack_from(">H", data, place + 2)[0]
            parts.append(data[place:end])
            place = end
    return parts


def join(data, parts=None):
    """A file of these parts, or of its own; their lengths and checksums are right again."""
    if parts is None:
        parts = split(data)
    if data.startswith(b"\x89PNG"):
        return data[:8] + b"".join(hostile.chunk(part[:4].ljust(4), part[4:]) for part in parts)
    if data.startswith(b"RIFF"):
        return hostile.webp(*((part[:4].ljust(4), part[4:]) for part in parts))
    return data[:2] + b"".join(parts) if parts else data


def mutate(data, kinds, seed):
    random = Random(seed)
    for kind in kinds:
        data = kind(data, random)
    return data


FILES = st.builds(
    mutate,
    st.sampled_from(ORIGINALS),
    st.lists(st.sampled_from([mutate_bytes, mutate_size, mutate_parts]), min_size=1, max_size=4),
    st.integers(0, 2**64 - 1),
)


def collect():
    """The files, none twice, in the order in which they were drawn."""
    drawn = {}

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(FILES)
    def draw(data):
        drawn[data] = None

    draw()
    return list(drawn)


def batches(files):
    """The files in their order, as many to a request as one may hold; none that is too large for any."""
    batch, total = [], 0
    for data in files:
        if len(data) > MAX_BYTES // 2:
            continue  # refused by its length alone
        if len(batch) == MAX_PICTURES or total + len(data) > MAX_BYTES // 2:
            yield batch
            batch, total = [], 0
        batch.append(data)
        total += len(data)
    if batch:
        yield batch


def resident():
    """Megabytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def timed_once(see, judge, data):
    """Seconds of processor time that a picture takes to be read, or refused."""
    began = time.thread_time()
    with contextlib.suppress(PictureError):
        see(judge, data)
    return time.thread_time() - began


def test_the_originals_are_pictures(models, classifier):
    with TestClient(create_app(Settings(model_dir=models, page=False), classifier)) as client:
        parts = [("files", ("a", data)) for data in ORIGINALS]
        answers = client.post("/v1/predict", files=parts).json()["answers"]
    assert all("class" in answer for answer in answers[:-1])
    assert answers[-1]["error"]["status"] == 415  # the run-length encoded BMP


def test_parts_are_put_together_as_they_were():
    for data in ORIGINALS:
        if split(data):
            assert join(data, split(data)) == data


@pytest.mark.slow
@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")  # as app.pictures has it, and pytest undoes
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the kernel's count of memory is Linux's")
def test_mutated_files(models, classifier, tmp_path, monkeypatch):
    drawn = collect()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    slowest, see = (0.0, b""), Judge.see

    def timed(self, data):
        nonlocal slowest
        began = time.thread_time()
        try:
            return see(self, data)
        finally:
            slowest = max(slowest, (time.thread_time() - began, data))

    monkeypatch.setattr(Judge, "see", timed)
    statuses, memory, sent = Counter(), [], 0
    app = create_app(Settings(model_dir=models, page=False), classifier)
    with TestClient(app, raise_server_exceptions=False) as client:
        for batch in batches(drawn):
            response = client.post("/v1/predict", files=[("files", ("a", data)) for data in batch])
            assert response.status_code == 200, response.text
            for data, answer in zip(batch, response.json()["answers"], strict=True):
                sent += 1
                if answer.get("class"):
                    statuses[200] += 1
                    continue
                error = answer["error"]
                statuses[error["status"]] += 1
                assert 400 <= error["status"] < 500, data
                assert error["detail"].isprintable(), data
                assert error["detail"].endswith("."), data
            memory.append(resident())
    # Once more, thrice: what else runs on the machine may have been in the way.
    again = [timed_once(see, Judge(classifier, MAX_BYTES, Metrics(classifier)), slowest[1]) for _ in range(3)]
    half = len(memory) // 2
    grown = max(memory[half:]) - max(memory[:half])  # what is free and not given back comes and goes
    print(f"{sent} files; {statuses}; slowest {slowest[0] * 1000:.0f} ms, {slowest[1][:40]!r}; {grown:+.1f} MB")
    assert sent >= LEAST
    assert statuses[200] > sent / 20  # else the decoders saw little
    assert min(again) < CPU, slowest[1]
    assert grown < GROWTH
    assert list(tmp_path.iterdir()) == []
