"""The page's tabs, its looks on every screen, and what a screen reader makes of it."""

import contextlib
import json
import re
import urllib.request

import numpy as np
import onnx
import pytest
from PIL import Image

from app.classifier import Classifier
from app.main import Settings, create_app
from tests.app import tiny_model
from tests.app.served import served
from tests.browser.driver import (
    DESKTOP,
    PHONE,
    SCREENS,
    SIDEWAYS,
    TABS,
    await_verdict,
    findings,
    samples,
    selected,
    serving,
    upload,
)


def test_tabs_by_mouse(visit, models):
    page = visit()
    upload(page, str(samples(models)[0]))
    page.locator("#answer .verdict").wait_for()
    answer = page.locator("#answer").inner_text()
    for tab, shown in (
        ("How good is it", ".report"),
        ("Drift", "#drift .report"),
        ("About", "#card"),
        ("Try it", "#picture"),
    ):
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
        ("ArrowRight", "Drift"),
        ("ArrowRight", "About"),
        ("ArrowRight", "Try it"),
        ("ArrowLeft", "About"),
        ("Home", "Try it"),
        ("End", "About"),
        ("ArrowLeft", "Drift"),
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
    page.get_by_role("button", name="Wrong?").click()
    page.get_by_role("radio").last.check()
    page.wait_for_timeout(500)
    assert findings(page, axe) == []
    for tab in ("Draw", "Picture", *TABS):
        page.get_by_role("tab", name=tab, exact=True).click()
        page.wait_for_timeout(300)
        assert findings(page, axe) == [], tab


@pytest.mark.parametrize("name", SCREENS)
def test_drift_is_drawn_to_its_newest_window(visit, address, axe, models, screenshots, name):
    for path in samples(models) * 40:
        request = urllib.request.Request(
            f"{address}/v1/predict", path.read_bytes(), {"content-type": "application/octet-stream"}
        )
        urllib.request.urlopen(request).close()
    page = visit(**SCREENS[name])
    page.get_by_role("tab", name="Drift").click()
    table = page.get_by_role("table")
    table.wait_for()
    assert table.get_by_role("row").count() == 9
    for drawing in table.get_by_role("img").all():
        box = drawing.bounding_box()
        assert box["x"] + box["width"] <= page.viewport_size["width"]
    page.wait_for_timeout(300)
    page.screenshot(path=screenshots / f"{name}-drift-windows.png", full_page=True)
    assert page.evaluate(SIDEWAYS) == []
    assert findings(page, axe) == []


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
    told = {"FEEDBACK_DIR": str(tmp_path / "told")}
    with serving(models, **told) as address, contextlib.closing(browser.new_page(**PHONE)) as page:
        page.on("request", lambda request: requests.append(request.url))
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        page.goto(address)
        page.locator("#samples button").first.click()
        await_verdict(page, hostile)
        page.get_by_role("button", name="Wrong?").click()
        page.get_by_role("radio", name="onerror").wait_for()
        for tab, text in (("Try it", "#answer"), ("How good is it", ".report"), ("About", "#card")):
            page.get_by_role("tab", name=tab).click()
            assert "onerror=alert(1)" in page.locator(text).inner_text()
            assert page.evaluate(SIDEWAYS) == [], tab
    assert dialogs == []
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []


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
