"""From the key to the next image on the review page, in Chromium on loopback.

    python -m benchmarks.review [--keys=200] [--size=512] [--json=PATH]

Images of 512 x 512 pixels, of 8 and of 16 bits, are served by `python -m launch.review`. A script
of the benchmark takes the time from the browser's own stamp of the key to the second animation
frame after the next image is on the canvas, so that a frame with it has been made. Keys come at a
quick rater's pace (--pace, 4 a second), and then as fast as the page takes them; every label is
saved, which is part of the load. There is no screen, and the network is loopback.
"""

import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import app, flags
from playwright.sync_api import Page, sync_playwright
from scipy import ndimage

from data import pools, records, tables

KEYS = flags.DEFINE_integer("keys", 200, "Keys of every measurement.")
SIZE = flags.DEFINE_integer("size", 512, "Height and width of the images.")
PACE = flags.DEFINE_float("pace", 4.0, "Keys per second of a quick rater.")
JSON = flags.DEFINE_string("json", "", "Also write the numbers here.")
CLOCK = """
addEventListener("keydown", (event) => { window.pressed = event.timeStamp; }, true);
addEventListener("DOMContentLoaded", () => {
  window.times = [];
  new MutationObserver(() => {
    const began = window.pressed;
    requestAnimationFrame(() => requestAnimationFrame((now) => {
      if (began) window.times.push(performance.now() - began);
    }));
  }).observe(document.getElementById("stage"), { attributeFilter: ["data-place"] });
});
"""


def make(workdir: pathlib.Path, count: int, size: int, dtype: type) -> None:
    """A first pool of `count` images of smooth noise, and a few real ones."""
    rng = np.random.default_rng(0)
    shape = (size, size, 1)

    def images(number: int) -> np.ndarray:
        fields = ndimage.gaussian_filter(rng.normal(size=(number, size, size)), (0, 4, 4))
        return records.from_unit(np.tanh(8 * fields)[..., None], dtype)

    real = records.ArrayRecords(images(4), np.zeros(4, int), [f"r{i}" for i in range(4)], ("all",))
    records.write_records(workdir / "data", {"val": real}, name="real")
    spec = pools.PoolSpec(("all",), shape, np.dtype(dtype), "0" * 40, "0" * 40)
    with tables.atomic_dir(workdir / "pools" / "first") as aside:
        shard = pools.PoolShard(aside, spec, 0, 1)
        for start in range(0, count, 32):
            rows = np.arange(start, min(start + 32, count))
            shard.write(images(len(rows)), np.zeros(len(rows), int), rows)
        shard.close()
        pools.assemble(aside, spec, 1)
        pools.clear(aside)
    for name in ("data", "pools/first"):
        record = {"stage": name, "status": "complete", "digest": name}
        tables.write_json(workdir / name / "stage.json", record)


def measure(page: Page, keys: int, pause: float) -> list[float]:
    """Milliseconds from each of some keys to its next image."""
    page.evaluate("() => { window.times.length = 0; }")
    for _ in range(keys):
        began = time.monotonic()
        page.keyboard.press("f")
        page.wait_for_selector("#stage[aria-busy=false]")
        time.sleep(max(0.0, pause - (time.monotonic() - began)))
    page.wait_for_selector("#saved:text-is('all saved')")
    return page.evaluate("() => window.times")


def of_type(dtype: type, chromium: str) -> dict[str, dict[str, float]]:
    """Serves images of a type and measures both paces."""
    with tempfile.TemporaryDirectory(prefix="vrn-review-") as folder:
        workdir = pathlib.Path(folder)
        make(workdir, 2 * KEYS.value + 20, SIZE.value, dtype)
        command = [
            sys.executable, "-m", "launch.review", "--config=configs/default.py",
            f"--workdir={folder}", "--port=0",
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                address = re.search(r"(http\S+)", server.stdout.readline())
                assert address is not None
                for line in server.stdout:
                    if line.startswith("Ctrl-C"):
                        break
                with sync_playwright() as playwright:
                    browser = playwright.chromium.launch(
                        executable_path=chromium, args=["--no-sandbox"]
                    )
                    page = browser.new_page(viewport={"width": 1280, "height": 800})
                    page.add_init_script(CLOCK)
                    page.goto(address[1])
                    page.wait_for_selector("body[data-ready]")
                    times = {
                        "paced": measure(page, KEYS.value, 1 / PACE.value),
                        "as fast as it goes": measure(page, KEYS.value, 0.0),
                    }
                    browser.close()
            finally:
                server.terminate()
    return {name: _summary(values) for name, values in times.items()}


def _summary(values: list[float]) -> dict[str, float]:
    return {
        "median": statistics.median(values),
        "p95": float(np.percentile(values, 95)),
        "largest": max(values),
        "keys": len(values),
    }


def main(argv: list[str]) -> None:
    """Prints a table, in milliseconds."""
    del argv
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("error: no Chromium here; run `apt-get install chromium` first")
    found = {}
    for dtype in (np.uint8, np.uint16):
        for pace, one in of_type(dtype, chromium).items():
            found[f"{np.dtype(dtype).name}, {pace}"] = one
            print(
                f"{SIZE.value} x {SIZE.value} {np.dtype(dtype).name}, {pace}: median "
                f"{one['median']:.0f} ms, 95th percentile {one['p95']:.0f} ms, largest "
                f"{one['largest']:.0f} ms, {one['keys']} keys",
                flush=True,
            )
    if JSON.value:
        tables.write_json(JSON.value, found)


if __name__ == "__main__":
    app.run(main)
