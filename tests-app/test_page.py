"""Each tab of the page, used as a person would, on a desktop and on a phone."""

from __future__ import annotations

import io
import shutil
import socket
import urllib.request

import numpy as np
import pytest
from PIL import Image

from tfface.data.images import read_mark
from tfface.data.label_maps import CLASSES_19, save_label_map
from tfface.web.examples import faces, label_map_of

SLOW = 120_000  # ms; the first result of a model builds its graph.
WIDTHS = pytest.mark.parametrize("width", ["desktop", "phone"])


def tab(page, name):
    page.get_by_role("tab", name=name).click()
    return page.get_by_role("tabpanel").filter(visible=True)


def chosen(panel):
    """URLs of the chosen images."""
    return panel.evaluate(
        """panel => [...panel.querySelectorAll("img")]
            .filter(image => !image.closest(".examples, .results, .blocks, .painter"))
            .map(image => image.src)"""
    )


def choose(panel, number, strip=0):
    """Chooses an example face."""
    before = chosen(panel)
    panel.locator(".examples").nth(strip).locator("button.thumbnail-item").nth(number).click()
    wait(panel.page, lambda: chosen(panel) != before)


def uploaded(panel):
    return [url for url in chosen(panel) if url.startswith("http")]


def wait(page, condition):
    for _ in range(SLOW // 200):
        if condition():
            return
        page.wait_for_timeout(200)
    raise AssertionError("waited too long")


def choose_option(page, panel, label, option):
    panel.get_by_label(label).click()
    page.get_by_role("option", name=option, exact=True).click()


def results(panel, count, before=()):
    """URLs of the results, when as many new ones are shown."""

    def urls():
        images = panel.locator(".results button.thumbnail-item img")
        return images.evaluate_all("images => images.map(image => image.src)")

    wait(panel.page, lambda: len(urls()) == count and urls() != list(before))
    return urls()


def download(url, folder):
    with urllib.request.urlopen(url) as reply:
        data = reply.read()
    file = folder / "result.png"
    file.write_bytes(data)
    return file, np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.int32)


def alert(page, *words):
    """Waits for an error in the page that has these words, and closes it."""
    message = page.locator(".toast-body").first
    message.wait_for(timeout=SLOW)
    text = message.inner_text()
    assert all(word in text for word in words), text
    assert "Traceback" not in text
    message.get_by_test_id("toast-close").click()
    message.wait_for(state="detached")


@WIDTHS
def test_expression(url, open_page, screenshot, width, tmp_path):
    page = open_page(url, width)
    panel = tab(page, "Expression")
    assert "not suitable for photographs" in panel.inner_text()
    panel.get_by_role("button", name="Change the expression").click()
    alert(page, "there is no image")
    choose(panel, 1)
    choose_option(page, panel, "Expression", "happy")
    panel.get_by_role("button", name="Change the expression").click()
    [happy] = results(panel, 1)
    file, edited = download(happy, tmp_path)
    before = np.asarray(Image.open(faces()[1]).convert("RGB"), np.int32)
    change = np.abs(edited - before).max(-1)
    assert change.max() > 40 and (change < 8).mean() > 0.5
    assert read_mark(file).source == "compositeWithTrainedAlgorithmicMedia"
    choose_option(page, panel, "Expression", "all")
    panel.get_by_role("button", name="Change the expression").click()
    results(panel, 8)
    screenshot(page, f"expression-{width}")


def test_expression_of_an_uploaded_file_and_of_the_camera(url, open_page, tmp_path):
    page = open_page(url)
    panel = tab(page, "Expression")
    panel.locator("input[type=file]").first.set_input_files(faces()[3])
    wait(page, lambda: uploaded(panel))
    choose_option(page, panel, "Expression", "sad")
    panel.get_by_role("button", name="Change the expression").click()
    [first] = results(panel, 1)
    _, edited = download(first, tmp_path)
    assert edited.shape == (256, 256, 3)
    panel.get_by_label("Remove Image").or_(panel.get_by_label("Clear")).first.click()
    panel.get_by_label("Capture from camera").or_(panel.get_by_label("Webcam")).first.click()
    panel.get_by_text("Click to Access Webcam").click()
    panel.get_by_label("capture photo").click()
    wait(page, lambda: uploaded(panel))
    panel.get_by_role("button", name="Change the expression").click()
    [second] = results(panel, 1, [first])
    _, edited = download(second, tmp_path)
    assert edited.shape[:2] != (256, 256)  # Of the camera, whose test image is plain.


