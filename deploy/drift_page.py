"""The traffic log's report as one HTML file, which loads nothing from anywhere."""

import html
from collections import defaultdict
from datetime import datetime

from app import drift
from app.classifier import UNUSUAL
from app.drift_report import WORDS, line
from deploy.traffic import Judged, verdict

STYLE = """
:root { color-scheme: light dark; --text: #1c1917; --soft: #57534e; --rule: #d6d3d1; --ground: #fafaf9;
  --line: #c2410c; }
@media (prefers-color-scheme: dark) {
  :root { --text: #f5f5f4; --soft: #a8a29e; --rule: #44403c; --ground: #1c1917; --line: #fb923c; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--text); background: var(--ground); }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
.verdict { font-size: 1.2rem; font-weight: 600; padding: .8rem 1rem; border-left: 6px solid var(--rule); }
.verdict.changed { border-color: var(--line); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 6px 12px; border-bottom: 1px solid var(--rule); }
tr > :first-child { text-align: left; }
th { font-weight: 600; } th small { display: block; font-weight: 400; color: var(--soft); }
.wide { overflow-x: auto; } p.soft, caption { color: var(--soft); text-align: left; }
svg line, svg polyline { fill: none; stroke-width: 2; }
svg .ideal { stroke: var(--soft); stroke-width: 1; } svg .calibrated { stroke: var(--line); }
svg circle { fill: var(--line); }
"""


def render(judged: Judged, model: str) -> str:
    """The report as HTML; `model` is what to call the model."""
    changed = " changed" if judged.changed else ""
    others = f" {judged.others:,} more are of other models and are left out." if judged.others else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Drift</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<h1>Are they still the same kind of picture?</h1><p class='verdict{changed}'>"
        f"{html.escape(verdict(judged)).capitalize()}.</p>"
        f"<p>{judged.rows:,} pictures from {_moment(judged.start)} to {_moment(judged.end)}, answered by "
        f"{html.escape(model)}.{others} {judged.unusual:.1%} of them are unlike what the model learnt from; of the "
        f"validation split {UNUSUAL:.0%} are.</p>{_features(judged)}{_days(judged)}{_classes(judged)}</body></html>\n"
    )


def _features(judged: Judged) -> str:
    if not len(judged.ratios):
        return ""
    rows = "".join(
        f"<tr><th scope='row'>{name}<small>{WORDS[name]}</small></th><td>{values.max():.2f}</td>"
        f"<td>{int((values > 1).sum()):,}</td><td>{line(name, _thinned(values.tolist()))}</td></tr>"
        for name, values in zip(drift.NAMES, judged.ratios.T, strict=True)
    )
    return (
        "<h2>What lies how far off</h2><div class='wide'><table><caption>Distance from the validation split in "
        "windows; 1 is the threshold, which fewer than one clean window in a thousand passes in any of eight</caption>"
        "<thead><tr><th scope='col'>What</th><th scope='col'>Farthest</th><th scope='col'>Windows beyond</th>"
        f"<th scope='col'>From the first to the last</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _thinned(values: list[float], most: int = 300) -> list[float]:
    """The highest of neighbours, where there are more than a drawing can show."""
    step = -(-len(values) // most)
    return [max(values[start : start + step]) for start in range(0, len(values), step)]


def _days(judged: Judged) -> str:
    days: dict[str, list[int]] = defaultdict(list)
    for number, moment in enumerate(judged.times):
        days[f"{moment:%Y-%m-%d}"].append(number)
    if len(days) < 2:
        return ""
    rows = ""
    for day, numbers in days.items():
        ratios = judged.ratios[numbers]
        alarms = int((ratios > 1).any(1).sum())
        worst = drift.NAMES[int(ratios.max(0).argmax())]
        rows += (
            f"<tr><th scope='row'>{day}</th><td>{len(numbers):,}</td><td>{alarms:,}</td>"
            f"<td>{worst}, {ratios.max():.2f}</td></tr>"
        )
    return (
        "<h2>Day by day</h2><table><thead><tr><th scope='col'>Day (UTC)</th><th scope='col'>Windows</th>"
        "<th scope='col'>Beyond a threshold</th><th scope='col'>Farthest</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )


def _classes(judged: Judged) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{html.escape(name)}</th><td>{before:.1%}</td><td>{now:.1%}</td></tr>"
        for name, (before, now) in judged.shares.items()
    )
    return (
        "<h2>What it said they are</h2><table><thead><tr><th scope='col'>Class</th><th scope='col'>In validation</th>"
        f"<th scope='col'>Now</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
