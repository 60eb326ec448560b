"""The page: one picture in, the answer in words, bars and two small pictures out; and what is known of the model.

Written for a person who has never heard of a model file. Nothing on it is fetched from another machine, and what is
uploaded is deleted within twenty minutes.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import gradio as gr
import numpy as np
import numpy.typing as npt
from fastapi import FastAPI
from gradio.data_classes import ImageData
from PIL import Image

from app import drawing, drift_report, report, samples, uploads
from app.classifier import UNUSUAL, Classifier
from app.exhibits import read_samples
from app.feedback import FeedbackError, client
from app.heat import enlarge, overlay
from app.judge import Judge
from app.pictures import MB, PictureError

TOP_CLASSES = 5
CLEANING = (300, 900)  # seconds: how often, and from which age, files of visitors are deleted
CSS_FILE = Path(__file__).with_name("page.css")
SCRIPT = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
WAITING = '<p class="waiting">Choose, photograph or draw a garment, and the answer appears here.</p>'
BLANK = '<p class="waiting">This picture is blank: there is nothing on it to recognise.</p>'

Pixels = npt.NDArray[np.uint8]
Result = tuple[dict[str, float] | None, str, Pixels | None, Pixels | None, Any, Pixels | None]


def theme() -> gr.themes.Base:
    """Calm greys and one accent, set in the fonts that the visitor's own machine has."""
    base = gr.themes.Soft(
        primary_hue="orange",
        secondary_hue="orange",
        neutral_hue="stone",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "Consolas", "monospace"],
    )
    # Darker than the theme's own, which are hard to read on white.
    return base.set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        color_accent="*primary_700",
        link_text_color="*primary_700",
        body_background_fill="*neutral_50",
        block_background_fill="white",
        block_title_background_fill="transparent",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        checkbox_label_background_fill_selected="*primary_700",
        checkbox_label_background_fill_selected_dark="*primary_700",
    )


def create(judge: Judge, model_dir: Path) -> FastAPI:
    """The page as an application of its own.

    Args:
        judge: answers.
        model_dir: the folder it is from. The evaluation, the model card and the sample pictures in it are shown; it
            may have none of them.
    """
    app = FastAPI(openapi_url=None)
    mount(app, build(judge, model_dir), judge.max_bytes)
    return app


