"""The painting page in a real Chromium: draw, follow, upload, style, undo, save, link; desktop and phone. And films."""

import base64
import io
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from reference_cases import write_model
from test_app import MODEL, file_of
from test_film import write

from model.data.palettes import class_names, palette
from model.data.sample import make_scene
from model.serving.page import build_page, launch_page
from model.serving.painting import Studio
from model.serving.synthesizer import Synthesizer

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync"
NAMES = class_names("coco_stuff", 182)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH"),
]
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page of the model in $APP_MODEL, or of a tiny untrained one."""
    folder = os.environ.get("APP_MODEL") or write_model(tmp_path_factory.mktemp("model"), MODEL)
    page = build_page(Studio(Synthesizer.load(folder, device="cpu")))
    yield launch_page(page, "127.0.0.1", None, prevent_thread_lock=True)
    page.close(verbose=False)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield chromium
        chromium.close()


class Page:
    """The studio in one window."""

    def __init__(self, browser, address, width=1280, height=860, **more):
        self.context = browser.new_context(viewport={"width": width, "height": height}, **more)
        self.page = self.context.new_page()
        self.problems, self.hosts = [], set()
        self.page.on("console", lambda message: message.type == "error" and self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        self.open(address)

    def open(self, address):
        self.page.goto(address)
        self.page.wait_for_selector(".studio[data-state=ready]")
        self.settle()

    def settle(self):
        """Wait for the picture of the drawing as it is now; returns it."""
        self.page.wait_for_function(
            "() => document.querySelector('.studio').dataset.pictures > 0"
            " && document.querySelector('.studio').dataset.following === 'false'"
        )
        return self.page.get_attribute(".result img", "src")

    def changed(self, before):
        """The picture after it became another one than `before`."""
        self.page.wait_for_function("before => document.querySelector('.result img').src !== before", arg=before)
        return self.settle()

    def drawing(self):
        """Colours uint8 [H,W,3] on the canvas."""
        url = self.page.evaluate("() => document.querySelector('.canvas canvas').toDataURL()")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))

    def choose(self, name):
        self.page.locator(".search").press_sequentially(name)
        assert all(name in text for text in self.page.locator(".list button").all_inner_texts())
        self.page.click(f".list button[data-id='{NAMES.index(name)}']")
        self.page.fill(".search", "")
        assert self.page.locator(".list button").count() == 183 and self.page.inner_text(".chosen b") == name

    def stroke(self, *points):
        """Draw along points, in shares of the canvas."""
        box = self.page.locator(".canvas canvas").bounding_box()
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place, steps=8)
        self.page.mouse.up()

    def message(self):
        self.page.wait_for_selector(".message:not([hidden])")
        return self.page.inner_text(".message span")


@pytest.fixture
def window(browser, address):
    opened = []

    def open_window(**options):
        opened.append(Page(browser, address, **options))
        return opened[-1]

    yield open_window
    for page in opened:
        page.context.close()


def colour(name):
    return palette("coco_stuff", 183)[NAMES.index(name)]


def share(drawing, name):
    return (drawing == colour(name)).all(axis=-1).mean()


@pytest.fixture
def sea(window):
    """A window with a sheet of sea, in which a stroke of giraffe was drawn, and its picture."""
    studio = window(accept_downloads=True, permissions=["clipboard-read", "clipboard-write"])
    picture = studio.settle()
    studio.choose("sea")
    studio.page.click("[data-do=blank]")
    picture = studio.changed(picture)
    assert share(studio.drawing(), "sea") == 1
    studio.choose("giraffe")
    studio.stroke((0.2, 0.2), (0.8, 0.2), (0.8, 0.6))
    return studio, studio.changed(picture)


def test_the_canvas_holds_the_colours_of_classes_alone(sea, address):
    studio, _ = sea
    assert 0.05 < share(studio.drawing(), "giraffe") < 0.4
    assert share(studio.drawing(), "giraffe") + share(studio.drawing(), "sea") == 1
    assert not studio.problems and studio.hosts == {address.split("/")[2]}  # nothing from the internet


def test_brush_fill_eraser_pick_and_undo(sea):
    studio, _ = sea
    page, after_stroke = studio.page, studio.drawing()
    page.fill(".brush", "1")
    studio.choose("sheep")
    studio.stroke((0.1, 0.9), (0.1, 0.9))
    assert share(studio.drawing(), "sheep") == 1 / len(after_stroke) ** 2
    page.keyboard.press("f")
    studio.choose("snow")
    studio.stroke((0.5, 0.2))
    assert share(studio.drawing(), "snow") == share(after_stroke, "giraffe")
    page.fill(".brush", "9")
    page.click("[data-tool=erase]")
    studio.stroke((0.2, 0.2), (0.8, 0.2))
    erased = studio.drawing()
    assert 0 < share(erased, "snow") < share(after_stroke, "giraffe")
    page.click("[data-tool=pick]")
    studio.stroke((0.1, 0.9))
    assert page.inner_text(".chosen b") == "sheep"
    for _ in range(3):
        page.click("[data-do=undo]")
    assert (studio.drawing() == after_stroke).all()
    for _ in range(3):
        page.keyboard.press("Control+y")
    assert (studio.drawing() == erased).all() and not studio.problems


@pytest.fixture
def styled(sea):
    """The window, with an object of sea in the sea, and a style from a picture of the gallery; and its picture."""
    studio, picture = sea
    page, before = studio.page, share(studio.drawing(), "sea")
    page.check(".separate input")
    studio.choose("sea")
    studio.stroke((0.3, 0.8), (0.7, 0.8))
    picture = studio.changed(picture)  # which sees an edge between objects of one class
    assert share(studio.drawing(), "sea") < before
    page.fill(".seed input", "77")
    page.press(".seed input", "Enter")
    picture = studio.changed(picture)
    page.click(".slot[data-slot='1']")
    page.click(".style .tiles [data-gallery='2']")
    picture = studio.changed(picture)
    page.fill(".mix", "100")
    return studio, studio.changed(picture)


def test_label_map_and_picture_are_saved_as_they_are(styled, tmp_path):
    """And the map comes back by upload, without its objects."""
    studio, picture = styled
    for kind in ("map", "picture"):
        with studio.page.expect_download() as download:
            studio.page.click(f"[data-do={kind}]")
        download.value.save_as(tmp_path / f"{kind}.png")
    assert (tmp_path / "picture.png").read_bytes() == base64.b64decode(picture.partition(",")[2])
    saved = np.asarray(Image.open(tmp_path / "map.png"))
    coloured = palette("coco_stuff", 183)[saved]
    assert ((coloured == studio.drawing()).all(axis=-1) | (saved == NAMES.index("sea"))).all()
    studio.page.set_input_files(".start input[type=file]", tmp_path / "map.png")
    studio.changed(picture)
    assert (studio.drawing() == coloured).all() and not studio.problems


def test_a_link_brings_drawing_and_style_back_in_another_window(styled, window, address):
    studio, picture = styled
    studio.page.click("[data-do=link]")
    assert "link is copied" in studio.message()
    link = studio.page.evaluate("() => navigator.clipboard.readText()")
    assert link.startswith(address) and link == studio.page.url
    other = window()
    other.page.goto("about:blank")  # else only the part behind # changes
    other.open(link)
    assert other.settle() == picture and (other.drawing() == studio.drawing()).all()
    assert not studio.problems and not other.problems


def test_photos_and_bad_uploads(window, tmp_path):
    studio = window()
    picture = studio.settle()
    photo, label, _ = make_scene(np.random.default_rng(9), (200, 300))
    Image.fromarray(photo).save(tmp_path / "photo.jpg")
    studio.page.set_input_files(".style input[type=file]", tmp_path / "photo.jpg")
    picture = studio.changed(picture)
    bad = {
        "fake.png": (b"no picture", "the file is not a picture"), "large.png": (bytes(11 * 2**20), "at most 10 MB"),
        "ids.png": (file_of(Image.fromarray(np.where(label == 255, 200, label).astype(np.uint8))), "holds ids 200"),
    }  # fmt: skip
    before = studio.drawing()
    for name, (content, message) in bad.items():
        (tmp_path / name).write_bytes(content)
        studio.page.set_input_files(".start input[type=file]", tmp_path / name)
        assert studio.message().startswith(f"{name}: ") and message in studio.message()
        studio.page.click(".message button")
    assert (studio.drawing() == before).all() and studio.settle() == picture
    studio.page.click(".start .tiles button:last-child")  # and the page goes on
    studio.changed(picture)


def test_links_of_others_do_no_harm(window, address):
    studio = window()
    for tail in ("#s=AAAA", "#s=eJwrTs1JTS4BAAiDAo4&d=AAAA", "#d=x", "#s="):
        studio.page.goto("about:blank")
        studio.open(address + tail)
        assert studio.page.locator(".list button").count() == 183
    assert not studio.problems


def test_phone(window):
    studio = window(width=390, height=844, has_touch=True, is_mobile=True, device_scale_factor=2)
    page, picture = studio.page, studio.settle()
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")  # nothing sticks out
    canvas = page.locator(".canvas canvas").bounding_box()
    assert canvas["width"] > 340 and canvas["y"] + canvas["height"] < 844  # drawing and picture on the first screen
    shown = page.locator(".result img").bounding_box()
    assert shown["width"] > 140 and shown["y"] + shown["height"] < 844
    for button in page.locator(".studio button:visible").all():
        box = button.bounding_box()
        assert box["height"] >= 30 and box["width"] >= 30
    before = studio.drawing()
    page.touchscreen.tap(canvas["x"] + 0.5 * canvas["width"], canvas["y"] + 0.9 * canvas["height"])  # sky on ground
    studio.changed(picture)
    assert (studio.drawing() != before).any() and not studio.problems
    page.tap(".result img")
    assert page.locator(".result img").bounding_box()["width"] > 360
    page.tap(".result img")
    assert page.locator(".result img").bounding_box() == shown


def test_busy_sign_and_a_server_that_went_away(window):
    studio = window()
    page, picture = studio.page, studio.settle()
    page.route("**/call/paint/*", lambda route: (page.wait_for_timeout(1500), route.continue_()))
    page.click(".start .tiles button:last-child")
    page.wait_for_selector(".result[aria-busy=true]")
    picture = studio.changed(picture)
    page.unroute("**/call/paint/*")
    page.route("**/call/**", lambda route: route.abort())
    page.click(".start .tiles button:nth-child(3)")
    assert "does not answer" in studio.message()
    page.unroute("**/call/**")
    page.click(".start .tiles button:nth-child(4)")
    studio.changed(picture)


def test_films_play(browser, tmp_path):
    write(tmp_path / "a.mp4")
    source = base64.b64encode((tmp_path / "a.mp4").read_bytes()).decode()
    page = browser.new_page()
    page.set_content(f'<video muted src="data:video/mp4;base64,{source}"></video>')
    size = page.evaluate(
        "async () => { const v = document.querySelector('video'); const ended = new Promise(r => v.onended = r);"
        " await v.play(); await ended; return [v.videoWidth, v.videoHeight, v.duration]; }"
    )
    page.close()
    assert size == [64, 32, pytest.approx(1, abs=0.05)]
