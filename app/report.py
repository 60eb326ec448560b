"""What the page says about the model itself: how good it is, as HTML, and its card, as Markdown.

No script and no plotting library: tables, and one drawing in SVG, in colours of the page's style sheet. Files that are
missing or damaged are told in a sentence, and the page works without them.
"""

from __future__ import annotations

import base64
import html
import math
import re
from collections.abc import Sequence
from pathlib import Path

from app.diagram import reliability
from app.evaluation import Evaluation, EvaluationError, Row, read
from app.pictures import PictureError, decode

MOST_CLASSES = 30  # beyond which nobody can read a confusion matrix
MOST_CONFUSED = 3  # pairs of classes that are told in words


def quality(model_dir: Path) -> str:
    """The tab "How good is it" as HTML."""
    try:
        found = read(model_dir / "evaluation.json")
    except EvaluationError as error:
        return f'<div class="report"><h2>How good is it?</h2><p>{error}</p></div>'
    # Class names may be a user's folder names.
    found = found._replace(rows=[row._replace(name=html.escape(row.name)) for row in found.rows])
    return (
        f'<div class="report">{_figures(found)}{_reliability(found)}{_classes(found.rows)}'
        f"{_confusion(found)}{_mistakes(model_dir / 'mistakes.png')}</div>"
    )


def card(model_dir: Path) -> str:
    """The model card as Markdown that fits below the page's own heading."""
    try:
        text = (model_dir / "README.md").read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return "This model came without a card, so there is nothing to tell about it."
    except (OSError, ValueError):
        return "The card that came with this model is damaged and cannot be shown."
    text = re.sub(r"\A---\n.*?^---$", "", text, flags=re.DOTALL | re.MULTILINE)  # for model hubs, not for people
    lines, in_code = [], False
    for line in text.strip().split("\n"):
        in_code ^= line.startswith("```")
        if not in_code:
            line = re.sub(r"^(?=#{1,5} )", "#", line)  # the page has a heading of the first level
            # Neither HTML nor pictures, which the browser would fetch from wherever they are: those become links.
            line = line.replace("<", "&lt;").replace("![", "[")
        lines.append(line)
    return "\n".join(lines) or "The card that came with this model is empty."


def _figures(found: Evaluation) -> str:
    m = found.metrics
    total, right = sum(map(sum, found.confusion)), sum(row[k] for k, row in enumerate(found.confusion))
    return (
        f"<h2>How good is it?</h2><p class='lead'>Of {total:,} test pictures, which it had not seen before, the model "
        f"named {right:,} rightly.</p><dl class='figures'>"
        + _figure(
            "Right names",
            "accuracy",
            f"{m['accuracy']:.1%}",
            f"Of 100 pictures, about {100 * m['accuracy']:.0f} get their right name. On as many other pictures of the "
            f"same source, expect {m['accuracy_low']:.1%} to {m['accuracy_high']:.1%}.",
        )
        + _figure(
            "Every kind alike",
            "macro F1",
            f"{m['macro_f1']:.1%}",
            "A rare kind counts as much as a common one here. Far below the figure before, it would tell of kinds that "
            "the model neglects.",
        )
        + _figure(
            "Shortlists that hold",
            "label-set coverage",
            f"{m['label_set_coverage']:.1%}",
            "So often the right name is on the shortlist that comes with an answer. A shortlist has "
            f"{m['label_set_size']:.2f} names on average.",
        )
        + "</dl>"
    )


def _figure(name: str, term: str, value: str, meaning: str) -> str:
    return f"<div><dt>{name} <small>{term}</small></dt><dd class='figure'>{value}</dd><dd>{meaning}</dd></div>"


def _reliability(found: Evaluation) -> str:
    m, kinds = found.metrics, len(found.rows)
    off = _figure(
        "Off by",
        "calibration error",
        f"{m['ece']:.1%}",
        "So far, on average, is how sure it says it is from how often it is right. Before its percentages were "
        f"corrected: {m['ece_uncalibrated']:.1%}.",
    )
    loss = _figure(
        "Sure and wrong",
        "log loss",
        f"{m['log_loss']:.3f}",
        f"Grows with each mistake it is sure of: 0 is perfect, {math.log(kinds):.2f} is guessing among {kinds} kinds. "
        f"Before the correction: {m['log_loss_uncalibrated']:.3f}.",
    )
    return (
        "<h3>Can its percentages be believed?</h3><p>Where it says “80% sure”, it should be right 8 times in 10. The "
        "closer to the straight line, the more its percentages mean. A small dot stands for few pictures, and says "
        f"little.</p><div class='beside'>{reliability(found.curves)}<dl class='figures'>{off}{loss}</dl></div>"
    )


