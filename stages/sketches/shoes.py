"""Sneakers, ankle boots and sandals, seen from the side, the toe on the left."""

from itertools import pairwise

from stages.sketches.pen import Pen, Point, arc


def sneaker(pen: Pen, _label: int) -> None:
    """A flat shoe with laces, stripes and a sole of its own tone."""
    u, chance = pen.between, pen.chance
    pen.lower(0.6)
    toe, sole, spring, high = u(0.1, 0.17), u(0.04, 0.09), u(0.0, 0.03), u(0.24, 0.38)
    if chance(0.07):
        high = u(0.36, 0.48)
    tongue, vamp, back = u(0.05, 0.22), u(-0.25, -0.12), u(0.43, 0.5)
    dip = ((tongue + back) / 2, -high * u(0.35, 0.75))
    upper = [(-0.5, -0.02), (-0.5, -toe * 0.7), (-0.4, -toe * 1.1), (vamp, -toe * u(1.2, 1.5))]
    upper += [(tongue - 0.04, 0.03 - high), (tongue, -high), (tongue + 0.06, 0.01 - high), dip]
    upper += [(back - 0.03, u(0, 0.06) - high), (back, 0.05 - high), (back - 0.02, -high * 0.5), (0.5, 0.0)]
    pen.fill(upper, pen.near(0), 2)
    for _ in range(int(u(0, 4))):
        x, w = u(-0.2, 0.4), u(-0.2, 0.2)
        stripe = [(x, -0.02), (x + w * 0.5, -high * 0.3), (x + w, -high * u(0.4, 0.7))]
        pen.line(stripe, (20, 140), (0.015, 0.06))
    if chance(0.7):
        lace, count = pen.accent(30, 140), int(u(3, 7))
        for i in range(count):
            x, y = vamp + (tongue - vamp) * i / count, -toe * 1.4 - (high - toe * 1.4) * i / count
            pen.line([(x, y), (x + u(0.04, 0.1), y + 0.05)], lace, (0.012, 0.025))
    pen.line([(tongue, 0.02 - high), dip, (back, 0.05 - high)], (20, 90), 0.025, 0.6)
    base = [(-0.5, -spring - 0.03), (-0.3, -0.02), (0.5, -u(0.0, 0.05)), (0.49, sole), (-0.35, sole)]
    base.append((-0.47, sole * 0.6 - spring))
    pen.fill(base, pen.accent(10, 150) if chance(0.75) else pen.near(15))
    pen.line([(-0.45, sole - spring), (-0.3, sole), (0.48, sole)], (20, 150), 0.025, 0.6)


def _heel(pen: Pen, rise: float, back: float, tone: int) -> None:
    """A heel under the back of a shoe, from a needle to a block."""
    u = pen.between
    top = [(back - u(0.1, 0.25), -rise - 0.05), (back, -rise - 0.09)]
    pen.fill([*top, (back - u(0, 0.03), 0.04), (back - u(0.03, 0.22), 0.04)], tone)


def boot(pen: Pen, _label: int) -> None:
    """A shaft over the ankle or higher, on a heel of any height."""
    u, chance = pen.between, pen.chance
    pen.lower(0.85)
    rise = u(0.0, 0.07) if chance(0.6) else u(0.08, 0.28)
    high = (u(0.38, 0.55) if chance(0.5) else u(0.5, 0.75)) + rise * 0.8
    if chance(0.1):
        high = u(0.75, 0.95)
    toe, back = u(0.1, 0.19), u(0.38, 0.5)
    front = back - (u(0.35, 0.6) if high < 0.5 else u(0.28, 0.5))
    bend = (high - rise * 0.6) * u(0.25, 0.55) - high
    upper = [(-0.5, -0.03), (-0.49, -toe * 0.6), (-0.38, -toe * 1.1), (-0.22, -toe * 1.4 - rise * 0.3)]
    upper += [(front - u(0.0, 0.1), bend + 0.06), (front + u(-0.02, 0.04), bend - 0.06)]
    upper += [(front + u(-0.05, 0.05), -high), (front + 0.05, -high), (back - 0.02, u(-0.05, 0.05) - high)]
    upper += [(back - u(0, 0.04), 0.05 - high), (back - u(0, 0.06), -0.25 - rise), (back, -0.1 - rise)]
    upper += [(back, -rise), (back - 0.2, 0.01 - rise * 0.8), (-0.05, -rise * 0.1), (-0.3, 0)]
    pen.fill(upper, pen.near(0), 2)
    sole = pen.accent(10, 110) if chance(0.7) else pen.near(10)
    _heel(pen, rise, back, sole)
    pen.line([(-0.46, 0), (-0.1, 0.01), (back - 0.2, -rise * 0.8)], sole, (0.015, 0.06))
    for _ in range(int(u(0, 4))):
        y = u(0.03 - high, -0.2 - rise)
        strap = [(front, y + u(-0.03, 0.05)), ((front + back) / 2, y), (back - 0.03, y + u(-0.03, 0.03))]
        pen.line(strap, (15, 90), (0.012, 0.04))
    pen.line([(front - 0.02, 0.01 - high), (back - 0.02, 0.01 - high)], (10, 110), (0.02, 0.08), 0.4)