@pytest.fixture(scope="module")
def photo_url(start, tmp_path_factory):
    """The page with a run on class folders with a crop, as one trained on photographs."""
    root = tmp_path_factory.mktemp("photographs")
    for number, face in enumerate(faces()[:4]):
        folder = root / "faces" / ("happy" if number % 2 else "sad")
        folder.mkdir(parents=True, exist_ok=True)
        for copy in range(12):
            shutil.copy(face, folder / f"{number}-{copy}.png")
    options = {"data.name": "folder", "data.path": root / "faces", "data.crop": "celeba"}
    words = [f"--{name}={value}" for name, value in options.items()]
    training = start("tfface.train", "sargan", "--preset=tiny", f"--run={root / 'run'}", *words)
    assert training.process.wait(300) == 0, training.log.read_text()
    return start("tfface.app", str(root / "run"), "--port=0").ready_at(r"ready at (http\S+)")


@WIDTHS
def test_photograph(photo_url, open_page, screenshot, width, tmp_path):
    photograph = Image.new("RGB", (600, 400), (90, 120, 150))
    photograph.paste(Image.open(faces()[1]).convert("RGB"), (200, 80))
    photograph.save(tmp_path / "photograph.png")
    page = open_page(photo_url, width)
    panel = tab(page, "Expression")
    assert "trained on photographs" in panel.inner_text()
    panel.locator("input[type=file]").first.set_input_files(tmp_path / "photograph.png")
    wait(page, lambda: uploaded(panel))
    choose_option(page, panel, "Expression", "happy")
    panel.get_by_role("button", name="Change the expression").click()
    [happy] = results(panel, 1)
    _, edited = download(happy, tmp_path)
    changed = np.abs(edited - np.asarray(photograph, np.int32)).max(-1) > 0
    assert changed[80:336, 200:456].any() and not changed[:, :160].any()
    assert not changed[:, 496:].any()
    screenshot(page, f"photograph-{width}")


@WIDTHS
def test_attributes(url, open_page, screenshot, width, tmp_path):
    page = open_page(url, width)
    panel = tab(page, "Attributes")
    choose(panel, 0)
    panel.get_by_label("Eyeglasses").check()
    panel.get_by_role("button", name="Transfer", exact=True).click()
    alert(page, "reference is missing")
    choose(panel, 5, strip=1)
    panel.get_by_role("button", name="Transfer", exact=True).click()
    one = results(panel, 1)
    panel.get_by_label("Smiling").check()
    panel.get_by_role("button", name="Transfer", exact=True).click()
    two = results(panel, 1, one)
    assert not np.array_equal(download(one[0], tmp_path)[1], download(two[0], tmp_path)[1])
    choose(panel, 7, strip=1)
    choose_option(page, panel, "Result", "3 x 3 interpolation")
    panel.get_by_role("button", name="Transfer", exact=True).click()
    corners = results(panel, 9)
    first, last = (download(corners[i], tmp_path)[1] for i in (0, 8))
    original = np.asarray(Image.open(faces()[0]).convert("RGB"), np.int32)
    assert np.abs(first - original).max() <= 2 < np.abs(last - original).max()
    screenshot(page, f"attributes-{width}")


def codes(panel):
    """Number of pixels by colour on the canvas."""
    return panel.locator(".painter canvas").evaluate(
        """canvas => {
            const { width, height } = canvas;
            const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
            const counts = {};
            for (let at = 0; at < data.length; at += 4) {
                const key = data.slice(at, at + 3).join();
                counts[key] = (counts[key] || 0) + 1;
            }
            return counts;
        }"""
    )


