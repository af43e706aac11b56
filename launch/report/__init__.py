"""The report: one page that a radiologist enjoys and a reviewer trusts, and its numbers as JSON.

python -m launch.report --config=configs/digits.py --workdir=runs/digits

collect.py      reads and checks the work directory
measures.py     numbers about the pools
results.py      results.json
gallery.py      which images are shown
detection.py    translations and maps of disease
words.py        numbers as sentences
charts.py       inline SVG; colours.py and overlay.py for maps
page.py         index.html, from template.html or, of a translator without the loop, translator.html
"""

import pathlib

import ml_collections

from data import tables
from launch import cli, distributed, stage
from launch.report import collect, detection, page, results


@distributed.main_only
def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """The program: makes the report unless it is up to date; returns the path of its page."""
    settings = {"report": config.report.to_dict()} | collect.said(workdir)
    if collect.has_loop(workdir):
        needs = stage.of_loop(config.generate.generator)[:-1]
    else:
        needs = ["data", "translator"]
    made = stage.read(workdir, "report")
    if made is not None and (
        ("features" in needs and "features" not in made["inputs"])
        or any(made["config"].get(name) != settings.get(name) for name in collect.SAID)
    ):
        stage.discard(workdir / "report")  # by what was said or run since, not by another setting
    begun = stage.begin(workdir, "report", settings, needs=needs, overwrite=overwrite)
    if begun is None:
        return workdir / "report" / "index.html"
    path = write_report(workdir, config)
    begun.finish()
    cli.say(f"report: {path.stat().st_size / 1e6:.1f} MB, self-contained")
    return path


def write_report(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> pathlib.Path:
    """Writes `WORKDIR/report/results.json` and `WORKDIR/report/index.html`, each atomically.

    Args:
      workdir: finished work directory, of the loop or of a translator that was judged.
      config: experiment; `report`, `target.arms`, `target.seeds` and `annotate.method` are read.

    Returns:
      The path of the page.

    Raises:
      UserError: a stage is missing or unfinished, or a file is damaged or does not fit the others;
        the message names the folder and the program to run.
    """
    name = workdir.resolve().name
    if collect.has_loop(workdir):
        found = collect.read(workdir, config)
        numbers = results.build(found, config)
        text = page.render(found, numbers, config, name)
    else:
        translated = collect.read_translator(workdir)
        numbers = {"detection": detection.numbers(translated.detection)}
        text = page.render_translator(translated, config, name)
    folder = workdir / "report"
    tables.write_json(folder / "results.json", numbers)
    with tables.atomic_file(folder / "index.html") as aside:
        aside.write_text(text, encoding="utf-8")
    return folder / "index.html"
