"""The report: one page that a radiologist enjoys and a reviewer trusts, and its numbers as JSON.

python -m launch.report --config=configs/digits.py --workdir=runs/digits

collect.py    reads and checks the work directory
measures.py   numbers about the pools
results.py    results.json
gallery.py    which images are shown
words.py      numbers as sentences
charts.py     inline SVG
page.py       index.html, from template.html and style.html
"""

import pathlib

import ml_collections

from data import tables
from launch import cli, distributed, stage
from launch.report import collect, page, results


@distributed.main_only
def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """The program: makes the report unless it is up to date; returns the path of its page."""
    settings = {"report": config.report.to_dict()}
    if (said := collect.review(workdir)) is not None:
        settings["review"] = tables.json_sha256(said)
    made = stage.read(workdir, "report")
    if made is not None and made["config"].get("review") != settings.get("review"):
        stage.discard(workdir / "report")  # by what reviewers said since, not by another setting
    needs = stage.of_loop(config.generate.generator)[:-1]
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
      workdir: finished work directory.
      config: experiment; `report`, `target.arms`, `target.seeds` and `annotate.method` are read.

    Returns:
      The path of the page.

    Raises:
      UserError: a stage is missing or unfinished, or a file is damaged or does not fit the others;
        the message names the folder and the program to run.
    """
    found = collect.read(workdir, config)
    numbers = results.build(found, config)
    folder = workdir / "report"
    tables.write_json(folder / "results.json", numbers)
    text = page.render(found, numbers, config, workdir.resolve().name)
    with tables.atomic_file(folder / "index.html") as aside:
        aside.write_text(text, encoding="utf-8")
    return folder / "index.html"