@WIDTHS
def test_paint(url, open_page, screenshot, width, tmp_path):
    page = open_page(url, width)
    panel = tab(page, "Paint")
    panel.locator(".painter canvas").wait_for()
    panel.get_by_label("Example 2").click()
    page.wait_for_timeout(500)
    before = codes(panel)
    hat = "255,51,153"
    panel.get_by_text("hat", exact=True).click()
    panel.locator(".painter canvas").scroll_into_view_if_needed()
    box = panel.locator(".painter canvas").bounding_box()
    across, top = box["x"] + box["width"] / 2, box["y"] + box["height"] / 8
    page.mouse.move(across - box["width"] / 6, top)
    page.mouse.down()
    page.mouse.move(across + box["width"] / 6, top, steps=5)
    page.mouse.up()
    brushed = codes(panel)
    assert brushed.get(hat, 0) > before.get(hat, 0) + 20
    assert set(brushed) - set(before) <= {hat}  # No colours in between.
    panel.get_by_text("Fill", exact=True).click()
    panel.locator(".painter canvas").scroll_into_view_if_needed()
    box = panel.locator(".painter canvas").bounding_box()
    page.mouse.click(box["x"] + 4, box["y"] + 4)  # The background.
    assert codes(panel)[hat] > brushed[hat] + 200
    panel.get_by_role("button", name="Undo").click()
    assert codes(panel) == brushed
    panel.get_by_role("button", name="Generate").click()
    random = results(panel, 4)
    files, images = zip(*(download(url, tmp_path) for url in random), strict=True)
    assert read_mark(files[0]).source == "trainedAlgorithmicMedia"
    assert not np.array_equal(images[0], images[1])
    choose(panel, 2)
    panel.get_by_role("button", name="Generate").click()
    results(panel, 1)
    screenshot(page, f"paint-{width}")


def test_paint_on_an_opened_file(url, open_page, tmp_path):
    page = open_page(url)
    panel = tab(page, "Paint")
    panel.locator(".painter canvas").wait_for()
    labels = np.full((100, 100), CLASSES_19.index("skin"), np.uint8)
    save_label_map(labels, tmp_path / "map.png")
    panel.locator("input[type=file][accept*=png]").first.set_input_files(tmp_path / "map.png")
    wait(page, lambda: codes(panel) == {"204,0,0": 64 * 64})
    Image.new("RGB", (64, 64), (1, 2, 3)).save(tmp_path / "photo.png")
    panel.locator("input[type=file][accept*=png]").first.set_input_files(tmp_path / "photo.png")
    alert(page, "photo.png", "colour (1, 2, 3)")


@WIDTHS
def test_exemplar(url, open_page, screenshot, width, tmp_path):
    page = open_page(url, width)
    panel = tab(page, "Exemplar")
    panel.locator(".painter canvas").wait_for()
    panel.get_by_role("button", name="Generate").click()
    alert(page, "no exemplar")
    choose(panel, 4)
    panel.get_by_role("button", name="Generate").click()
    [one] = results(panel, 1)
    file, image = download(one, tmp_path)
    assert image.shape == (64, 64, 3)
    assert read_mark(file).source == "trainedAlgorithmicMedia"
    panel.get_by_label("Example 3").click()
    panel.get_by_role("button", name="Generate").click()
    results(panel, 1, [one])
    for block in ((3, 4), (7, 0)):
        before = blocks(panel)
        click_block(panel, *block)
        wait(page, lambda before=before: len(blocks(panel)) == 2 and blocks(panel) != before)
        face, exemplar = (download(url, tmp_path)[1] for url in blocks(panel))
        assert outlined(face) == {block} and len(outlined(exemplar)) == 8
        screenshot(page, f"exemplar-{width}-{block[0]}-{block[1]}")