def sandal(pen: Pen, _label: int) -> None:
    """A foot bed, flat or raised, with straps, or closed with windows cut out."""
    u, chance, tone = pen.between, pen.chance, pen.near(0)
    pen.lower(0.8)
    rise, sole = u(0.15, 0.55) if chance(0.5) else u(0.0, 0.08), u(0.025, 0.08)
    run = [(-0.5, -0.01), (-0.3, 0.0), (-0.1, -rise * 0.12), (0.2, -rise * 0.65), (0.35, -rise), (0.5, -rise - 0.02)]

    def at(x: float, up: float = 0.0) -> Point:
        """The place `up` above the foot bed at `x`."""
        (x0, y0), (x1, y1) = next(pair for pair in pairwise(run) if x <= pair[1][0])
        return x, y0 + (y1 - y0) * (x - x0) / (x1 - x0) - up

    bed = [*run, *((x, y + sole) for x, y in reversed(run))]
    if chance(0.35 if rise > 0.1 else 0.2):
        pen.fill([*run, (0.47, sole), (-0.45, sole)], pen.accent(10, 90))
    elif rise > 0.1:
        _heel(pen, rise, 0.48, pen.near(50))
    pen.fill(bed, pen.near(60))
    if chance(0.35):  # a closed upper with windows cut out of it
        h, k = u(0.08, 0.15), u(0.12, 0.32)
        upper = [at(-0.48), at(-0.4, h), at(-0.15, h * u(1.2, 1.8)), at(u(0.0, 0.2), k), at(0.3, k * u(0.7, 1.1))]
        pen.fill([*upper, at(0.48, k * u(0.7, 1.0)), at(0.5)], pen.near(20), 1)
        x, step, tilt = u(-0.4, -0.3), u(0.1, 0.2), u(-0.1, 0.15)
        while x < 0.35:
            w, (_, y) = step * u(0.35, 0.75), at(x, sole * 0.3)
            pen.fill([(x, y), (x + tilt, y - k * 0.8), (x + tilt + w, y - k * 0.8), at(x + w, sole * 0.3)], 0)
            x += step
        pen.fill(bed, pen.near(60))
        return
    for _ in range(int(u(1, 4))):
        a, wide = u(-0.48, -0.1), u(0.05, 0.35)
        top = at(a + wide * u(0.1, 0.9), u(0.16, 0.42))
        pen.line(arc(at(a), top, at(a + wide)), pen.near(40), (0.02, 0.09))
    back, h, w, x = u(0.4, 0.48), u(0.1, 0.34), u(0.02, 0.07), u(-0.05, 0.25)
    ankle, a = at(0.45, h)[1], u(-0.35, 0.0)
    if chance(0.45):
        pen.line(arc(at(a), at(a + 0.1, h), (x, ankle + u(-0.05, 0.08))), pen.near(40), (0.02, 0.08))
    if chance(0.7):
        pen.line(arc(at(back), (back + u(-0.05, 0.05), ankle + h * 0.4), (back - u(0.0, 0.06), ankle)), tone, w)
        strap = arc((back - 0.02, ankle), (0.3, ankle + u(-0.06, 0.08)), (x, ankle + u(-0.04, 0.12)))
        pen.line(strap, tone, w)
        if chance(0.3):
            pen.fill([at(0.3), (0.38, ankle + h * 0.3), (back, ankle), at(0.49)], tone, 1)
