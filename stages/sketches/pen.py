"""The pen that sketches are drawn with, and what several classes draw with it: prints, badges, curves."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

Point = tuple[float, float]
Range = tuple[float, float]

SCALE = 4  # how many times larger a picture is drawn than it is handed out
FAINT: Range = (0.01, 0.03)  # the widths of a seam


class Pen:
    """One sheet of paper and one stream of chance: every class draws through this.

    Places are in units of about a garment's length: x is 0 in the middle, y is 0 near the top, growing down.
    Tones are 1 to 255; 0 is the empty sheet.
    """

    def __init__(self, size: int, dark: float, rng: np.random.Generator) -> None:
        self.rng = rng
        self._pool: list[float] = []
        self.side = SCALE * size
        self._unit, self._left, self._top = self.side * 0.72, self.side * 0.5, self.side * 0.22
        self.sheet = Image.new("L", (self.side, self.side))
        self.ink = ImageDraw.Draw(self.sheet)
        self._shear, self._tilt = self.between(-0.04, 0.04), self.between(-0.05, 0.05)
        self.tone = self.between(160, 240) if self.chance(dark) else self.between(25, 190)

    def between(self, low: float, high: float) -> float:
        if not self._pool:  # one call for many numbers: a call for each would take most of the time
            self._pool = self.rng.random(128).tolist()
        return low + (high - low) * self._pool.pop()

    def chance(self, odds: float) -> bool:
        return self.between(0, 1) < odds

    def lower(self, by: float) -> None:
        """Move y = 0 down, to the ground that a shoe stands on."""
        self._top += by * self._unit

    def near(self, by: float) -> int:
        """A tone within `by` of the garment's own."""
        return round(min(255, max(12, self.tone + self.between(-by, by))))

    def accent(self, low: float, high: float) -> int:
        """A tone set off from the garment's: on a negative, pale cloth is dark and its shadows are light."""
        by = self.between(low, high)
        up = self.chance(0.85 if self.tone < 110 else 0.3 if self.tone > 185 else 0.55)
        tone = self.tone + by if up else self.tone - by
        return round(min(255, max(12, tone if 12 <= tone <= 255 else 2 * self.tone - tone)))

    def _places(self, points: Sequence[Point]) -> list[float]:
        unit, left, top, shear, tilt = self._unit, self._left, self._top, self._shear, self._tilt
        return [at for x, y in points for at in (left + (x + shear * y) * unit, top + (y + tilt * x) * unit)]

    def fill(self, points: Sequence[Point], tone: int, smooth: int = 0) -> None:
        """Fill an outline; each step of `smooth` cuts its corners a quarter of the way in (Chaikin)."""
        for _ in range(smooth):
            ends = zip([points[-1], *points[:-1]], points, strict=True)
            cut = (((3 * a + c) / 4, (3 * b + d) / 4, (a + 3 * c) / 4, (b + 3 * d) / 4) for (a, b), (c, d) in ends)
            points = [point for a, b, c, d in cut for point in ((a, b), (c, d))]
        self.ink.polygon(self._places(points), fill=tone)

    def mirror(self, half: Sequence[Point], tone: int, smooth: int = 0) -> None:
        """Fill an outline given by its right half, from the top down."""
        self.fill([*half, *((-x, y) for x, y in reversed(half))], tone, smooth)

    def line(self, points: Sequence[Point], tone: int | Range, wide: float | Range, odds: float = 1.0) -> None:
        """Draw a line with these odds; of a random accent and width where ranges are given."""
        if odds < 1 and not self.chance(odds):
            return
        tone = tone if isinstance(tone, int) else self.accent(*tone)
        wide = self.between(*wide) if isinstance(wide, tuple) else wide
        self.ink.line(self._places(points), tone, max(1, round(wide * self._unit)))

    def sides(self, points: Sequence[Point], tone: int | Range, wide: Range, odds: float = 1.0) -> None:
        """The same line on the right and, mirrored, on the left."""
        if self.chance(odds):
            tone, width = tone if isinstance(tone, int) else self.accent(*tone), self.between(*wide)
            self.line(points, tone, width)
            self.line([(-x, y) for x, y in points], tone, width)

    def spot(self, x: float, y: float, w: float, h: float, tone: int, disc: bool = False) -> None:
        draw = self.ink.ellipse if disc else self.ink.rectangle
        draw(self._places([(x - w, y - h), (x + w, y + h)]), fill=tone)


def pattern(pen: Pen, length: float, kind: float) -> None:
    """Stripes, checks, spots or a print over what is drawn already, by `kind` from 0 to 1 (and round again)."""
    paper, inside, plain = pen.sheet.copy(), pen.sheet.point([0] + [255] * 255), pen.ink
    pen.ink = ImageDraw.Draw(paper)
    u, tone, kind = pen.between, pen.accent(30, 160), kind % 1
    step, cover = u(0.05, 0.16), u(0.25, 0.6)
    for i in range(int(1.2 / step)):
        at = i * step + u(0.0, 0.01)
        if kind < 0.42:
            pen.line([(-0.6, at), (0.6, at)], tone, step * cover)
        if 0.25 < kind < 0.55:
            pen.line([(at - 0.5, 0), (at - 0.5, length)], tone, step * cover * 0.7)
    if kind > 0.75:  # flowers, leaves, camouflage: a random field cut off at a level
        count, level = int(u(8, 26)), int(u(110, 175))
        field = Image.frombytes("L", (count, count), pen.rng.bytes(count * count))
        field = field.resize(paper.size, Image.Resampling.BICUBIC)
        paper.paste(tone, mask=field.point([0] * level + [255] * (256 - level)))
    elif kind > 0.55:
        r, tones = u(0.01, 0.05), (tone, pen.accent(40, 160), pen.accent(20, 80))
        for i in range(int(u(0.28, 0.7) / (r + 0.01))):
            w, h = r * u(0.4, 1.2), r * u(0.4, 1.2)
            pen.spot(u(-0.4, 0.4), u(0, length), w, h, tones[i % 3], disc=kind < 0.67)
    pen.ink = plain
    pen.sheet.paste(paper, mask=inside)


def badge(pen: Pen, half: float, y: float) -> None:
    """A small mark, a block or a disc, or lines of lettering."""
    u, kind, tone = pen.between, pen.between(0, 1), pen.accent(40, 170)
    if kind < 0.25:
        pen.spot(u(-0.6, 0.6) * half, y - u(0, 0.08), u(0.015, 0.05), u(0.01, 0.04), tone)
        return
    w, y = u(0.3, 0.75) * half, y + u(-0.08, 0.08)
    if kind < 0.5:
        pen.spot(0.0, y, w, u(0.04, 0.16), tone, disc=kind > 0.35)
        tone = pen.accent(30, 150)
    for row in range(int(u(1, 5))):
        x = -w
        while x < w * 0.9:
            step = u(0.02, 0.09)
            pen.spot(x + step * 0.4, y - 0.06 + row * 0.06, step * u(0.2, 0.45), u(0.01, 0.025), tone)
            x += step


def arc(start: Point, pull: Point, end: Point) -> list[Point]:
    """Points along the quadratic curve that leaves `start` for `pull` and comes into `end`."""
    weights = [((1 - t) * (1 - t), 2 * t * (1 - t), t * t) for t in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]
    return [(p * start[0] + q * pull[0] + r * end[0], p * start[1] + q * pull[1] + r * end[1]) for p, q, r in weights]
