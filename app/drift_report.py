"""The tab "Drift" as HTML: each feature's way through the last windows, as small drawings."""

from __future__ import annotations

from collections.abc import Sequence

from app.monitor import Monitor

WIDTH, HEIGHT, TOP = 320, 60, 1.5  # of a drawing; the highest ratio drawn, where 1 is the threshold
WORDS = {
    "brightness": "how light the pictures are",
    "contrast": "how far light and dark lie apart",
    "sharpness": "how crisp their edges are",
    "ink": "how much of them the garment fills",
    "confidence": "how sure the model is",
    "label set size": "how long its shortlists are",
    "class shares": "how often it names each kind",
    "features": "what the network sees in them",
}


def render(monitor: Monitor | str) -> str:
    """The tab; without a monitor, the sentence that says why."""
    if isinstance(monitor, str):
        return f'<div class="report"><h2>Is it still the same kind of picture?</h2><p>{monitor}</p></div>'
    state = monitor.state()
    windows = state["windows"]
    heading = (
        "<h2>Is it still the same kind of picture?</h2><p class='lead'>After every "
        f"{state['window']:,} pictures the app compares them with {state['validation_pictures']:,} that the model was "
        "checked on. Where they lie too far apart, its answers deserve less trust.</p>"
    )
    if not windows:
        waiting = state["window"] - state["pictures_waiting"]
        return (
            f'<div class="report">{heading}<p>Nothing to compare yet: {waiting:,} more pictures are wanted.</p></div>'
        )
    last = windows[-1]
    verdict = (
        f"<p role='status'><strong>They have changed</strong>: {', '.join(WORDS[name] for name in last['alarms'])}.</p>"
        if state["alarm"]
        else "<p role='status'><strong>No change</strong> in the last pictures.</p>"
    )
    body = "".join(
        f'<tr><th scope="row">{name} <small>{words}</small></th><td>{last["ratios"][name]:.2f}</td>'
        f"<td>{line(name, [window['ratios'][name] for window in windows])}</td></tr>"
        for name, words in WORDS.items()
    )
    return (
        f"<div class='report'>{heading}{verdict}<div class='scroll' role='region' tabindex='0' aria-label='Drift'>"
        f"<table class='drift'><caption>Distance from the pictures it was checked on; 1 is the limit, which fewer than "
        "one in a thousand clean comparisons pass</caption><thead><tr><th scope='col'>What</th><th scope='col'>Now</th>"
        f"<th scope='col'>The last {len(windows):,}, the newest on the right</th></tr></thead>"
        f"<tbody>{body}</tbody></table></div></div>"
    )


def line(name: str, ratios: Sequence[float]) -> str:
    """A feature's way through windows as SVG, with the threshold as a straight line; at least one ratio."""
    step = WIDTH / max(1, len(ratios) - 1)

    def y(ratio: float) -> float:
        return round(HEIGHT * (1 - min(ratio, TOP) / TOP), 1)

    points = " ".join(f"{i * step:.1f},{y(ratio)}" for i, ratio in enumerate(ratios))
    dots = "".join(
        f'<circle cx="{i * step:.1f}" cy="{y(ratio)}" r="3"/>' for i, ratio in enumerate(ratios) if ratio > 1
    )
    if len(ratios) == 1:
        dots = f'<circle cx="0" cy="{y(ratios[0])}" r="3"/>'
    return (
        f'<svg viewBox="-4 -4 {WIDTH + 8} {HEIGHT + 8}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="{name}: from {ratios[0]:.2f} to {ratios[-1]:.2f}, at most {max(ratios):.2f}">'
        f'<line x1="0" y1="{y(1)}" x2="{WIDTH}" y2="{y(1)}" class="ideal"/>'
        f'<g class="calibrated"><polyline points="{points}"/>{dots}</g></svg>'
    )
