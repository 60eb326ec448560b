"""Bytes or a Pillow image to the uint8 picture that the model sees; every limit and every refusal.

The model knows catalogue pictures: a light garment on black that fills its frame. What people have is dark
garments on white tables, drawings, cut-outs and phone photos, so a picture is turned upright, its ground is
made black, and it is cropped to the object, scaled and centred. A picture that already is what the model sees
passes bit for bit.

Everything here is a function of its arguments and may be called from several threads at once.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
import numpy.typing as npt

# Imported for their entry in Pillow's registry: else the first WebP imports all of Pillow's seventy formats.
from PIL import (  # noqa: F401
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from app.essentials import DAMAGED, ORIENTATION_TAG, FileError, essentials, exif_orientation

MEGA = 1_000_000  # pixels in a megapixel
MB = 1024 * 1024  # bytes, as the page counts them
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MAX_BYTES = 10 * MB  # of a file, unless the caller says otherwise
MIN_BYTES = 26  # what is smaller has a signature at most
# These keep the memory of decoding below 300 MB. A JPEG may be larger, since it is decoded at reduced size: there are
# phones that make 50 megapixels. Not so if it comes in several passes, which are gathered at full size, and take time.
# WebP is decoded into several copies.
MAX_PIXELS = 25 * MEGA
MAX_JPEG_PIXELS = 64 * MEGA
MAX_SCANNED_PIXELS = 300 * MEGA  # pixels times passes
MAX_WEBP_PIXELS = 25 * MEGA // 2
MAX_SIDE = 65_535  # pixels; JPEG's own limit. Pillow needs 16 bytes for each row of a picture, however narrow
UNKNOWN_FORMAT = "This is not a picture in a format known here: PNG, JPEG, WebP, GIF or BMP."
DRAFT_SIDE = 256  # pixels; a JPEG is decoded at the smallest size whose sides are no shorter
TILE = 1024  # pixels; side of the tiles in which a large picture is reduced
WORK_FACTOR = 8  # times the model's size: a picture is first reduced to between this and twice this
ALPHA_OPAQUE = 255
NEARLY_WHITE = 224  # mean grey of the visible pixels from which a cut-out is laid on black instead of white
MIN_CONTRAST = 12  # grey levels between ground and object below which a picture counts as blank
SPECKS = 1e-4  # of all pixels: so few make no object
MAX_SHADE = 64  # grey levels: how far the light on a ground may fall off from its middle to a corner
NOISE_WIDTHS = 5.0  # what departs from the ground by less than so many widths of its noise is ground
OBJECT_SHARE = 0.12  # of the greatest contrast: what departs less from the ground belongs to the ground

UPRIGHT = {  # EXIF orientation -> what turns the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Process-wide, and so true for pictures that Gradio opens by itself as well.
Image.MAX_IMAGE_PIXELS = MAX_JPEG_PIXELS
warnings.simplefilter("error", Image.DecompressionBombWarning)


class PictureError(Exception):
    """A picture was refused.

    Attributes:
        message: one sentence for the person who sent it.
        status: the HTTP status that fits: 400 damaged or too many pixels, 413 too many bytes, 415 no picture.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


