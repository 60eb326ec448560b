"""The page in a real browser, with the real server beside it.

ATELIER_MODELS names a model directory to try; without it a tiny model of three shapes is served.
ATELIER_SCREENSHOTS names a folder that the screenshots go to; without it they go with the test's temporary files.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from app.classifier import Classifier
from app.pictures import to_model_input
from tests.app import tiny_model
from tests.project import Project

CHROMIUM = Path("/usr/bin/chromium")
ROOT = Path(__file__).parents[2]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
DESKTOP = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs {CHROMIUM}: apt-get install chromium"),
]


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    given = os.environ.get("ATELIER_MODELS")
    return Path(given) if given else tiny_model.write(tmp_path_factory.mktemp("browser") / "models")


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory):
    folder = Path(os.environ.get("ATELIER_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def serving(models):
    """The address of a server with these models."""
    environment = {**os.environ, "HOST": "127.0.0.1", "PORT": "0", "MODEL_DIR": str(models), "MAX_UPLOAD_MB": "1"}
    command = [sys.executable, "-m", "app.main"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            line = server.stderr.readline()
            assert "ready" in line, line + server.stderr.read()
            yield line.split()[-1]
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()
    assert server.returncode == 0


@pytest.fixture(scope="session")
def address(models):
    with serving(models) as address:
        yield address


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Opens the page; at the end, no request has left the machine and no script has failed."""
    contexts, requests, failures = [], [], []

    def visit(**options):
        context = browser.new_context(**{**DESKTOP, **options})
        contexts.append(context)
        context.set_default_timeout(20_000)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.goto(address)
        page.locator("#answer .waiting").wait_for()
        return page

    yield visit
    for context in contexts:
        context.close()
    assert requests
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
    assert failures == []


def upload(page, file):
    page.locator("#picture input[type=file]").set_input_files(file)


def verdict(page) -> str:
    return page.locator("#answer .verdict").inner_text()


def await_verdict(page, text):
    page.locator("#answer .verdict", has_text=re.compile(f"^{re.escape(text)}$")).wait_for()


def samples(models):
    return sorted((models / "samples").glob("*.png"))


def expected(models, path) -> str:
    """The class that the model itself gives to a picture."""
    classifier = Classifier.from_directory(models)
    with Image.open(path) as image:
        seen = to_model_input(image, classifier.image_size)
    return classifier.class_names[int(classifier.predict(seen[None]).probabilities.argmax())]


def stroke(page, *points):
    """Draws through points given as shares of the canvas."""
    box = page.locator("#pad canvas").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=6)
    page.mouse.up()


def test_a_text_file_is_refused_with_a_sentence(visit, tmp_path, models):
    page = visit()
    upload(page, str(samples(models)[0]))
    page.locator("#answer .verdict").wait_for()
    (tmp_path / "notes.png").write_text("These are notes.")
    upload(page, str(tmp_path / "notes.png"))
    toast = page.locator("[data-testid=toast-body]")
    toast.wait_for()
    assert "This is not a picture in a format known here" in toast.inner_text()
    # The answer to the picture before does not stay beside it.
    page.locator("#answer .waiting").wait_for()
    page.locator("#bars").wait_for(state="hidden")


def test_a_file_that_is_too_large_is_refused_with_a_sentence(visit, tmp_path):
    page = visit()
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    upload(page, str(tmp_path / "large.png"))
    toast = page.locator("[data-testid=toast-body]")
    toast.wait_for()
    assert "exceed" in toast.inner_text()


def test_every_sample_uploaded_gets_the_models_own_answer(visit, models, screenshots):
    page = visit()
    for path in samples(models):
        upload(page, str(path))
        await_verdict(page, expected(models, path))
        page.get_by_role("button", name="Remove Image").click()
        page.locator("#answer .waiting").wait_for()
    upload(page, str(samples(models)[-1]))
    page.locator("#answer .verdict").wait_for()
    assert "sure" in page.locator("#answer .sure").inner_text()
    assert "% of pictures" in page.locator("#answer .promise").inner_text()
    assert page.locator("#bars [data-testid=label-output-value]").count() == 0  # said in words already
    assert page.locator("#bars").get_by_role("button").count() >= 3
    for view in page.locator(".view img").all():
        assert view.get_attribute("alt")
        assert view.evaluate("image => image.naturalWidth") >= 280
    page.wait_for_timeout(500)
    page.screenshot(path=screenshots / "light.png", full_page=True)


