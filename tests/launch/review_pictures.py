"""The pictures of docs/review.md: a study of chest phantoms, with raters who are simulated.

    python -m tests.launch.review_pictures --to=docs/images

The "synthetic" images are phantoms of which a third has one fault each, so that it is known which
look real. Each simulated rater sees a share of the faults, takes a share of sound images for faulty
ones, and is sometimes unsure; times are drawn. Nothing here says anything about people.
"""

import argparse
import io
import pathlib
import tempfile
import uuid

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from data import records, tables
from data.builders.phantom import anatomy, faults
from data.builders.phantom.render import render
from tests.launch import reviews, test_review_page
from tests.pool_writer import PoolWriter
from vrn.review.store import Mark

SHAPE = (128, 128)
SYNTHETIC, REAL = 240, 60
# Of every rater: share of faults seen, share of sound images called faulty, share unsure.
SKILLS = {"rater-1": (0.85, 0.05, 0.05), "rater-2": (0.75, 0.08, 0.1), "rater-3": (0.6, 0.15, 0.05)}


def make(workdir: pathlib.Path) -> dict[str, bool]:
    """Writes the images; returns which synthetic ones have a fault, by sample id."""
    people = anatomy.draw(5, np.arange(SYNTHETIC), np.zeros(SYNTHETIC, int))
    rng = np.random.default_rng(5)
    names = [faults.KINDS.index(name) for name in (*faults.ABSURD, *faults.TEXTURE)]
    kinds = np.where(rng.random(SYNTHETIC) < 1 / 3, rng.choice(names, SYNTHETIC), faults.NONE)
    with PoolWriter(
        workdir / "pools" / "first", class_names=anatomy.LABELS, image_shape=(*SHAPE, 1),
        dtype=np.uint16, checkpoint_digest="0f" * 20, data_digest="0" * 40,
    ) as writer:  # fmt: skip
        images = faults.inject(people, kinds, SHAPE).pictures.image
        ids = writer.write(images, people.label, np.arange(SYNTHETIC))
    others = anatomy.draw(6, np.arange(REAL), np.zeros(REAL, int))
    val = records.ArrayRecords(
        records.from_unit(render(others, SHAPE).image, np.uint16), others.label,
        [f"real-{i}" for i in range(REAL)], anatomy.LABELS,
    )  # fmt: skip
    records.write_records(workdir / "data", {"val": val}, name="real")
    for name in ("data", "pools/first"):
        record = {"stage": name, "status": "complete", "digest": name}
        tables.write_json(workdir / name / "stage.json", record)
    return {one: bool(kind != faults.NONE) for one, kind in zip(ids, kinds, strict=True)}


def rate(server: reviews.Here, faulty: dict[str, bool]) -> None:
    """Simulates the raters; the first has not come to the end."""
    store = server.service.study.store
    for number, (rater, (seen, false, unsure)) in enumerate(SKILLS.items()):
        rng = np.random.default_rng(number)
        marks, said = [], {}
        for place, task in enumerate(store.tasks("main", rater)):
            bad = rng.random() < (seen if faulty.get(task.sample_id, False) else false)
            doubt = rng.random() < unsure
            label = "unsure" if doubt else "non-real-like" if bad else "real-like"
            if task.repeat and rng.random() < 0.8:  # remembered, or seen the same way
                label = said[task.sample_id]
            said[task.sample_id] = label
            bad = label == "non-real-like"
            tags = (("anatomy", "texture", "artefact")[rng.integers(3)],) if bad else ()
            marks.append(Mark(place, label, tags, float(rng.lognormal(0.9 + number / 5, 0.5))))
        store.append("main", rater, uuid.uuid4().hex, marks[:120] if number == 0 else marks)


def take(server: reviews.Here, folder: pathlib.Path) -> None:
    """Saves what a browser shows."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=test_review_page.CHROMIUM, args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1200, "height": 760})
        page.goto(server.addresses["rater-1"])
        page.wait_for_selector(test_review_page.READY)
        for key in ("f", "j", "f"):
            page.wait_for_timeout(2600)  # as a person would look
            test_review_page.press(page, key)
        test_review_page.saved(page)
        page.keyboard.press("2")
        page.click("summary")
        page.wait_for_timeout(500)
        _save(page.screenshot(), folder / "review_page.webp")
        page.keyboard.press("g")
        page.wait_for_timeout(800)
        for key in ("ArrowRight", "Space", "ArrowDown", "Space"):
            page.keyboard.press(key)
        _save(page.screenshot(), folder / "review_grid.webp")
        lead = browser.new_page(viewport={"width": 1200, "height": 760})
        lead.goto(server.addresses["statistics"])
        _save(lead.screenshot(full_page=True), folder / "review_statistics.webp")
        browser.close()


def _save(picture: bytes, path: pathlib.Path) -> None:
    Image.open(io.BytesIO(picture)).convert("RGB").save(path, quality=82)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=pathlib.Path, required=True)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vrn-review-") as made:
        workdir = pathlib.Path(made) / "phantoms"
        faulty = make(workdir)
        review = {"raters": tuple(SKILLS), "repeats": 0.1, "real_share": 0.2}
        with reviews.here(workdir, **review) as server:
            rate(server, faulty)
            take(server, flags.to)
