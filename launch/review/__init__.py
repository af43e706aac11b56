"""The expert's page: serves the images of a pool to raters and keeps every label.

python -m launch.review --config=configs/digits.py --workdir=runs/digits
python -m launch.review --config=configs/digits.py --workdir=runs/digits --stats

opening.py   the study of a work directory, its store and its images
numbers.py   what the statistics are made of, with annotators and VRN
page.py      the lead's page
effort.py    how good a VRN gets with so many reviewed images
serving.py   the server
"""

import pathlib

import ml_collections
from absl import flags

from data import tables
from data.errors import UserError
from launch import cli, distributed
from launch.report.results import without_nan

STATS = flags.DEFINE_bool(
    "stats", False, "Print the statistics of the study and write WORKDIR/review/statistics.json "
    "and index.html, without serving anything.",
)  # fmt: skip
EFFORT = flags.DEFINE_bool(
    "effort", False, "Train VRNs on 50, 100, 200 and 500 of the reviewed images and write "
    "WORKDIR/review/effort.json, which the statistics then show.",
)  # fmt: skip
HOST = flags.DEFINE_string(
    "host", "127.0.0.1", "Address to listen at; any other than loopback lets other machines in."
)
PORT = flags.DEFINE_integer("port", 8765, "Port to listen at; 0 takes a free one.", 0, 65535)


@distributed.main_only
def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Serves the study, or writes what it says so far; returns where that is."""
    del overwrite
    try:
        from launch.review import effort, numbers, opening, page, serving
    except ImportError as error:
        raise UserError(
            f"The review needs the package {error.name}; run `pip install vrn[review]`."
        ) from error
    folder = workdir / opening.FOLDER
    if EFFORT.value:
        effort.write(config, workdir)
    if EFFORT.value or STATS.value:
        found = without_nan(numbers.gather(config, workdir))
        tables.write_json(folder / "statistics.json", found)
        with tables.atomic_file(folder / "index.html") as aside:
            aside.write_text(page.render(found, workdir.resolve().name), encoding="utf-8")
        for line in page.lines(found):
            cli.say(line)
        return folder / "index.html"
    return serving.serve(config, workdir, HOST.value, PORT.value)
