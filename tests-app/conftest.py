"""A browser, and pages of `python -m tfface.app`, which `make test-app` uses."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
SCREENSHOTS = ROOT / "build" / "screenshots"
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="session")
def browser():
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not path:
        pytest.fail("these tests need Chromium: run them by make test-app", pytrace=False)
    with sync_playwright() as playwright:
        # Without a sandbox, which needs rights that containers do not have; the camera shows a
        # test image.
        flags = ["--no-sandbox", "--use-fake-ui-for-media-stream",
                 "--use-fake-device-for-media-stream"]  # fmt: skip
        started = playwright.chromium.launch(executable_path=path, args=flags)
        yield started
        started.close()


class Process:
    """A command that prints that it is ready."""

    def __init__(self, log, *words):
        self.log = log
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *words], stdout=out, stderr=out, cwd=ROOT
            )

    def ready_at(self, pattern):
        """The address in the line of the log that matches."""
        for _ in range(6000):
            if found := re.search(pattern, self.log.read_text()):
                return found[1]
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def stop(self):
        self.process.terminate()
        return self.process.wait(60)


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """Starts commands; those that still run at the end are killed."""
    folder, started = tmp_path_factory.mktemp("logs"), []

    def run(*words):
        started.append(Process(folder / f"{len(started)}.log", *words))
        return started[-1]

    yield run
    for process in started:
        process.process.kill()
        process.process.wait()


@pytest.fixture(scope="session")
def url(start):
    """The page with the shipped models."""
    return start("tfface.app", "--port=0").ready_at(r"ready at (http\S+)")


@pytest.fixture
def open_page(browser):
    """Opens a page at a width; fails at the end if it used other sites or logged errors."""
    contexts, wrong = [], []

    def note_request(request):
        if not re.match(r"(http://127\.0\.0\.1[:/]|data:|blob:)", request.url):
            wrong.append(request.url)

    def visit(url, width="desktop"):
        across, down = WIDTHS[width]
        phone = width == "phone"
        context = browser.new_context(
            viewport={"width": across, "height": down}, has_touch=phone, is_mobile=phone,
            permissions=["camera"],
        )  # fmt: skip
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("request", note_request)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(url)
        page.get_by_role("heading", name="tfface").wait_for()
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture
def screenshot():
    """Saves a page, and checks that nothing is wider than it."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)

    def save(page, name):
        page.wait_for_timeout(500)  # Until animations have ended.
        page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
        wide = page.evaluate("document.documentElement.scrollWidth")
        expected = page.viewport_size["width"]
        assert wide <= expected, f"{name} is {wide} pixels wide: expected {expected}"

    return save