def build(judge: Judge, model_dir: Path) -> gr.Blocks:
    """Lays out the page and connects it with the classifier; arguments as of `create`."""
    pictures = read_samples(model_dir).get("test", [])

    # The names and sentences of these three are what view_api() of gradio_client shows.
    def classify(picture: bytes | None) -> Result:
        """Says what is on a picture: the classes with their probabilities, the answer in words, the picture that
        the model sees, and the same with the places that spoke for the answer in orange."""
        return _answer(judge, picture)

    def classify_drawing(drawn: str | None) -> Result:
        """Like classify, for a drawing that is sent as data:image/png;base64,…"""
        try:
            return _answer(judge, drawing.read(drawn, judge.max_bytes))
        except PictureError as error:
            raise _sentence(error) from None

    def pick_sample(number: str | None) -> tuple[Image.Image, Any]:
        """One of the sample pictures, by its number."""
        try:
            path = dict(enumerate(pictures))[int(number or 0)].file
        except (KeyError, ValueError, TypeError):
            raise gr.Error("There is no sample of this number.", print_exception=False) from None
        with Image.open(path) as image:
            return image.copy(), gr.Tabs(selected="picture")

    def tell(seen: Pixels | None, name: str | None, request: gr.Request) -> str:
        """Keep the picture that was judged last, with the class that its visitor says is right."""
        if judge.feedback is None or seen is None or not name:
            raise gr.Error("Choose the right class first.", title="Nothing was sent", print_exception=False)
        host = request.client.host if request.client else None
        try:
            judge.feedback.take(seen, name, client(host, request.headers))
        except FeedbackError as error:
            raise gr.Error(error.message, title="This was not kept", print_exception=False) from None
        return f"<p role='status'>Thank you: kept as <strong>{html.escape(name)}</strong>, for somebody to look at.</p>"

    with gr.Blocks(title="Atelier", analytics_enabled=False, delete_cache=CLEANING, fill_width=True) as blocks:
        gr.HTML(_introduction(judge.classifier), elem_id="introduction")
        # On a narrow screen tabs wrap: a menu of those that have no room would be hidden from a keyboard.
        with gr.Tabs(selected="try", overflow_behavior="wrap", elem_id="pages"):
            with gr.Tab("Try it", id="try", elem_id="try"):
                with gr.Row(equal_height=False, elem_id="columns"):
                    with gr.Column(min_width=300):
                        with gr.Tabs(selected="picture", overflow_behavior="wrap") as tabs:
                            with gr.Tab("Picture", id="picture", elem_id="picture-tab"):
                                picture = _picture(judge.max_bytes)
                            with gr.Tab("Draw", id="draw", elem_id="draw-tab"):
                                sketch = drawing.pad()
                        gallery = samples.row(pictures)
                    with gr.Column(min_width=300):
                        words = gr.HTML(WAITING, label="The answer in words, as HTML", elem_id="answer")
                        with gr.Column(visible=False) as details:
                            gr.HTML("<h2>Most likely</h2>", elem_classes="heading")
                            bars = gr.Label(
                                label="Most likely classes",
                                num_top_classes=TOP_CLASSES,
                                show_heading=False,
                                show_label=False,
                                elem_id="bars",
                            )
                            with gr.Row(elem_id="views"):
                                seen = _view("What the model sees", "The picture as the model sees it, light on black")
                                evidence = _view("What spoke for it", "The same picture, its decisive places in orange")
                            with gr.Accordion(
                                "Wrong? Tell us the right class",
                                open=False,
                                visible=judge.feedback is not None,
                                elem_id="feedback",
                            ):
                                right = gr.Radio(list(judge.classifier.class_names), label="It is")
                                send = gr.Button("Send", size="sm")
                                thanks = gr.HTML()
                judged = gr.State()  # the picture as the model saw it
                gr.HTML(_small_print(judge.version, judge.feedback is not None), elem_id="small-print")
            with gr.Tab("How good is it", id="quality", elem_id="quality"):
                # As a value and not as the template: what the evaluation holds is never evaluated.
                gr.HTML(report.quality(model_dir), apply_default_css=False)
            with gr.Tab("Drift", id="drift", elem_id="drift") as drift_tab:
                drifted = gr.HTML(drift_report.render(judge.monitor), apply_default_css=False)
            with gr.Tab("About", id="about", elem_id="about"):
                gr.Markdown(report.card(model_dir), elem_id="card")

        results = [bars, words, seen, evidence, details, judged]
        picture.preprocess = _read_upload  # type: ignore[method-assign, assignment]
        shared: dict[str, Any] = {"outputs": results, "concurrency_limit": 4, "show_progress": "hidden"}
        picked = gallery.click(pick_sample, gallery, [picture, tabs], api_name="sample", show_progress="hidden")
        shown: dict[str, Any] = {"outputs": drifted, "api_visibility": "private", "show_progress": "hidden"}
        drift_tab.select(lambda: drift_report.render(judge.monitor), queue=False, **shown)
        for event in (
            # Not change: that comes twice where one picture takes the place of another.
            picture.input(classify, picture, api_name="classify", trigger_mode="always_last", **shared),
            picked.success(classify, picture, api_visibility="private", **shared),
            sketch.input(classify_drawing, sketch, api_name="classify_drawing", trigger_mode="always_last", **shared),
        ):
            # A refused picture must not leave the last one's answer beside it.
            event.failure(lambda: _nothing(WAITING), outputs=results, api_visibility="private", queue=False)
            event.then(lambda: (None, ""), outputs=[right, thanks], api_visibility="private", queue=False)
        send.click(tell, [judged, right], thanks, api_visibility="private", show_progress="hidden")
    return cast(gr.Blocks, blocks)


def mount(app: FastAPI, blocks: gr.Blocks, max_bytes: int) -> None:
    """Puts the page at ``/`` of an application."""
    # While this flag is unset, Gradio does not ask whether a path in a request was uploaded by a visitor, and copies
    # any file of the machine to where it can be fetched. Its own launch() sets the flag, mounting does not.
    blocks.has_launched = True
    for block in blocks.blocks.values():
        _refuse_addresses(block)
    uploads.add(app, blocks, max_bytes)
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        max_file_size=max_bytes,
        show_error=False,  # what is not a gr.Error would tell paths of this machine
        favicon_path=str(Path(__file__).with_name("favicon.png")),
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
        theme=theme(),
        css_paths=CSS_FILE,
        js=SCRIPT,
    )


def _answer(judge: Judge, data: bytes | None) -> Result:
    if data is None:
        return _nothing(WAITING)
    try:
        seen = judge.see(data)
    except PictureError as error:
        raise _sentence(error) from None
    if seen.min() == seen.max():
        return _nothing(BLANK)
    classifier = judge.classifier
    prediction = judge.predict(seen[None])
    probabilities = prediction.probabilities[0]
    names = classifier.class_names
    shortlist = [names[index] for index in classifier.label_set(probabilities)]
    return (
        {name: float(p) for name, p in zip(names, probabilities, strict=True)},
        _with_a_warning(shortlist[0])
        if prediction.in_distribution[0] < UNUSUAL
        else _in_words(shortlist, float(probabilities.max()), classifier.coverage),
        enlarge(seen),
        overlay(seen, prediction.heatmaps[0]),
        gr.Column(visible=True),
        seen,
    )


