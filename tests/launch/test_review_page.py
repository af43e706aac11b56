"""The page of a reader study in a real browser: Debian's Chromium, driven by Playwright."""

import pathlib
import shutil

import numpy as np
import pytest
from playwright.sync_api import expect, sync_playwright

from tests.launch import reviews

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here (apt-get install chromium)"
)
READY = "body[data-ready]"


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def rate(browser):
    """Opens a page as a rater; fails the test where the page's console has an error."""
    contexts, errors = [], []

    def opened(server, who="rater-1", **options):
        context = browser.new_context(viewport={"width": 1280, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.goto(server.addresses[who])
        page.wait_for_selector(READY)
        return page

    opened.errors = errors
    yield opened
    for context in contexts:
        context.close()
    assert not errors


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    """80 synthetic images and 9 real ones of 8 bits, for tests that take a rater each."""
    workdir = reviews.make(tmp_path_factory.mktemp("grey"))
    raters = ("rater-1", "ada", "bob", "cleo", "dora")
    with reviews.here(workdir, raters=raters, repeats=0.0) as server:
        yield server


def saved(page):
    expect(page.locator("#saved")).to_have_text("all saved", timeout=30_000)


def place(page):
    page.wait_for_selector("#stage[aria-busy=false]")
    return page.get_attribute("#stage", "data-place")


def press(page, keys):
    """Presses keys one after the other, each when the image after the last one is there."""
    for key in keys:
        page.wait_for_selector("#stage[aria-busy=false]")
        page.keyboard.press("Space" if key == " " else key)


def picture(page, canvas="#image"):
    """What a canvas shows, uint8 [H, W, 4]."""
    shown = page.evaluate(
        """(name) => {
          const canvas = document.querySelector(name);
          const { width, height } = canvas;
          const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
          return { width, height, data: Array.from(data) };
        }""",
        canvas,
    )
    return np.array(shown["data"], np.uint8).reshape(shown["height"], shown["width"], 4)


def current(server, who):
    return server.service.study.store.current("main", who)


def test_fifty_images_by_keyboard_alone_undo_and_restart(grey, rate):
    page = rate(grey)
    shown = []
    for key in ("fj " * 17)[:50]:
        shown.append(int(place(page)))
        press(page, key)
    saved(page)
    words = {"f": "real-like", "j": "non-real-like", " ": "unsure"}
    marks = current(grey, "rater-1")
    assert {p: mark.label for p, mark in marks.items()} == {
        p: words[key] for p, key in zip(shown, ("fj " * 17)[:50], strict=True)
    }
    assert len(set(shown)) == 50
    assert "50 of 89" in page.inner_text("#pace")
    assert "left" in page.inner_text("#pace")
    press(page, "uu")
    saved(page)
    assert place(page) == str(shown[48])
    assert len(current(grey, "rater-1")) == 48
    assert len(grey.service.study.store.history("main", "rater-1")) == 52
    press(page, "2tx")
    page.keyboard.press("Enter")
    press(page, "j")
    saved(page)
    assert current(grey, "rater-1")[shown[48]].faults == ("texture", "x")
    # A changed mind: look back and say otherwise.
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#said") == "labelled non-real-like"
    press(page, "f")
    saved(page)
    assert current(grey, "rater-1")[shown[48]].label == "real-like"
    before = place(page)
    rate.errors.clear()
    grey.stop()
    press(page, "f")  # nobody hears it yet
    expect(page.locator("#saved")).to_contain_text("not saved")
    grey.start()
    saved(page)
    assert current(grey, "rater-1")[int(before)].label == "real-like"
    rate.errors.clear()  # of the browser, about the time without a server
    page.reload()
    page.wait_for_selector(READY)
    assert "50 of 89" in page.inner_text("#pace")
    assert int(place(page)) not in current(grey, "rater-1")
    press(page, "u")  # undo knows what was said before the page was opened
    saved(page)
    assert place(page) == before


def test_two_raters_at_once(grey, rate):
    ada, bob = rate(grey, "ada"), rate(grey, "bob")
    for _ in range(10):
        press(ada, "f")
        press(bob, "j")
    saved(ada)
    saved(bob)
    assert {mark.label for mark in current(grey, "ada").values()} == {"real-like"}
    assert {mark.label for mark in current(grey, "bob").values()} == {"non-real-like"}
    assert len(current(grey, "ada")) == len(current(grey, "bob")) == 10


def test_lead_and_rater_fit_into_one_browser(grey, rate):
    page = rate(grey, "bob")
    before = len(current(grey, "bob"))
    lead = page.context.new_page()
    assert lead.goto(grey.addresses["statistics"]).status == 200
    assert "Krippendorff" in lead.inner_text("body")
    press(page, "f")
    saved(page)
    assert len(current(grey, "bob")) == before + 1


def test_skipped_images_come_back_in_the_end(grey, rate):
    page = rate(grey, "dora")
    first = place(page)
    press(page, "s" + "f" * 88)
    saved(page)
    assert place(page) == first
    press(page, "f")
    saved(page)
    assert page.is_visible("#end")
    assert {mark.label for mark in current(grey, "dora").values()} == {"real-like"}
    assert len(current(grey, "dora")) == 89


def test_grid_mode_marks_the_bad_ones_and_enter_labels_all(grey, rate):
    page = rate(grey, "cleo")
    page.keyboard.press("g")
    cells = page.locator("#cells button")
    expect(cells).to_have_count(24)
    places = [int(cells.nth(i).get_attribute("data-place")) for i in range(24)]
    cells.nth(3).click()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")  # the cell below the fifth
    page.keyboard.press("Enter")
    saved(page)
    bad = {places[3], places[4 + 6]}
    marks = current(grey, "cleo")
    assert {p: mark.label for p, mark in marks.items()} == {
        p: "non-real-like" if p in bad else "real-like" for p in places
    }
    assert "24 of 89" in page.inner_text("#pace")
    page.keyboard.press("u")
    saved(page)
    assert current(grey, "cleo") == {}
    page.keyboard.press("g")
    assert page.is_visible("#stage")


def test_window_of_sixteen_bits_changes_the_picture(tmp_path, rate):
    workdir = reviews.make(tmp_path, count=12, shape=(24, 32, 1), dtype=np.uint16, reals=2)
    with reviews.here(workdir, real_share=0.0) as server:
        page = rate(server)
        task = server.service.study.store.tasks("main", "rater-1")[int(place(page))]
        pool = reviews.pool(workdir)
        row = int(np.flatnonzero(pool.ids == task.sample_id)[0])
        raw = pool.read_raw(np.array([row]))[0, ..., 0].astype(float)

        def shown_as(low, high):
            return np.clip(np.rint((raw - low) * 255 / (high - low)), 0, 255)

        def window():
            text = page.inner_text("#readout").removeprefix("window ")
            return [float(end) for end in text.split(" \N{EN DASH} ")]

        first = picture(page)
        low, high = window()
        assert 255 < high - low < 65535
        np.testing.assert_allclose(first[..., 0], shown_as(low, high), atol=1)
        page.mouse.move(400, 300)
        page.mouse.down()
        page.mouse.move(300, 360, steps=4)  # narrower, and darker
        page.mouse.up()
        dragged = picture(page)
        narrow = window()
        assert narrow[1] - narrow[0] < 0.8 * (high - low)
        assert (first != dragged).mean() > 0.3
        np.testing.assert_allclose(dragged[..., 0], shown_as(*narrow), atol=2)
        page.keyboard.press("w")
        np.testing.assert_array_equal(picture(page), first)


def test_a_volume_scrolls(tmp_path, rate):
    workdir = reviews.make(tmp_path, count=6, shape=(8, 16, 16, 1), reals=2)
    with reviews.here(workdir, real_share=0.0) as server:
        page = rate(server)
        assert page.inner_text("#slice") == "slice 5 of 8"
        middle = picture(page)
        page.keyboard.press("ArrowUp")
        assert page.inner_text("#slice") == "slice 6 of 8"
        above = picture(page)
        assert (above[..., 0].astype(int) - middle[..., 0]).mean() > 2  # each slice is brighter
        page.mouse.move(400, 300)
        page.mouse.wheel(0, 120)
        expect(page.locator("#slice")).to_have_text("slice 5 of 8")
        np.testing.assert_array_equal(picture(page), middle)
        for _ in range(20):
            page.keyboard.press("ArrowDown")
        assert page.inner_text("#slice") == "slice 1 of 8"
        page.locator("#slices").fill("7")  # as a finger would
        assert page.inner_text("#slice") == "slice 8 of 8"
        assert not page.is_visible("#end")


def test_zoom_moves_and_fits(grey, rate):
    page = rate(grey, "bob")

    def width():
        return page.locator("#image").bounding_box()["width"]

    fitted = width()
    page.keyboard.press("+")
    assert width() == pytest.approx(1.25 * fitted, rel=0.01)
    page.keyboard.press("0")
    assert width() == pytest.approx(fitted)
    page.dblclick("#stage")
    assert width() == pytest.approx(2 * fitted, rel=0.01)


def test_colours_arrive_in_their_order(tmp_path, rate):
    workdir = reviews.make(tmp_path, count=6, shape=(16, 16, 3), reals=2)
    with reviews.here(workdir, real_share=0.0) as server:
        page = rate(server)
        task = server.service.study.store.tasks("main", "rater-1")[int(place(page))]
        pool = reviews.pool(workdir)
        raw = pool.read_raw(np.flatnonzero(pool.ids == task.sample_id))[0]
        np.testing.assert_array_equal(picture(page)[..., :3], raw)


def test_a_tablet_shows_image_and_answers_without_scrolling_sideways(grey, browser):
    context = browser.new_context(viewport={"width": 768, "height": 1024}, has_touch=True)
    page = context.new_page()
    page.goto(grey.addresses["bob"])
    page.wait_for_selector(READY)
    assert page.evaluate("document.documentElement.scrollWidth") <= 768
    for name in ("#stage", "#answers"):
        box = page.locator(name).bounding_box()
        assert box["y"] + box["height"] <= 1024
    stage, image = (page.locator(name).bounding_box() for name in ("#stage", "#image"))
    assert stage["y"] < image["y"]
    assert image["y"] + image["height"] < stage["y"] + stage["height"]
    before = len(current(grey, "bob"))
    page.locator("#answers button").first.tap()
    saved(page)
    assert len(current(grey, "bob")) == before + 1
    context.close()


def test_without_a_key_the_page_says_what_to_do(grey, browser):
    page = browser.new_page()
    assert page.goto(grey.url).status == 401
    assert "your own address" in page.inner_text("h1")
    page.close()


def test_the_pages_load_nothing_from_elsewhere():
    folder = pathlib.Path(reviews.programs.ROOT) / "vrn" / "review" / "pages"
    for path in folder.iterdir():
        assert "http" not in path.read_text(), path
