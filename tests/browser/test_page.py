"""Pictures put on the page: files, drawings, the clipboard, the camera; and the answers they get."""

import contextlib
import re

import numpy as np
from PIL import Image, ImageDraw

from app.classifier import Classifier
from app.exhibits import read_samples
from app.feedback import folder_name
from tests.browser.driver import DESKTOP, PHONE, await_verdict, expected, samples, serving, stroke, upload, verdict
from tests.project import Project


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


def test_who_sees_a_wrong_answer_tells_the_right_one(visit, models, told):
    page = visit()
    upload(page, str(samples(models)[0]))
    page.locator("#answer .verdict").wait_for()
    page.get_by_role("button", name="Wrong?").click()
    send = page.get_by_role("button", name="Send", exact=True)
    send.click()
    page.get_by_text("Choose the right class first.").wait_for()
    assert list(told.rglob("*.png")) == []
    *_, name = Classifier.from_directory(models).class_names
    page.get_by_role("radio", name=name, exact=True).check()
    send.click()
    page.get_by_text(f"Thank you: kept as {name}").wait_for()
    (file,) = told.rglob("*.png")
    assert file.parent.name == folder_name(name)
    # The next picture begins anew.
    upload(page, str(samples(models)[1]))
    await_verdict(page, expected(models, samples(models)[1]))
    page.get_by_text("Thank you").wait_for(state="hidden")
    assert page.get_by_role("radio", checked=True).count() == 0