def _nothing(message: str) -> Result:
    return None, message, None, None, gr.Column(visible=False), None


def _sentence(error: PictureError) -> gr.Error:
    return gr.Error(error.message, title="This picture cannot be used", print_exception=False)


def _in_words(shortlist: Sequence[str], probability: float, coverage: float) -> str:
    """The answer as HTML; class names may be a user's folder names and are escaped."""
    names = [html.escape(name) for name in shortlist]
    sure = "more than 99%" if probability > 0.99 else f"{probability:.0%}"
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
    return (
        f'<div role="status"><p class="verdict">{names[0]}</p>'
        f'<p class="sure">{sure} sure</p>'
        f'<p class="shortlist">Shortlist: <strong>{listed}</strong></p>'
        f'<p class="promise">The shortlist holds the right answer for {100 * coverage:.3g}% of pictures like '
        "those it was calibrated on.</p></div>"
    )


def _with_a_warning(name: str) -> str:
    """The answer to a picture unlike those the model knows: how sure it is, and the shortlist's promise, mean nothing
    there."""
    return (
        '<div role="status"><div class="unusual" role="note"><strong>Take this with a grain of salt.</strong> The '
        "picture looks unlike anything the model has learnt from. The model must still choose one of the kinds it "
        "knows, so the name and the percentages below may mean nothing.</div>"
        f'<p class="verdict">{html.escape(name)}</p><p class="sure">comes closest</p></div>'
    )


def _introduction(classifier: Classifier) -> str:
    names = ", ".join(html.escape(name) for name in classifier.class_names)
    accuracy = classifier.metadata.get("metrics", {}).get("accuracy")
    record = f" It was right on {accuracy:.1%} of the pictures it was tested on." if accuracy else ""
    return (
        "<h1>Atelier</h1><p>Show it one garment, and it says which of "
        f"{len(classifier.class_names)} kinds it is.{record}</p><p class='kinds'>{names}</p>"
    )


def _small_print(version: str, feedback: bool) -> str:
    kept = "; where you tell us the right class, the small grey one that the model saw is kept" if feedback else ""
    model = f" Model {html.escape(version)}." if version else ""
    return (
        "<p>The model knows single garments on a plain ground, as in a catalogue. It knows nothing of people. "
        f"Pictures are not kept: they are deleted within {sum(CLEANING) // 60} minutes{kept}.{model}</p>"
    )


def _picture(max_bytes: int) -> gr.Image:
    picture = gr.Image(
        label="Picture of a garment",
        show_label=False,
        type="filepath",
        image_mode=None,
        format="png",  # a sample has to arrive bit for bit
        sources=["upload", "webcam", "clipboard"],
        height=300,
        buttons=[],
        # Words of the name that Gradio gives to this button: who speaks to the page says what stands there.
        placeholder="# Drop an image file here",
        elem_id="picture",
    )
    gr.HTML(
        f"<p>Drop or click, take a photo, or paste: PNG, JPEG, WebP, GIF or BMP, up to {max_bytes / MB:g} MB.</p>",
        elem_classes="hint",
    )
    return picture


def _view(label: str, alt_text: str) -> gr.Image:
    with gr.Column(min_width=130):
        gr.HTML(f"<h2>{label}</h2>", elem_classes="heading")
        return gr.Image(
            label=label,
            show_label=False,
            alt_text=alt_text,
            format="png",
            interactive=False,
            buttons=[],
            container=False,
            elem_classes="view",
        )


def _read_upload(payload: ImageData | None) -> bytes | None:
    """Stands in for Gradio's own reading of an upload, which decodes without our limits and names paths."""
    if payload is None or not payload.path:
        return None
    try:
        return Path(payload.path).read_bytes()
    except OSError:
        raise gr.Error("The upload is gone; please send it again.", print_exception=False) from None


def _refuse_addresses(block: gr.blocks.Block) -> None:
    """Keeps Gradio from fetching what a request names by its address; whatever the input, it may hold one."""
    move = block.async_move_resource_to_block_cache

    async def only_files(path: str | Path | None) -> str | None:
        if path is not None and "://" in str(path):
            raise gr.Error("Please send a file, not an address.", print_exception=False)
        return await move(path)

    block.async_move_resource_to_block_cache = only_files  # type: ignore[method-assign, assignment]
