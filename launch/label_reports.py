r"""Makes a table of labels from radiology reports, and one of the sentences each label rests on.

python -m launch.label_reports --config=configs/chest_reports.py --reports=reports.csv \
    --labels_to=labels

Reports stay on this machine: nothing is sent or downloaded, and no text goes to the screen.
"""

import collections
import csv
import pathlib

import ml_collections
from absl import flags

from data import reports, tables
from data.errors import UserError
from data.sources.label_table import read_rows
from launch import cli, distributed

REPORTS = flags.DEFINE_string(
    "reports", "", "CSV or Parquet table with the columns file and report; any others, such as "
    "patient and site, are handed on.",
)  # fmt: skip
LABELS_TO = flags.DEFINE_string("labels_to", "", "Folder for labels.csv and audit.csv.")
_AUDIT = ("file", "finding", "status", "term", "modifiers", "sentence")


@distributed.main_only
def run(
    config: ml_collections.ConfigDict, workdir: pathlib.Path | None, overwrite: bool
) -> pathlib.Path:
    """The program."""
    del workdir, overwrite
    if not REPORTS.value or not LABELS_TO.value:
        raise UserError("--reports=TABLE and --labels_to=FOLDER are needed")
    findings = {name: tuple(terms) for name, terms in config.reports.findings.items()}
    if not findings:
        raise UserError("config.reports.findings is empty; see configs/chest_reports.py")
    rows = list(read_rows(pathlib.Path(REPORTS.value).expanduser(), ("file", "report")))
    labels, audit = [], []
    for row in rows:
        found = reports.label(row.pop("report"), findings, config.reports.normal)
        labels.append(row | {"label": found.label})
        for one in found.evidence:
            said = one.mention
            modifiers = " ".join(said.modifiers)
            audit.append((row["file"], one.name, one.status, said.term, modifiers, said.sentence))
    folder = pathlib.Path(LABELS_TO.value)
    columns = list(dict.fromkeys(("file", "label", *labels[0])))
    _write(folder / "audit.csv", _AUDIT, audit)
    _write(folder / "labels.csv", columns, [[row[name] for name in columns] for row in labels])
    for name, count in sorted(collections.Counter(row["label"] for row in labels).items()):
        cli.say(f"{name or '(undecided)'}: {count}")
    return folder / "labels.csv"


def _write(path: pathlib.Path, columns: list[str] | tuple[str, ...], rows: list) -> None:
    with (
        tables.atomic_file(path) as aside,
        aside.open("w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file).writerows([columns, *rows])


if __name__ == "__main__":
    cli.start(run, optional=True)
