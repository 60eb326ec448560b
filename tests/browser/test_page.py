"""The page in a real browser, with the real server beside it.

ATELIER_MODELS names a model directory to try; without it a tiny model of three shapes is served.
ATELIER_SCREENSHOTS names a folder that the screenshots go to; without it they go with the test's temporary files.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image, ImageDraw

from app.classifier import Classifier
from app.exhibits import read_samples
from app.main import Settings, create_app
from app.pictures import to_model_input
from tests.app import tiny_model
from tests.app.served import served
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
SCREENS = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "phone": PHONE,
    "phone-dark": {**PHONE, "color_scheme": "dark"},
}
TABS = {"Try it": "", "How good is it": "-quality", "About": "-about"}  # and what their screenshots' names end in
AXE = "4.14.1"  # of axe-core on npm
AXE_SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"  # of its axe.min.js
# What sticks out of the screen at the right, except in a box that scrolls by itself.
SIDEWAYS = """() => [...document.querySelectorAll("body *")].filter(element => element.checkVisibility()
  && !element.parentElement.closest(".scroll")
  && element.getBoundingClientRect().right > innerWidth + 1).map(element => element.outerHTML.slice(0, 120))"""

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
    environment = {**os.environ, "HOST": "127.0.0.1", "PORT": "0", "MODEL_DIR": str(models), "MAX_UPLOAD_MB": "10"}
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


@pytest.fixture(scope="module")  # while it lives, so does its event loop, and no other can run beside it
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe(tmp_path_factory):
    """The script of axe-core, a checker of accessibility."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm, which axe-core comes from")
    folder = tmp_path_factory.mktemp("axe")
    try:
        command = [npm, "pack", "--silent", f"axe-core@{AXE}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        pytest.skip("npm does not answer")
    if done.returncode:
        pytest.skip(f"npm cannot fetch axe-core: {done.stderr.strip()[-200:]}")
    with tarfile.open(folder / f"axe-core-{AXE}.tgz") as archive:
        script = archive.extractfile("package/axe.min.js").read()
    assert hashlib.sha256(script).hexdigest() == AXE_SHA256
    return script.decode()


def findings(page, axe):
    """What axe has against the page as it is now, without what it calls minor or moderate."""
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    assert found["passes"]  # it did look
    return [
        (violation["id"], node["target"], node["failureSummary"])
        for violation in found["violations"]
        for node in violation["nodes"]
        if node["impact"] in ("serious", "critical")
    ]


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
    return sorted((models / "samples/test").glob("*.png"))


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
    noise = np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), np.uint8)
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
    buttons = page.get_by_role("button", name=re.compile("^Sample: "))
    found = read_samples(models)["test"]
    assert buttons.count() == len(found) > 0
    for number, sample in enumerate(found):
        button = buttons.nth(number)
        assert button.get_attribute("aria-label") == f"Sample: {sample.label}"
        button.focus()
        page.keyboard.press("Enter")
        await_verdict(page, expected(models, sample.file))


def selected(page) -> list[str]:
    return page.get_by_role("tab", selected=True).all_inner_texts()


def test_tabs_by_mouse(visit, models):
    page = visit()
    upload(page, str(samples(models)[0]))
    page.locator("#answer .verdict").wait_for()
    answer = page.locator("#answer").inner_text()
    for tab, shown in (("How good is it", ".report"), ("About", "#card"), ("Try it", "#picture")):
        page.get_by_role("tab", name=tab).click()
        page.locator(shown).wait_for()
        assert selected(page)[0] == tab
    assert page.locator("#answer").inner_text() == answer  # it waited


def test_tabs_by_keyboard(visit):
    page = visit()
    page.keyboard.press("Tab")
    for key, tab in (
        (None, "Try it"),
        ("ArrowRight", "How good is it"),
        ("ArrowRight", "About"),
        ("ArrowRight", "Try it"),
        ("ArrowLeft", "About"),
        ("Home", "Try it"),
        ("End", "About"),
        ("ArrowLeft", "How good is it"),
    ):
        if key:
            page.keyboard.press(key)
        assert page.evaluate("document.activeElement.innerText") == tab
        assert selected(page) == [tab, "Picture"][: 2 if tab == "Try it" else 1]
    # The boxes that scroll sideways are reached and scrolled.
    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_role("region", name="Its worst mistakes").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.activeElement.scrollLeft > 0")
    # And the tabs within a tab.
    page.get_by_role("tab", name="Try it").click()
    page.get_by_role("tab", name="Picture").focus()
    page.keyboard.press("ArrowRight")
    page.locator("#pad canvas").wait_for()
    assert selected(page) == ["Try it", "Draw"]


