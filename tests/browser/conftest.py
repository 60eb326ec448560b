"""The page in a real browser, with the real server beside it.

ATELIER_MODELS names a model directory to try; without it a tiny model of three shapes is served.
ATELIER_SCREENSHOTS names a folder that the screenshots go to; without it they go with the test's temporary files.
"""

import hashlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.app import tiny_model
from tests.browser.driver import AXE, AXE_SHA256, CHROMIUM, DESKTOP, FLAGS, serving

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.browser)
            item.add_marker(
                pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs {CHROMIUM}: apt-get install chromium")
            )


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    given = os.environ.get("ATELIER_MODELS")
    return Path(given) if given else tiny_model.write(tmp_path_factory.mktemp("browser") / "models")


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory):
    folder = Path(os.environ.get("ATELIER_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def told(tmp_path_factory):
    """Where the server keeps what visitors say the right class is."""
    return tmp_path_factory.mktemp("feedback")


@pytest.fixture(scope="session")
def address(models, told):
    with serving(models, FEEDBACK_DIR=str(told)) as address:
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
