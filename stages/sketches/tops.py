"""Upper garments: T-shirts, pullovers, dresses, coats and shirts are one drawing, cut in many ways."""

import math
from itertools import accumulate
from typing import NamedTuple

from stages.sketches.pen import FAINT, Pen, Point, Range, badge, pattern


class Cut(NamedTuple):
    """How an upper garment is cut: lengths as shares of its height, widths from the middle outwards."""

    share: float  # of its class
    odds: dict[str, float]  # of each detail; `_USUAL` has the rest
    length: Range = (0.93, 1.0)
    slope: Range = (0.05, 0.11)  # how far the shoulders fall
    shoulder: Range = (0.25, 0.31)
    chest: Range = (0.18, 0.24)
    waist: Range = (0.88, 1.02)  # times the chest, like the hem
    middle: Range = (0.45, 0.65)  # how far down the waist is
    hem: Range = (0.92, 1.1)
    curve: Range = (-0.02, 0.03)  # how far the hem's middle hangs below its ends
    neck: Range = (0.09, 0.15)
    drop: Range = (0.03, 0.11)
    sleeve: Range = (0.0, 0.0)
    lean: Range = (0.03, 0.28)  # the upper arm's angle from straight down
    cuff: Range = (0.08, 0.13)


_USUAL = {"pattern": 0.2, "lined": 0.8, "pleats": 0.2}
# Prints by class, see `_pattern`: shirts are rarely striped across, T-shirts and pullovers rarely checked.
_PRINTS: dict[int, Range] = {0: (0.55, 1.25), 2: (0.55, 1.25), 6: (0.22, 1.0)}
_LONG, _SHORT, _WIDE, _BROAD = (0.76, 0.95), (0.17, 0.33), (0.13, 0.19), (0.2, 0.28)
_KNIT = {"length": (0.81, 0.98), "sleeve": _LONG}
_JACKET = {"length": (0.78, 0.98), "slope": (0.08, 0.16), "shoulder": (0.23, 0.3), "sleeve": _LONG}
_DRESS = {"waist": (0.76, 1.02), "middle": (0.36, 0.5), "chest": (0.13, 0.19), "neck": (0.06, 0.11)}
_GOWN = {"pattern": 0.35, "belt": 0.3, "pleats": 0.4, "lined": 0.5}
# fmt: off
_CUTS: dict[int, tuple[Cut, ...]] = {
    0: (
        Cut(0.78, {"badge": 0.5, "rib": 0.05, "collar": 0.05, "pleats": 0.12}, chest=_BROAD, cuff=_WIDE,
             shoulder=(0.24, 0.31), sleeve=_SHORT, lean=(0.15, 0.75)),
        Cut(0.1, {"lined": 0.3, "badge": 0.25}, chest=(0.18, 0.26), shoulder=(0.14, 0.22),
             neck=(0.08, 0.16), drop=(0.06, 0.25)),
        Cut(0.06, {"straps": 1.0, "badge": 0.1}, hem=(0.95, 1.3)),
        Cut(0.06, {"badge": 0.2, "pattern": 0.3}, sleeve=(0.4, 0.8)),
    ),
    2: (
        Cut(0.69, {"stand": 0.25, "rib": 0.5, "badge": 0.3}, drop=(0.02, 0.09), **_KNIT),
        Cut(0.1, {"rib": 0.5}, drop=(0.12, 0.28), **_KNIT),
        Cut(0.16, {"rib": 0.5, "badge": 0.3, "hood": 1.0, "pockets": 0.5}, **_KNIT),
        Cut(0.05, {"rib": 0.4}, sleeve=(0.4, 0.7), lean=(0.1, 0.4)),
    ),
    3: (
        Cut(0.38, _GOWN, shoulder=(0.15, 0.23), hem=(0.85, 1.4), sleeve=(0.08, 0.22), lean=(0.2, 0.7), **_DRESS),
        Cut(0.22, _GOWN, shoulder=(0.11, 0.19), hem=(0.8, 1.7), drop=(0.04, 0.15), **_DRESS),
        Cut(0.15, {**_GOWN, "straps": 1.0}, hem=(0.8, 1.9), **_DRESS),
        Cut(0.25, _GOWN, shoulder=(0.16, 0.23), hem=(0.85, 1.5), sleeve=(0.35, 0.65), cuff=(0.06, 0.1), **_DRESS),
    ),
    4: (
        Cut(0.54, {"collar": 0.5, "stand": 0.6, "zip": 0.9, "pockets": 0.5, "rib": 0.3, "hood": 0.3,
                    "pattern": 0.1}, **_JACKET),
        Cut(0.26, {"collar": 0.4, "zip": 0.6, "buttons": 0.4, "pockets": 0.5, "belt": 0.2,
                    "pattern": 0.1}, chest=(0.17, 0.23), hem=(0.95, 1.3),
             **{**_JACKET, "length": (0.93, 1.0), "shoulder": (0.19, 0.26), "sleeve": (0.55, 0.74)}),
        Cut(0.2, {"stand": 0.4, "collar": 0.3, "buttons": 0.4, "zip": 0.5, "pockets": 0.5,
                   "pattern": 0.12}, **_JACKET),
    ),
    6: (
        Cut(0.45, {"collar": 0.9, "buttons": 0.85, "pockets": 0.25, "pattern": 0.35}, (0.88, 1.0), slope=(0.07, 0.13),
             neck=(0.07, 0.12), sleeve=(0.76, 0.92), curve=(0.0, 0.06)),
        Cut(0.18, {"pattern": 0.4, "buttons": 0.25, "collar": 0.15, "pleats": 0.5}, (0.9, 1.0),
             sleeve=(0.6, 0.85), lean=(0.04, 0.4), cuff=(0.09, 0.16), drop=(0.04, 0.2), hem=(1.0, 1.3)),
        Cut(0.14, {"collar": 0.85, "buttons": 0.85, "pattern": 0.5, "pockets": 0.3}, chest=_BROAD,
             sleeve=_SHORT, lean=(0.25, 0.6), cuff=_WIDE),
        Cut(0.11, {"pattern": 0.5, "pleats": 0.6}, chest=_BROAD, hem=(0.95, 1.25),
             sleeve=(0.1, 0.4), lean=(0.2, 0.7), cuff=_WIDE),
        Cut(0.12, {"pattern": 0.4, "collar": 0.2, "buttons": 0.3, "pleats": 0.4, "straps": 0.2},
             shoulder=(0.17, 0.28), chest=_BROAD, hem=(0.95, 1.3), drop=(0.06, 0.2)),
    ),
}
# fmt: on