def _classes(rows: Sequence[Row]) -> str:
    body = "".join(
        f'<tr><th scope="row">{row.name}</th><td>{row.pictures:,}</td><td>{row.recall:.1%}</td>'
        f"<td>{row.precision:.1%}</td><td>{row.f1:.1%}</td></tr>"
        for row in rows
    )
    best, worst = max(rows, key=lambda row: row.f1), min(rows, key=lambda row: row.f1)
    return (
        f"<h3>Kind by kind</h3><p>It knows <strong>{best.name}</strong> best and <strong>{worst.name}</strong> least. "
        "Found: of the pictures of a kind, how many it names so. Believable: where it names a kind, how often it is "
        "that. F1 lies between the two.</p><div class='scroll' role='region' aria-label='Figures of each kind' "
        "tabindex='0'><table><caption>Figures of each kind, on the test pictures</caption><thead><tr>"
        "<th scope='col'>Kind</th><th scope='col'>Pictures</th><th scope='col'>Found <small>recall</small></th>"
        "<th scope='col'>Believable <small>precision</small></th><th scope='col'>F1</th></tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _confusion(found: Evaluation) -> str:
    names, cells = [row.name for row in found.rows], found.confusion
    numbers = range(len(names))
    pairs = sorted((-cells[i][j], i, j) for i in numbers for j in numbers if i != j and cells[i][j])[:MOST_CONFUSED]
    told = "; ".join(f"{names[i]} for {names[j]} ({-count:,} of {sum(cells[i]):,})" for count, i, j in pairs)
    heading = f"<h3>What it takes for what</h3><p>{f'Most often it takes {told}.' if told else 'It made no mistake.'}"
    if len(names) > MOST_CLASSES:
        return f"{heading} {len(names)} kinds are too many for a table of all confusions to be read.</p>"
    columns = "".join(f'<th scope="col">{name}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{names[i]}</th>{"".join(_cell(cells[i], i, j) for j in numbers)}</tr>' for i in numbers
    )
    return (
        f"{heading} A row is what the pictures are, a column what the model said: in the frames it was right; the "
        "stronger the colour of another cell, the more often it was wrong that way.</p>"
        "<div class='scroll' role='region' tabindex='0' aria-label='Confusion matrix'><table class='matrix'>"
        "<caption>Confusion matrix, in test pictures</caption>"
        "<thead><tr><th scope='col'>It is ↓ <span>It said →</span></th>"
        f"{columns}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(row: Sequence[int], i: int, j: int) -> str:
    if i == j:
        return f'<td class="right">{row[j]:,}</td>'
    # The root, so that one mistake in a hundred is seen at all.
    share = (row[j] / max(1, sum(row))) ** 0.5
    return f'<td style="--share: {share:.0%}">{row[j]:,}</td>' if row[j] else "<td class='none'>0</td>"


def _mistakes(path: Path) -> str:
    heading = "<h3>Its worst mistakes</h3>"
    try:
        content = path.read_bytes()
        width, height = decode(content).size
    except FileNotFoundError:
        return f"{heading}<p>There is no picture of them beside this model.</p>"
    except (OSError, PictureError):
        return f"{heading}<p>The picture of them that came with this model is damaged and cannot be shown.</p>"
    return (
        f"{heading}<p>The mistakes it was surest of: over each picture what the model said, how sure it was, and what "
        "the picture is. Some would puzzle a person too.</p><div class='scroll' role='region' tabindex='0' "
        f"aria-label='Its worst mistakes'><img src='data:image/png;base64,{base64.b64encode(content).decode()}' "
        f"width='{width}' height='{height}' alt='Test pictures on which the model was sure and wrong, each with what "
        "it said and what it is'></div>"
    )
