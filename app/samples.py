"""The row of sample pictures to click on, as buttons that a keyboard and a screen reader can use too."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

import gradio as gr

from app.exhibits import Sample

STYLE = """
.samples h2 { font-size: 1rem; font-weight: 600; margin: 0 0 8px; }
.samples div { display: grid; grid-template-columns: repeat(5, 1fr); gap: 8px; }
.samples button { padding: 0; border-radius: var(--radius-md); overflow: hidden; background: #000;
  border: 1px solid var(--border-color-primary); }
.samples button:hover, .samples button:focus-visible { outline: 2px solid var(--color-accent); outline-offset: 1px; }
.samples img { width: 100%; aspect-ratio: 1; object-fit: contain; display: block; margin: 0;
  image-rendering: pixelated; }
"""
SCRIPT = """
for (const button of element.querySelectorAll(".samples button")) {
  button.addEventListener("click", () => { props.value = button.dataset.index; trigger("click"); });
}
"""


def row(samples: Sequence[Sample]) -> gr.HTML:
    """The row as a component; a click raises its ``click`` event, and its value is the number of the sample.

    Args:
        samples: PNG files of a few kilobytes.
    """
    buttons = "".join(_button(index, sample) for index, sample in enumerate(samples))
    template = f'<div class="samples"><h2>Or try one of these</h2><div>{buttons}</div></div>'
    return gr.HTML(
        value="",
        label="Number of the sample, from 0",
        html_template=template,
        css_template=STYLE,
        js_on_load=SCRIPT,
        apply_default_css=False,
        visible=bool(samples),
        elem_id="samples",
    )


def _button(index: int, sample: Sample) -> str:
    # The template language would take these two for its own.
    name = html.escape(sample.label.replace("{", "").replace("$", ""))
    content = base64.b64encode(sample.file.read_bytes()).decode()
    return (
        f'<button type="button" data-index="{index}" aria-label="Sample: {name}">'
        f'<img src="data:image/png;base64,{content}" alt=""></button>'
    )