def decode(data: bytes, max_bytes: int = MAX_BYTES) -> Image.Image:
    """Decodes a PNG, JPEG, WebP, GIF or BMP file, of animations the first frame.

    A large JPEG is decoded at reduced size and in grey, which is all that the model needs.

    Args:
        data: the file.
        max_bytes: the largest file accepted.

    Returns:
        The decoded image, with its EXIF orientation still to be applied (``to_model_input`` does).

    Raises:
        PictureError: the file is empty, too large, no picture, damaged, or has too many pixels.
    """
    if not data:
        raise PictureError("The file is empty.", 400)
    if len(data) > max_bytes:
        raise PictureError(f"The file has {len(data) / MB:.1f} MB; the limit is {max_bytes / MB:g} MB.", 413)
    if len(data) < MIN_BYTES:
        raise PictureError(UNKNOWN_FORMAT, 415)
    try:
        data, turn, scans = essentials(data)
    except FileError as error:
        raise PictureError(str(error), 400) from None
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise PictureError(UNKNOWN_FORMAT, 415) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PictureError(f"The picture has more than {MAX_JPEG_PIXELS / MEGA:g} megapixels.", 400) from None
    except Exception:  # noqa: BLE001 - what Pillow's readers raise on a malformed file is not a closed list
        raise PictureError(DAMAGED, 400) from None
    _refuse_huge(image)
    if scans > 1 and image.width * image.height > min(MAX_PIXELS, MAX_SCANNED_PIXELS // scans):
        raise PictureError("The picture has too many megapixels for a progressive JPEG.", 400)
    if image.tile and image.tile[0][0] == "bmp_rle":  # unpacked by Pillow in Python, seconds for a megabyte
        raise PictureError("This is a run-length encoded BMP, which is not read here: save it as PNG.", 415)
    exif = image.info.pop("exif", None)  # WebP's; Pillow would load all of it
    try:
        if isinstance(image, JpegImagePlugin.JpegImageFile) and min(image.size) >= 2 * DRAFT_SIDE:
            image.draft("L", (DRAFT_SIDE, DRAFT_SIDE))
        image.load()
    except Exception:  # noqa: BLE001 - as above
        raise PictureError(DAMAGED, 400) from None
    if image.mode == "P" and image.palette is None:
        raise PictureError(DAMAGED, 400)
    if exif:
        turn = exif_orientation(exif)
    if turn in UPRIGHT:
        image.getexif()[ORIENTATION_TAG] = turn
    return image


def to_model_input(image: Image.Image, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Makes of any picture the one that the model sees: a light object on black that fills the frame.

    A picture that is grey, opaque and of the model's size already is returned unchanged, bit for bit. One
    without any contrast becomes all black.

    Args:
        image: of any size and mode; is not changed.
        size: height and width of the model's pictures.

    Returns:
        uint8 [H, W].

    Raises:
        PictureError: too many pixels, or pixels of a kind that has no grey (floating point).
    """
    _refuse_huge(image)
    # Area averages of n x n pixels: cheap, and all that follows costs the same for any picture.
    factor = max(image.size) // (WORK_FACTOR * max(size))
    grey, alpha = _grey_and_alpha(image, factor)
    if grey.shape == size and image.size == (size[1], size[0]) and alpha is None and _is_grey(image):
        return grey
    return _fit(_light_on_black(grey if alpha is None else _composite(grey, alpha)), size)


def _refuse_huge(image: Image.Image) -> None:
    limit = {"JPEG": MAX_JPEG_PIXELS, "WEBP": MAX_WEBP_PIXELS}.get(image.format or "", MAX_PIXELS)
    size = f"{image.width} × {image.height} pixels"  # noqa: RUF001 - the sign people know
    if image.width * image.height > limit:
        raise PictureError(f"The picture has {size}; the limit is {limit / MEGA:g} megapixels.", 400)
    if max(image.size) > MAX_SIDE:
        raise PictureError(f"The picture has {size}; the longest side allowed is {MAX_SIDE}.", 400)
    if not image.width or not image.height:
        raise PictureError("The picture has no pixels.", 400)


def _grey_and_alpha(image: Image.Image, factor: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]:
    """Upright grey levels uint8 [h, w], reduced by ``factor``; alpha alike, or None if all is opaque."""
    if image.mode == "F":
        raise PictureError("The picture's pixels are floating-point numbers: their white is unknown.", 415)
    orientation = _orientation(image)
    image = _reduce(image, factor) if factor > 1 else _grey(image)
    if orientation is not None:
        image = image.transpose(orientation)
    pixels = np.array(image)
    if pixels.ndim == 2:
        return pixels, None
    grey, alpha = pixels[..., 0], pixels[..., 1]
    return (grey, alpha) if alpha.min() < ALPHA_OPAQUE else (np.ascontiguousarray(grey), None)


def _grey(image: Image.Image) -> Image.Image:
    """In mode L, or LA where there is transparency."""
    if image.mode.startswith("I"):
        image = _scale_to_8_bits(image)
    if image.has_transparency_data:
        # By way of RGBA, since Pillow turns a transparent colour of a palette into alpha only there. Averages
        # of LA weigh each pixel by its alpha: what is invisible has no say.
        return image.convert("RGBA").convert("LA")
    return image if image.mode == "L" else image.convert("L")


def _reduce(image: Image.Image, factor: int) -> Image.Image:
    """Grey averages of ``factor`` x ``factor`` pixels.

    Tile by tile, to the same bits: as a whole, the steps between would take several times the picture's memory.
    """
    side = max(1, TILE // factor)  # of a tile's averages
    tiles = {}
    for top in range(0, -(-image.height // factor), side):
        for left in range(0, -(-image.width // factor), side):
            box = left, top, left + side, top + side
            right, bottom = (min(end * factor, size) for end, size in zip(box[2:], image.size, strict=True))
            tiles[left, top] = _grey(image.crop((left * factor, top * factor, right, bottom))).reduce(factor)
    reduced = Image.new(tiles[0, 0].mode, (-(-image.width // factor), -(-image.height // factor)))
    for place, tile in tiles.items():
        reduced.paste(tile, place)
    return reduced


def _orientation(image: Image.Image) -> Image.Transpose | None:
    try:
        return UPRIGHT.get(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 - a malformed EXIF block is no reason to refuse the picture
        return None


def _scale_to_8_bits(image: Image.Image) -> Image.Image:
    """16-bit grey, scaled; Pillow's own conversion would cut everything above 255 to white."""
    values = np.asarray(image).astype(np.int64).clip(0, 65535)
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))