def test_pictures_of_the_test_split_get_their_right_names(browser, tmp_path_factory):
    """A model trained for the purpose; its samples come from the test split and carry the truth in their names."""
    folder = tmp_path_factory.mktemp("trained")
    project = Project(folder / "project", sketches=3000, width=32, epochs=6, batch_size=64)
    project.dvc("repro")
    with serving(project.folder / "models") as address, contextlib.closing(browser.new_page(**DESKTOP)) as page:
        page.goto(address)
        right = 0
        pictures = samples(project.folder / "models")
        for path in pictures:
            page.locator("#answer .waiting").wait_for()
            upload(page, str(path))
            page.locator("#answer .verdict").wait_for()
            right += re.sub(r"\W+", "-", verdict(page).lower()) == path.stem.partition("-")[2]
            page.get_by_role("button", name="Remove Image").click()
    assert len(pictures) == 20
    assert right >= 16


def test_samples_are_buttons_with_names(visit, models):
    page = visit()
    for path in samples(models):
        name = "Sample: " + " ".join(path.stem.split("-")[1:])
        page.get_by_role("button", name=name, exact=True).first.focus()
        page.keyboard.press("Enter")
        await_verdict(page, expected(models, path))


def test_a_dark_photo_turned_by_exif(visit, models, tmp_path):
    page = visit()
    image = Image.new("RGB", (900, 700), (235, 232, 225))
    ImageDraw.Draw(image).rectangle((380, 80, 520, 620), fill=(40, 40, 60))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "upright.png")
    image.rotate(90, expand=True).save(tmp_path / "photo.jpg", exif=exif)
    upload(page, str(tmp_path / "photo.jpg"))
    await_verdict(page, expected(models, tmp_path / "upright.png"))


def test_a_drawing_undo_and_clear(visit, models, screenshots):
    page = visit(color_scheme="dark")
    page.get_by_role("tab", name="Draw").click()
    stroke(page, (0.4, 0.1), (0.4, 0.9))
    page.locator("#answer .verdict").wait_for()
    alone = page.locator("#answer").inner_text()
    stroke(page, (0.5, 0.1), (0.5, 0.9), (0.6, 0.9), (0.6, 0.1))
    page.wait_for_function("before => document.querySelector('#answer').innerText != before", arg=alone)
    page.wait_for_timeout(500)
    page.screenshot(path=screenshots / "dark-drawing.png", full_page=True)
    page.get_by_role("button", name="Undo").click()
    page.wait_for_function("before => document.querySelector('#answer').innerText == before", arg=alone)
    page.get_by_role("button", name="Clear").click()
    page.locator("#answer .waiting").wait_for()
    # A drawing and then a sample: the page turns to the picture.
    page.get_by_role("button", name=re.compile("^Sample: ")).first.click()
    await_verdict(page, expected(models, samples(models)[0]))
    assert page.locator("#picture").is_visible()


def test_a_tap_draws_a_dot(visit):
    page = visit(**PHONE)
    page.get_by_role("tab", name="Draw").click()
    page.locator("#pad canvas").tap()
    page.locator("#answer .verdict").wait_for()


def test_a_picture_from_the_clipboard(visit, address, models):
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    path = samples(models)[0]
    page.evaluate(
        """async bytes => {
             const blob = new Blob([new Uint8Array(bytes)], { type: "image/png" });
             await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
           }""",
        list(path.read_bytes()),
    )
    page.get_by_role("button", name="Paste from clipboard").click()
    await_verdict(page, expected(models, path))


def test_a_photo_from_the_camera(visit):
    page = visit(permissions=["camera"])
    page.get_by_role("button", name="Capture from camera").click()
    page.get_by_text("Click to Access Webcam").click()
    page.wait_for_function("document.querySelector('#picture video')?.videoWidth > 0")
    page.get_by_role("button", name="capture photo").click()
    page.locator("#answer .verdict").wait_for()


@pytest.mark.parametrize(("name", "options"), [("phone", PHONE), ("dark", {"color_scheme": "dark"})])
def test_themes_and_widths(visit, models, screenshots, name, options):
    page = visit(**options)
    page.wait_for_timeout(300)
    page.screenshot(path=screenshots / f"{name}-empty.png", full_page=True)
    upload(page, str(samples(models)[-1]))
    page.locator("#answer .verdict").wait_for()
    page.wait_for_timeout(500)
    page.screenshot(path=screenshots / f"{name}.png", full_page=True)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= page.viewport_size["width"]  # nothing to scroll sideways
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    lightness = sum(int(part) for part in re.findall(r"\d+", background)[:3]) / 3
    assert lightness < 60 if name == "dark" else lightness > 200
    assert page.locator("footer").is_hidden()
