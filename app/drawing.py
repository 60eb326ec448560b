"""A drawing pad for the page: a white canvas, a dark brush, undo and clear, for mouse, finger and pen.

Small on purpose. A full picture editor takes seconds to answer a stroke and keeps what was drawn on the server;
this one sends the finished stroke's picture as text, and nothing of it is stored.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

import gradio as gr

from app.pictures import MAX_BYTES, PictureError

PREFIX = "data:image/png;base64,"
TEMPLATE = """
<div class="pad">
  <canvas width="392" height="392" role="img" tabindex="0"
          aria-label="Drawing area. Draw one garment here with mouse, finger or pen."></canvas>
  <div class="pad-tools">
    <label>Brush <input type="range" min="8" max="72" value="32" aria-label="Width of the brush"></label>
    <button type="button" class="pad-undo">Undo</button>
    <button type="button" class="pad-clear">Clear</button>
  </div>
  <p class="pad-hint">Fill the shape in: the model knows garments, not outlines.</p>
</div>
"""
STYLE = """
.pad canvas { width: 100%; max-width: 392px; aspect-ratio: 1; display: block; margin: 0 auto;
  background: #fff; border: 1px solid var(--border-color-primary); border-radius: var(--radius-lg);
  cursor: crosshair; touch-action: none; }
.pad canvas:focus-visible { outline: 2px solid var(--color-accent); }
.pad-tools { display: flex; gap: 8px; align-items: center; max-width: 392px; margin: 10px auto 0; }
.pad-tools label { flex: 1; display: flex; gap: 8px; align-items: center; min-width: 0; }
.pad-tools input { flex: 1; min-width: 0; accent-color: var(--color-accent); }
.pad-tools button { margin: 0; padding: 6px 14px; border-radius: var(--radius-md); font-weight: 500;
  background: var(--button-secondary-background-fill); color: var(--button-secondary-text-color); }
.pad-tools button:hover { background: var(--button-secondary-background-fill-hover); }
.pad-hint { max-width: 392px; margin: 10px auto 0; font-size: .9em; color: var(--body-text-color-subdued); }
"""
SCRIPT = Path(__file__).with_name("drawing.js").read_text(encoding="utf-8")


def pad() -> gr.HTML:
    """The pad as a component; its value is the drawing as a ``data:`` address of a PNG, or empty.

    A finished stroke, undo and clear each raise its ``input`` event.
    """
    return gr.HTML(
        value="",
        label="A drawing, as data:image/png;base64,…",
        html_template=TEMPLATE,
        css_template=STYLE,
        js_on_load=SCRIPT,
        apply_default_css=False,
        elem_id="pad",
    )


def read(value: str | None, max_bytes: int = MAX_BYTES) -> bytes | None:
    """The PNG file in the pad's value; None where nothing is drawn.

    Raises:
        PictureError: the value is no such address, or is larger than ``max_bytes``.
    """
    if not value:
        return None
    if not isinstance(value, str) or not value.startswith(PREFIX):
        raise PictureError(f"The drawing should be a text that begins with {PREFIX}", 415)
    # Before decoding: four characters hold three bytes.
    if len(value) - len(PREFIX) > max_bytes * 4 // 3 + 4:
        raise PictureError("The drawing is too large.", 413)
    try:
        return base64.b64decode(value[len(PREFIX) :], validate=True)
    except (binascii.Error, ValueError):
        raise PictureError("The drawing did not arrive whole.", 400) from None
