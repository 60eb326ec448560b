"""What the browser tests do to the page, and the server and screens they do it with."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from PIL import Image

from app.classifier import Classifier
from app.pictures import to_model_input

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
TABS = {
    "Try it": "",
    "How good is it": "-quality",
    "Drift": "-drift",
    "About": "-about",
}  # and what their screenshots' names end in
AXE = "4.14.1"  # of axe-core on npm
AXE_SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"  # of its axe.min.js
# What sticks out of the screen at the right, except in a box that scrolls by itself.
SIDEWAYS = """() => [...document.querySelectorAll("body *")].filter(element => element.checkVisibility()
  && !element.parentElement.closest(".scroll")
  && element.getBoundingClientRect().right > innerWidth + 1).map(element => element.outerHTML.slice(0, 120))"""


@contextlib.contextmanager
def serving(models, **settings):
    """The address of a server with these models."""
    own = {"HOST": "127.0.0.1", "PORT": "0", "MODEL_DIR": str(models), "MAX_UPLOAD_MB": "10"}
    environment = {**os.environ, **own, **settings}
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


def selected(page) -> list[str]:
    return page.get_by_role("tab", selected=True).all_inner_texts()
