"""The reliability diagram as SVG: how often the model is right, against how sure it says it is.

Its colours are variables of the style sheet, so that it suits the light and the dark page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.evaluation import CURVES, Point

SIDE, LEFT, TOP = 300, 60, 10  # in units of the drawing
LEGEND = {
    "calibrated": "the model as it is here",
    "uncalibrated": "the same before its percentages were corrected",
    "ideal": "percentages that are exactly right",
}


def reliability(curves: Mapping[str, Sequence[Point]]) -> str:
    """The diagram with its legend; a screen reader is told the calibrated curve point by point."""
    told = "; ".join(
        f"says {p.confidence:.0%}, right {p.accuracy:.0%} of {p.pictures:,}" for p in curves["calibrated"] if p.pictures
    )
    grid = "".join(
        f'<line x1="{_x(t)}" y1="{_y(0)}" x2="{_x(t)}" y2="{_y(1)}"/><line x1="{_x(0)}" y1="{_y(t)}" x2="{_x(1)}" '
        f'y2="{_y(t)}"/><text x="{_x(t)}" y="{_y(0) + 18}" class="below">{t:.0%}</text>'
        f'<text x="{LEFT - 8}" y="{_y(t) + 4}" class="left">{t:.0%}</text>'
        for t in (0, 0.25, 0.5, 0.75, 1)
    )
    drawing = (
        f'<svg viewBox="0 0 {LEFT + SIDE + 22} {TOP + SIDE + 44}" role="img" aria-labelledby="curve-title curve-told">'
        '<title id="curve-title">How often the model is right, against how sure it says it is</title>'
        f'<desc id="curve-told">Pictures by how sure the model is: {told}.</desc><g class="grid">{grid}'
        f'<text x="{_x(0.5)}" y="{_y(0) + 38}" class="below">how sure it says it is</text>'
        f'<text transform="translate(12 {_y(0.5)}) rotate(-90)" class="below">how often it is right</text></g>'
        f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" class="ideal"/>'
        f"{''.join(_curve(key, curves[key]) for key in reversed(CURVES))}</svg>"
    )
    key = '<svg viewBox="0 0 30 10" aria-hidden="true"><line x1="1" y1="5" x2="29" y2="5" class="{}"/></svg>'
    legend = "".join(f"<li>{key.format(name)}{words}</li>" for name, words in LEGEND.items())
    return f"<figure>{drawing}<figcaption><ul>{legend}</ul></figcaption></figure>"


def _x(share: float) -> float:
    return round(LEFT + SIDE * share, 1)


def _y(share: float) -> float:
    return round(TOP + SIDE * (1 - share), 1)


def _curve(name: str, points: Sequence[Point]) -> str:
    most = max((p.pictures for p in points), default=1) or 1
    line = " ".join(f"{_x(p.confidence)},{_y(p.accuracy)}" for p in points)
    dots = "".join(
        f'<circle cx="{_x(p.confidence)}" cy="{_y(p.accuracy)}" r="{2 + 5 * (p.pictures / most) ** 0.5:.1f}"/>'
        for p in points
    )
    return f'<g class="{name}"><polyline points="{line}"/>{dots}</g>'
