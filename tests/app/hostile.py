"""Files that a stranger could send, made to keep a reader busy or to fill its memory."""

import io
import struct
import zipfile
import zlib

from PIL import Image

MB = 2**20


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# PNG

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a PNG's colour types
ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, depth=8, colour=0, interlaced=False, pixels=None, before=b""):
    """All black unless ``pixels``, packed, say otherwise; ``before`` goes before them."""
    if pixels is None:
        row = 1 + (width * CHANNELS[colour] * depth + 7) // 8
        pixels = packed(row * height)
    palette = chunk(b"PLTE", bytes(768)) if colour == 3 else b""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return SIGNATURE + chunk(b"IHDR", header) + palette + before + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def packed(size, level=1):
    """So many zero bytes, without having them all at once."""
    packer = zlib.compressobj(level)
    return b"".join(packer.compress(bytes(min(MB, size - done))) for done in range(0, size, MB)) + packer.flush()


def interlaced_png(pixels):
    rows = b""
    for top, left, down, right in ADAM7:
        rows += b"".join(b"\0" + row.tobytes() for row in pixels[top::down, left::right])
    return png(pixels.shape[1], pixels.shape[0], interlaced=True, pixels=zlib.compress(rows))


def with_chunks(file, chunks):
    """The PNG with these after its header."""
    return file[:33] + chunks + file[33:]


# JPEG


def segment(marker, content):
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def with_segments(file, segments):
    """The JPEG with these after its first marker."""
    return file[:2] + segments + file[2:]


def with_scans(file, count):
    """The progressive JPEG with its last scan so many times more."""
    last = file.rindex(b"\xff\xda")
    return file[:-2] + file[last:-2] * count + file[-2:]


# The others


def bmp(width, height, bits=8, compression=0, pixels=b""):
    header = struct.pack("<2sIHHI", b"BM", 0, 0, 0, 54 + 1024)
    header += struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(pixels), 0, 0, 256, 0)
    return header + bytes(1024) + pixels


def before_the_frame(file, blocks):
    """The GIF with these before its first frame."""
    start = 13 + (6 << (file[10] & 7) if file[10] & 0x80 else 0)
    return file[:start] + blocks + file[start:]


def with_frames(file, count):
    """The animated GIF with its frames so many times."""
    start = file.index(b"!\xf9")
    return file[:start] + file[start:-1] * count + file[-1:]


def webp(*chunks):
    content = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(content)) + content


def webp_canvas(width, height, flags=0):
    return b"VP8X", bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


# What several formats have


def exif_bomb(entries, claimed, size):
    """EXIF of many entries, each of which claims to be as long as nearly all of it."""
    table = b"".join(struct.pack(">HHII", 0x200 + number, 7, claimed, 0) for number in range(entries))
    return (b"MM\0*" + struct.pack(">IH", 8, entries) + table).ljust(size, b"\0")


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../evil.html", "<script>alert(1)</script>")
    return buffer.getvalue()


def animation(image, kind, frames, **options):
    others = [Image.new("L", image.size, number * 7 % 256) for number in range(1, frames)]
    return encode(image, kind, save_all=True, append_images=others, **options)