def upper(pen: Pen, label: int) -> None:
    """Any upper garment: one of the cuts of its class, with the details that chance gives it."""
    u, roll = pen.between, pen.between(0, 1)
    ends = accumulate(cut.share for cut in _CUTS[label])
    cut = next((cut for cut, end in zip(_CUTS[label], ends, strict=True) if roll < end), _CUTS[label][-1])
    on = {name for name, odds in {**_USUAL, **cut.odds}.items() if pen.chance(odds)}
    length, chest, shoulder, sleeve = u(*cut.length), u(*cut.chest), u(*cut.shoulder), u(*cut.sleeve)
    waist, hem, neck = chest * u(*cut.waist), chest * u(*cut.hem), min(u(*cut.neck), shoulder * 0.75)
    slope, armpit, drop, seam = u(*cut.slope), u(0.25, 0.36), u(*cut.drop), pen.accent(10, 80)
    body = [(neck, 0.0), (shoulder, slope), (chest, armpit), (waist, length * u(*cut.middle)), (hem, length)]
    body.append((hem * 0.5, length + u(*cut.curve)))
    if "straps" in on:
        wide, armpit = chest * u(0.4, 0.9), u(0.08, 0.24)
        pen.sides([(wide, armpit), (wide * u(0.7, 1.0), 0.0)], pen.near(20), (0.015, 0.05))
        body[:3] = [(0.01, armpit - u(-0.02, 0.06)), (wide, armpit - u(0.02, 0.08)), (chest, armpit)]
    elif sleeve == 0 and pen.chance(0.7):
        body.insert(2, (shoulder * u(0.85, 1.0), (slope + armpit) / 2))
    if "hood" in on:
        wide, high = u(1.1, 1.8), u(0.02, 0.1)
        pen.mirror([(neck * 0.7, -high), (neck * wide, -high * 0.4), (neck * wide, 0.08)], pen.near(50), 1)
    over = pen.chance(0.5)  # the sleeves lie over the body or under it
    if over:
        pen.mirror(body, pen.near(0))
    if sleeve:
        _sleeves(pen, sleeve, u(*cut.lean), u(*cut.cuff), body[:3], seam if over else None)
    if not over:
        pen.mirror(body, pen.near(0))
    if "pattern" in on:
        pattern(pen, length, u(*_PRINTS.get(label, (0, 1))))
    if sleeve:
        pen.sides(body[1:4] if pen.chance(0.5) else body[2:5], seam, (0.01, 0.035), 0.75)
    for _ in range(int(u(2, 8)) if "pleats" in on else 0):
        x = u(-0.8, 0.8)
        pen.line([(x * waist, u(0.2, 0.6)), (x * hem, length * u(0.8, 1.0))], (8, 50), FAINT)
    if "badge" in on:
        badge(pen, chest, 0.3)
    if "straps" not in on:
        _neck(pen, on, neck, drop)
    _front(pen, on, drop, waist, length, seam)
    if "rib" in on:
        pen.line([(-hem, length - 0.01), (hem, length - 0.01)], seam, (0.03, 0.07))