def test_how_good_it_is_is_told_by_the_model_that_is_served(visit, models):
    page = visit()
    page.get_by_role("tab", name="How good is it").click()
    assert page.locator(".report .lead").inner_text().endswith("rightly.")
    assert page.get_by_role("table", name="Confusion matrix").get_by_role("row").count() == 1 + len(
        Classifier.from_directory(models).class_names
    )
    assert page.locator(".report img").evaluate("image => image.naturalWidth") > 500
    page.get_by_role("img", name="How often the model is right").wait_for()
    levels = page.locator("h1, h2, h3, h4").evaluate_all("all => all.map(heading => Number(heading.tagName[1]))")
    assert levels.count(1) == 1
    page.get_by_role("tab", name="About").click()
    page.get_by_role("heading", name="Garment classifier", level=2).wait_for()
    assert "license:" not in page.locator("#card").inner_text()


@pytest.mark.parametrize("name", SCREENS)
def test_axe_has_no_serious_finding(visit, axe, models, name):
    page = visit(**SCREENS[name])
    assert findings(page, axe) == []  # nothing asked yet
    upload(page, str(samples(models)[-1]))
    page.locator("#answer .verdict").wait_for()
    for tab in ("Draw", "Picture", *TABS):
        page.get_by_role("tab", name=tab, exact=True).click()
        page.wait_for_timeout(300)
        assert findings(page, axe) == [], tab


def test_an_unusual_picture_is_answered_with_a_warning(browser, axe, models, screenshots, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    noise = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    with served(create_app(Settings(model_dir=models), Classifier.from_directory(models))) as address:
        for name in ("light", "phone-dark"):
            with contextlib.closing(browser.new_page(**{**DESKTOP, **SCREENS[name]})) as page:
                page.goto(address)
                upload(page, str(tmp_path / "noise.png"))
                note = page.get_by_role("note")
                note.wait_for()
                assert "grain of salt" in note.inner_text()
                assert page.locator("#answer").inner_text().startswith(note.inner_text())
                page.wait_for_timeout(500)
                page.screenshot(path=screenshots / f"{name}-unusual.png", full_page=True)
                assert findings(page, axe) == []


def test_a_hostile_model_folder_runs_and_fetches_nothing(browser, tmp_path):
    models = tiny_model.write(tmp_path / "models")
    hostile = (
        "<img src=http://127.0.0.1:9/x.png onerror=alert(1)><script>alert(1)</script>${alert(1)}{{value}}" + 60 * "x"
    )
    names = [hostile, "Sandal", "Bag"]
    onnx.save(tiny_model.graph({**tiny_model.METADATA, "class_names": json.dumps(names)}), models / "model.onnx")
    (models / "evaluation.json").write_text(json.dumps({**tiny_model.EVALUATION, "class_names": names}))
    labels = {f"test/{path.name}": hostile for path in samples(models)}
    (models / "samples/labels.json").write_text(json.dumps(labels))
    card = f"# Card\n![x](http://127.0.0.1:9/x.png)\n{hostile}\n\n| class | F1 |\n|---|---|\n| {hostile} | 1 |\n"
    (models / "README.md").write_text(card)
    requests, dialogs = [], []
    with serving(models) as address, contextlib.closing(browser.new_page(**PHONE)) as page:
        page.on("request", lambda request: requests.append(request.url))
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        page.goto(address)
        page.locator("#samples button").first.click()
        await_verdict(page, hostile)
        for tab, text in (("Try it", "#answer"), ("How good is it", ".report"), ("About", "#card")):
            page.get_by_role("tab", name=tab).click()
            assert "onerror=alert(1)" in page.locator(text).inner_text()
            assert page.evaluate(SIDEWAYS) == [], tab
    assert dialogs == []
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []


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


@pytest.mark.parametrize("name", SCREENS)
def test_themes_and_widths(visit, models, screenshots, name):
    page = visit(**SCREENS[name])
    page.wait_for_timeout(300)
    page.screenshot(path=screenshots / f"{name}-empty.png", full_page=True)
    upload(page, str(samples(models)[-1]))
    page.locator("#answer .verdict").wait_for()
    for tab, end in TABS.items():
        page.get_by_role("tab", name=tab).click()
        page.mouse.move(0, 0)
        page.wait_for_timeout(500)
        page.screenshot(path=screenshots / f"{name}{end}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
        assert page.evaluate(SIDEWAYS) == []
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    lightness = sum(int(part) for part in re.findall(r"\d+", background)[:3]) / 3
    assert lightness < 60 if "dark" in name else lightness > 200
    assert page.locator("footer").is_hidden()