def fine(picture):
    """Pictures, by name, that carry what they need not; uint8 [H, W] is what all of them show."""
    image = Image.fromarray(picture)
    plain = encode(image)
    jpeg = encode(image, "JPEG", quality=100)
    gif = encode(image, "GIF")
    lossless = encode(image.convert("RGB"), "WEBP", lossless=True)
    frame = (lossless[12:16], lossless[20 : 20 + struct.unpack("<I", lossless[16:20])[0]])
    size = picture.shape[1], picture.shape[0]
    million = packed(MB, 9)
    text = b"k%d\0\0" + million
    return {
        "PNG and ZIP": plain + zipped(),
        "PNG and HTML": plain + b"<html><script>alert(1)</script></html>" * 1000,
        "PNG with a script in its text": with_chunks(plain, chunk(b"tEXt", b"k\0<?php system($_GET['c']); ?>")),
        "JPEG with a PHP comment": with_segments(jpeg, segment(0xFE, b"<?php system($_GET['c']); ?>")),
        "JPEG and ZIP": jpeg + zipped(),
        "GIF and JavaScript": before_the_frame(gif, b"!\xfe\x0d*/=1;alert(1)\0") + b"/*alert(2)*/",
        "GIF of 5,000 frames": with_frames(animation(image, "GIF", 2), 5000),
        "APNG of 1,000 frames": animation(image, "PNG", 1000),
        "WebP of 1,000 frames": animation(image.convert("RGB"), "WEBP", 1000, lossless=True, minimize_size=False),
        "zTXt bombs": with_chunks(plain, b"".join(chunk(b"zTXt", text % n) for n in range(200))),
        "iTXt bombs": with_chunks(plain, chunk(b"iTXt", b"k\0\1\0\0\0" + million) * 200),
        "iCCP bombs": with_chunks(plain, chunk(b"iCCP", b"k\0\0" + million) * 3000),
        "PNG of EXIF": with_chunks(plain, chunk(b"eXIf", exif_bomb(5000, 9 * MB, 9 * MB))),
        "JPEG of EXIF": with_segments(
            jpeg,
            segment(0xE1, b"Exif\0\0" + exif_bomb(5000, 60_000 * 100, 65_000))
            + segment(0xE1, b"Exif\0\0" + bytes(65_000)) * 100,
        ),
        "WebP of EXIF": webp(webp_canvas(*size, 8), frame, (b"EXIF", exif_bomb(5000, 9 * MB, 9 * MB))),
        "WebP of profile": webp(webp_canvas(*size, 32), (b"ICCP", bytes(9 * MB)), frame),
        "JPEG of profile": with_segments(
            jpeg, b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes([n + 1, 159]) + bytes(65_000)) for n in range(159))
        ),
        "JPEG of Photoshop's": with_segments(
            jpeg, segment(0xED, b"Photoshop 3.0\0" + b"8BIM\0\1\0\0\0\0\0\0" * 5000) * 150
        ),
        "interlaced PNG": interlaced_png(picture),
    }