def _is_grey(image: Image.Image) -> bool:
    if image.mode in ("1", "L", "LA") or image.mode.startswith("I"):
        return True
    red, green, blue = image.convert("RGB").split()
    return red.tobytes() == green.tobytes() == blue.tobytes()


def _composite(grey: npt.NDArray[np.uint8], alpha: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Lays a cut-out on white, or on black where it is so light itself that it would vanish on white."""
    weight = alpha.astype(np.float32) / ALPHA_OPAQUE
    visible = float(weight.sum())
    mean = float((grey * weight).sum()) / visible if visible else 0.0
    ground = 0 if mean >= NEARLY_WHITE else 255
    return (ground + (grey - np.float32(ground)) * weight + 0.5).astype(np.uint8)


def _light_on_black(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Subtracts the ground, which the border shows, and turns the object light; no contrast gives zeros."""
    border = np.concatenate((grey[0], grey[-1], grey[:, 0], grey[:, -1])).astype(np.float32)
    level = _median(border)
    residue = np.abs(border - level)
    # More than half of the border alike: a drawing or a catalogue picture. Else a photo, of a real table.
    ground, noise = np.array(level, np.float32), 0.0
    if _median(residue) > 0:
        ground, noise = _lit_ground(border, residue, grey.shape)
    departure = grey - ground
    # A light border means a dark object, and the other way round. On a grey ground the object itself decides;
    # squares let the garment outvote the slow shades of a table.
    darker = level > 127 if level < 64 or level >= 192 else float((departure * np.abs(departure)).sum()) < 0
    light = -departure if darker else departure
    if light.max() < MIN_CONTRAST:
        # Nothing on the side that was expected: white on nearly white is still a garment.
        light = -light
    shown = np.count_nonzero(light >= max(MIN_CONTRAST, NOISE_WIDTHS * noise))
    if shown <= SPECKS * grey.size:
        return np.zeros_like(grey)
    light[light < NOISE_WIDTHS * noise] = 0
    return (light.clip(0, 255) + 0.5).astype(np.uint8)


def _lit_ground(
    border: npt.NDArray[np.float32], residue: npt.NDArray[np.float32], shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.float32], float]:
    """The plane of light that fits the border best, float32 [h, w], and the noise about it in grey levels."""
    height, width = shape
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    places = np.ones((border.size, 3), np.float32)  # 1, x and y of a pixel: top, bottom, left, right
    places[:, 1] = np.concatenate((x, x, np.full(height, -1), np.full(height, 1)))
    places[:, 2] = np.concatenate((np.full(width, -1), np.full(width, 1), y, y))
    # Twice: the second time without what the first shows to be no ground.
    kept = residue <= MAX_SHADE
    for _ in range(2):
        plane = np.linalg.lstsq(places[kept], border[kept], rcond=None)[0]
        residue = np.abs(border - places @ plane)
        noise = 1.5 * _median(residue)
        kept = residue <= max(NOISE_WIDTHS * noise, 1.0)
    return plane[0] + plane[1] * x[None, :] + plane[2] * y[:, None], noise


def _median(values: npt.NDArray[np.float32]) -> float:
    middle = values.size // 2
    return float(np.partition(values, middle)[middle])  # at a third of np.median's cost


def _fit(light: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Crops to the object, scales it into the frame, aspect ratio kept, centres it, stretches it to 255."""
    canvas = np.zeros(size, np.uint8)
    mask = light > int(light.max()) * OBJECT_SHARE
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return canvas
    crop = light[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = min(size[0] / crop.shape[0], size[1] / crop.shape[1])
    height, width = (max(1, round(n * scale)) for n in crop.shape)
    # Shrinking averages areas; enlarging that way would give blocks.
    method = Image.Resampling.BOX if scale <= 1 else Image.Resampling.BICUBIC
    fitted = np.asarray(Image.fromarray(crop).resize((width, height), method))
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    # The brightest pixel of nearly every picture that the model learnt from is 255.
    stretched = (fitted * np.float32(255 / max(1, int(fitted.max()))) + 0.5).astype(np.uint8)
    canvas[top : top + height, left : left + width] = stretched
    return canvas