def blocks(panel):
    """URLs of the face, and of the exemplar once a point was clicked."""
    return panel.locator(".blocks img").evaluate_all("images => images.map(image => image.src)")


def click_block(panel, row, column):
    """Clicks the middle of one of 8 x 8 blocks of the face, which is scaled to fit."""
    image = panel.locator(".blocks img").first
    box = image.bounding_box()
    side = min(box["width"], box["height"])
    across, down = (box["width"] - side) / 2, (box["height"] - side) / 2
    at = {"x": across + (column + 0.5) * side / 8, "y": down + (row + 0.5) * side / 8}
    image.click(position=at)


def outlined(image):
    """Rows and columns of the 8 x 8 blocks whose upper left corner is coloured as outlines are."""
    corners = image[:: len(image) // 8, :: len(image) // 8]
    coloured = corners[..., 1:].min(-1) - corners[..., 0] > 60
    return {tuple(map(int, block)) for block in np.argwhere(coloured)}


@WIDTHS
def test_parts(url, open_page, screenshot, width):
    page = open_page(url, width)
    panel = tab(page, "Parts")
    choose(panel, 5)
    panel.get_by_role("button", name="Find the parts").click()
    panel.get_by_text("upper lip").first.wait_for(timeout=SLOW)
    for part in ("skin", "hair", "nose", "left eye", "glasses"):
        assert panel.get_by_text(part, exact=True).count()
    screenshot(page, f"parts-{width}")


def test_keyboard(url, open_page):
    """An expression and a painted pixel without a mouse."""
    page = open_page(url)
    panel = tab(page, "Expression")
    reach(page, "button.thumbnail-item")
    page.keyboard.press("Enter")
    wait(page, lambda: chosen(panel))
    reach(page, "button.primary")
    page.keyboard.press("Enter")
    results(panel, 8)
    page.get_by_role("tab", name="Paint").focus()
    page.keyboard.press("Enter")
    panel = page.get_by_role("tabpanel").filter(visible=True)
    panel.locator(".painter canvas").wait_for()
    before = codes(panel)
    reach(page, ".painter canvas")
    for key in (*["ArrowUp"] * 14, "Shift+ArrowLeft", "Space"):
        page.keyboard.press(key)
    painted = codes(panel)
    assert painted != before
    page.keyboard.press("Control+z")
    assert codes(panel) == before


def reach(page, selector):
    """Presses Tab until an element that matches has the focus."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} cannot be reached by Tab")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def test_a_server_that_stops_and_returns(start, open_page, screenshot):
    port = free_port()
    words = ("tfface.serve", "sargan/faces64", f"--port={port}")
    server = start(*words)
    server.ready_at(r"ready at (\S+:\d+)")
    app = start("tfface.app", "--port=0", f"--server=127.0.0.1:{port}")
    page = open_page(app.ready_at(r"ready at (http\S+)"))
    assert [item.inner_text() for item in page.get_by_role("tab").all()] == ["Expression"]
    panel = tab(page, "Expression")
    assert "not suitable for photographs" in panel.inner_text()
    choose(panel, 0)
    panel.get_by_role("button", name="Change the expression").click()
    shown = results(panel, 8)
    server.stop()
    panel.get_by_role("button", name="Change the expression").click()
    page.locator(".toast-body").first.wait_for(timeout=SLOW)
    screenshot(page, "server-stopped")
    alert(page, f"127.0.0.1:{port}", "start the server again")
    start(*words).ready_at(r"ready at (\S+:\d+)")
    panel.get_by_role("button", name="Change the expression").click()
    results(panel, 8, shown)
    assert app.stop() == 0


def test_a_server_that_is_not_there(start):
    app = start("tfface.app", "--port=0", f"--server=127.0.0.1:{free_port()}")
    assert app.process.wait(300) == 2
    lines = app.log.read_text().splitlines()
    assert len(lines) == 1 and "start the server" in lines[0]


def test_label_maps_of_the_examples_are_there():
    assert all(label_map_of(face).exists() for face in faces())