def bad():
    """Files, by name, that are no picture to be read."""
    small = Image.new("RGB", (64, 64), (9, 99, 200))
    plain, jpeg, gif = encode(small), encode(small, "JPEG"), encode(small, "GIF")
    progressive = encode(small.resize((1000, 1000)), "JPEG", progressive=True)
    lossless = encode(small, "WEBP", lossless=True)
    frame = (lossless[12:16], lossless[20 : 20 + struct.unpack("<I", lossless[16:20])[0]])
    large = png(5000, 5000)
    damaged = bytearray(large)
    damaged[-40] ^= 1
    baseline = encode(Image.new("L", (8000, 8000)), "JPEG")  # 64 megapixels
    longer = bytearray(lossless)
    longer[4:8] = struct.pack("<I", len(lossless) * 2)
    return {
        "PNG of one column": png(1, 25_000_000),
        "PNG of one row": png(25_000_000, 1),
        "PNG of one column, interlaced": png(1, 25_000_000, interlaced=True, pixels=packed(1000)),
        "PNG of the largest sides": png(2**31 - 1, 2**31 - 1, pixels=packed(1000)),
        "PNG of 401 megapixels, interlaced": png(20025, 20025, interlaced=True, pixels=packed(1000)),
        "PNG cut off": large[:-30],
        "PNG damaged": bytes(damaged),
        "PNG without pixels": png(5000, 5000, pixels=packed(0)),
        "PNG whose last row is filtered as nobody does": png(
            2500, 2000, colour=2, pixels=zlib.compress(bytes(7501 * 1999) + b"\x09" + bytes(7500), 1)
        ),
        "PNG of a palette that it lacks": png(9, 9, colour=3).replace(chunk(b"PLTE", bytes(768)), b""),
        "PNG with a chunk of 2 GB": with_chunks(plain, struct.pack(">I4s", 2**31 - 1, b"tEXt") + b"k\0v"),
        "PNG of chunks": with_chunks(plain, chunk(b"abCd", b"") * 800_000),
        "PNG of empty pixels": with_chunks(plain, chunk(b"IDAT", b"") * 800_000),
        "JPEG of segments": with_segments(jpeg, segment(0xEB, b"") * 2_500_000),
        "JPEG of padding": with_segments(jpeg, b"\xff" * 10_000_000),
        "JPEG of zeros": with_segments(jpeg, bytes(10_000_000)),
        "JPEG of quantisation tables": with_segments(jpeg, segment(0xDB, (b"\0" + bytes([1]) * 64) * 1000) * 150),
        "JPEG of 1,000 scans": with_scans(progressive, 1000),
        "JPEG of 90 scans and 24 megapixels": with_scans(
            encode(Image.new("L", (4900, 4900)), "JPEG", progressive=True), 84
        ),
        "JPEG in passes of 26 megapixels": encode(Image.new("L", (5100, 5100)), "JPEG", progressive=True),
        "JPEG cut off": baseline[:-2],
        "JPEG of restarts": jpeg[:-2] + b"\xff\xd0" * 3_000_000,
        "JPEG of markers among its pixels": jpeg[:-2] + b"\xff\xff" * 4_500_000,
        "JPEG without a frame": b"\xff\xd8" + segment(0xDA, bytes(10)) + bytes(1000) + b"\xff\xd9",
        "arithmetic JPEG": jpeg.replace(b"\xff\xc0", b"\xff\xc9"),
        "lossless JPEG": jpeg.replace(b"\xff\xc0", b"\xff\xc3"),
        "GIF of one comment": before_the_frame(gif, b"!\xfe" + (b"\xff" + bytes([7]) * 255) * 39_000 + b"\0"),
        "GIF of one-byte blocks": before_the_frame(gif, b"!\xfe" + b"\1a" * 4_900_000 + b"\0"),
        "GIF of empty extensions": before_the_frame(gif, b"!\xfe\0" * 3_000_000),
        "GIF of nothing": before_the_frame(gif, bytes(10_000_000)),
        "BMP of runs": bmp(5000, 5000, compression=1, pixels=b"\1\7" * 5_000_000),
        "BMP of line ends": bmp(5000, 5000, compression=1, pixels=bytes(10_000_000)),
        "BMP of four-bit runs": bmp(5000, 5000, bits=4, compression=2, pixels=b"\xff\x77" * 200_000),
        "BMP of the largest sides": bmp(2**31 - 1, -(2**31) + 1),
        "BMP of no width": bmp(0, 5),
        "BMP of a negative width": bmp(-5, 5, pixels=bytes(100)),
        "BMP without pixels": bmp(5000, 5000),
        "WebP that is longer than its file": bytes(longer),
        "WebP of the largest canvas": webp(webp_canvas(16384, 16384), frame),
        "WebP of the largest sides": webp(webp_canvas(2**24, 2**24), frame),
        "WebP of a canvas that its frame leaves": webp(webp_canvas(5, 5), frame),
        "WebP of no frame": webp(webp_canvas(64, 64)),
        "WebP of chunks": webp(webp_canvas(64, 64), *[(b"ABCD", b"")] * 1_000_000),
    }


def heavy():
    """Pictures within the limits that take most memory, by name."""
    return {
        "PNG, 16 bits, alpha": png(5000, 5000, 16, 6),
        "PNG, wide": png(65_535, 381, 8, 6),
        "JPEG, in passes": encode(Image.new("RGB", (5000, 5000)), "JPEG", progressive=True, subsampling=0),
        "JPEG, long": encode(Image.new("CMYK", (511, 65_500), (200, 30, 90, 9)), "JPEG"),
        "WebP, animated": animation(Image.new("RGBA", (4166, 3000), (1, 2, 3, 99)), "WEBP", 2, lossless=True, method=0),
    }
