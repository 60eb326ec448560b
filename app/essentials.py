"""Of a picture file, the parts that its pixels need: nothing else that it carries reaches the decoder.

Pillow reads text, profiles, comments and EXIF in Python and keeps them, some in time or memory that grows with the
square of the file: 10 MB of them take it minutes, or gigabytes. None changes what the model sees but the orientation.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import NamedTuple

MAX_PARTS = 10_000  # chunks, segments and blocks of a file; the largest PNG of libpng's making has a tenth of it
MAX_SCANS = 100  # of a JPEG; the usual progressive one has ten
MAX_TABLES = 64 * 1024  # bytes; what a JPEG has before its pixels, without the parts that are left out
DAMAGED = "The picture is damaged or incomplete and cannot be read."
TOO_MANY_PARTS = "The picture's file is in too many parts."

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
GIF = (b"GIF87a", b"GIF89a")
CONTROL = b"!\xf9\x04"  # begins a graphic control extension, of eight bytes
PNG_PARTS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
# Markers of a JPEG.
SOS, EOI, APP1 = 0xDA, 0xD9, 0xE1
ALONE = (0x00, 0x01, *range(0xD0, 0xD9))  # without a length
RARE_FRAMES = (0xC3, 0xC5, 0xC6, 0xC7, *range(0xC9, 0xCC), *range(0xCD, 0xD0))
# Comments and applications' segments are left out, but for the two that say what the colours are.
LEFT_OUT = (0xFE, *range(0xE0, 0xF0))
COLOURS = {0xE0: b"JFIF", 0xEE: b"Adobe"}
MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")  # in coded pixels, where 0 escapes and the rest are restarts
EXIF = b"Exif\0\0"
ORIENTATION_TAG = 0x0112
SHORT = 3  # the type of a TIFF entry that holds 16-bit numbers


class FileError(Exception):
    """The file cannot be read; the message is a sentence for the person who sent it."""


class Essentials(NamedTuple):
    """What a file comes down to.

    Attributes:
        data: the file without what its pixels do not need.
        orientation: as EXIF counts it, 1 to 8; 1, upright, where the file says nothing.
        scans: passes over its pixels that a JPEG takes; 1 for other formats.
    """

    data: bytes
    orientation: int = 1
    scans: int = 1


def essentials(data: bytes) -> Essentials:
    """Leaves out of a PNG, JPEG or GIF what its pixels do not need; other files come back as they are.

    Of a WebP the chunks are counted; what they hold is read by its decoder, which is not in Python.

    What ends too early is found here, in time that hardly grows with the file, and not after most of it was decoded.

    Raises:
        FileError: the file is cut off or damaged, or made to keep a reader busy.
    """
    try:
        if data.startswith(PNG):
            return _png(data)
        if data.startswith(JPEG):
            return _jpeg(data)
        if data.startswith(GIF):
            return _gif(data)
        if data.startswith(b"RIFF"):
            return _webp(data)
    except (struct.error, IndexError):  # beyond the end
        raise FileError(DAMAGED) from None
    return Essentials(data)


def exif_orientation(exif: bytes) -> int:
    """What EXIF's first directory says of the orientation; 1 where it is malformed or says nothing."""
    exif = exif.removeprefix(EXIF)
    order = "<" if exif.startswith(b"II") else ">"
    try:
        (place,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, place)
        for entry in range(place + 2, place + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, entry)
            if tag == ORIENTATION_TAG and kind == SHORT:
                return value
    except struct.error:
        pass
    return 1


def _png(data: bytes) -> Essentials:
    view, turn, place = memoryview(data), 1, len(PNG)
    parts: list[bytes | memoryview] = [PNG]
    for _ in range(MAX_PARTS):
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if kind in PNG_PARTS:
            (checksum,) = struct.unpack_from(">I", data, end - 4)
            if zlib.crc32(view[place + 4 : end - 4]) != checksum:
                raise FileError(DAMAGED)
            parts.append(view[place:end])
        elif kind == b"eXIf":
            turn = exif_orientation(data[place + 8 : end - 4])
        if kind == b"IEND":
            return Essentials(b"".join(parts), turn)
        place = end
    raise FileError(TOO_MANY_PARTS)


def _jpeg(data: bytes) -> Essentials:
    parts, turn, place = [data[:2]], 0, 2
    tables, start, scans = 0, 0, 0
    for _ in range(MAX_PARTS):
        if scans:
            found = MARKER.search(data, place)
            if not found:
                raise FileError(DAMAGED)
            place = found.start()
        marker = data[place + 1]
        if data[place] != 0xFF or marker == 0xFF:  # padding
            place += 1
        elif marker in ALONE:
            place += 2
        elif marker == EOI:
            if not scans:
                raise FileError(DAMAGED)
            return Essentials(b"".join((*parts, memoryview(data)[start : place + 2])), turn or 1, scans)
        else:
            end = place + 2 + struct.unpack_from(">H", data, place + 2)[0]
            if marker in RARE_FRAMES:
                raise FileError("The picture is a JPEG of a rare kind, neither baseline nor progressive.")
            if marker == SOS:
                start, scans = start or place, scans + 1
            elif not scans:
                segment = data[place:end]
                if marker == APP1 and segment.startswith(EXIF, 4):
                    turn = turn or exif_orientation(segment[4:])
                colours = marker in COLOURS and segment.startswith(COLOURS[marker], 4)
                if colours or marker not in LEFT_OUT:
                    parts.append(segment)
                    tables += len(segment)
            if scans > MAX_SCANS or tables > MAX_TABLES:
                break
            place = end
    raise FileError(TOO_MANY_PARTS)


def _gif(data: bytes) -> Essentials:
    flags = data[10]
    place = 13 + (6 << (flags & 7) if flags & 0x80 else 0)
    screen, control = data[:place], b""
    blocks = False  # of an extension
    for _ in range(MAX_PARTS):
        mark = data[place]
        if blocks:
            blocks = mark > 0
            place += 1 + mark
        elif mark == 0x2C:  # the first frame
            return Essentials(b"".join((screen, control, memoryview(data)[place:])))
        elif mark == 0x21:
            if data.startswith(CONTROL, place):  # which colour is transparent
                control = data[place : place + 8]
            blocks = True
            place += 2
        else:
            place += 1
    raise FileError(TOO_MANY_PARTS)


def _webp(data: bytes) -> Essentials:
    place = 12
    for _ in range(MAX_PARTS):
        if place + 8 > len(data):
            return Essentials(data)
        (length,) = struct.unpack_from("<I", data, place + 4)
        place += 8 + length + length % 2
    raise FileError(TOO_MANY_PARTS)