def _sleeves(pen: Pen, sleeve: float, lean: float, cuff: float, top: list[Point], edge: int | None) -> None:
    """Two sleeves from the shoulders; the long ones bend at the elbow and hang down from there."""
    u, long, (neck, shoulder, armpit) = pen.between, sleeve > 0.4, top
    tone = pen.near(20 if pen.chance(0.85) else 120)
    ball, bend, full = (u(0.0, 0.025), u(-0.3, 0.9), u(1.0, 1.3)) if long else (0.0, 1.0, 1.0)
    for side in (-1, 1):
        tilt, reach = lean + u(-0.05, 0.05), sleeve * u(0.48, 0.52)
        across, down, fore, below = math.sin(tilt), math.cos(tilt), math.sin(tilt * bend), math.cos(tilt * bend)
        ex, ey = shoulder[0] + reach * across, shoulder[1] + reach * down
        ox, oy = ex + reach * fore, ey + reach * below
        ix, iy = ox - cuff * below, oy + cuff * fore
        outer = [(shoulder[0] + ball, shoulder[1] + 2 * ball), (ex, ey), (ox, oy)]
        inner = [(ix, iy), (ex - cuff * full * down, ey + cuff * across), (armpit[0] - 0.01, armpit[1])]
        if not long:
            del outer[1], inner[1]
        outer, inner = [(side * x, y) for x, y in outer], [(side * x, y) for x, y in inner]
        start = [(side * neck[0], shoulder[1] * 0.5), (side * shoulder[0], shoulder[1])]
        pen.fill([*start, *outer, *inner], tone)
        if edge is not None:
            pen.line(inner, edge, FAINT)
        pen.line([outer[-1], inner[0]], (10, 80), (0.02, 0.06), 0.3)


def _neck(pen: Pen, on: set[str], neck: float, drop: float) -> None:
    u = pen.between
    edge = [(neck, 0.0), (neck * u(0.4, 0.85), drop * u(0.5, 0.9)), (0.0, drop)]
    pen.mirror([(0.0, -0.03), (neck, -0.03), *edge], 0)
    if "lined" in on:
        back = u(-0.02, 0.01) if pen.chance(0.7) else drop * u(0.2, 0.6)
        pen.mirror([(0.0, back), (neck * 0.6, back), *edge], pen.accent(5, 90))
    if "collar" in on:
        tone, tip, stand = pen.accent(10, 130), drop * 0.6 + u(0.03, 0.08), u(0.0, 0.07)
        if pen.chance(0.75):
            pen.mirror([(neck * 0.7, -stand), (neck, 0.01), (0.0, drop * 0.7)], pen.accent(10, 120))
        flap = [(neck * 0.7, -stand), (neck * 1.15, 0.03), (neck * u(0.5, 1.0), tip), (0.0, drop * 0.8)]
        pen.fill(flap, tone)
        pen.fill([(-x, y) for x, y in flap], tone)
    elif "stand" in on:
        high, wide, tone = u(0.02, 0.08), neck * u(0.75, 1.1), pen.near(30) if pen.chance(0.6) else pen.accent(10, 80)
        pen.mirror([(wide * 0.9, -high), (wide, 0.02), (0.0, drop * 0.5 + 0.01)], tone)
    else:
        pen.line([(-x, y) for x, y in edge] + edge[::-1], (10, 70), (0.015, 0.05), 0.65)


def _front(pen: Pen, on: set[str], drop: float, waist: float, length: float, seam: int) -> None:
    u, x = pen.between, pen.between(-0.025, 0.025)
    if "zip" in on:
        opening = pen.accent(6, 110) if pen.chance(0.93) else 0
        pen.line([(x, drop), (x + u(-0.015, 0.015), length)], opening, (0.008, 0.035))
    if "buttons" in on:
        end, x, count = length if pen.chance(0.85) else drop + 0.2, u(-0.02, 0.02), int(u(5, 10))
        pen.line([(x - 0.02, drop), (x - 0.02, end)], (5, 60), (0.008, 0.02), 0.7)
        tone, r = pen.accent(10, 120), u(0.007, 0.02)
        for i in range(count):
            pen.spot(x, drop + 0.04 + i * (length - drop - 0.05) / count, r, r, tone, disc=True)
    if "pockets" in on:
        y, near, tilt = u(0.5, 0.72) * length if pen.chance(0.75) else u(0.28, 0.4), u(0.3, 0.5), u(-0.03, 0.1)
        pen.sides([(waist * near, y), (waist * (near + u(0.25, 0.45)), y + tilt)], seam, (0.012, 0.03))
    if "belt" in on:
        y = u(0.3, 0.5)
        pen.line([(-waist, y), (waist, y)], (25, 110), (0.015, 0.05))
