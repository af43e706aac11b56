"""The VRN, the annotators and every filter, measured against a known truth (docs/results/truth.md).

    python -m benchmarks.vrn_truth --workdir=runs/truth                    # the main figure
    python -m benchmarks.vrn_truth --workdir=runs/truth --studies=all      # every figure
    python -m benchmarks.vrn_truth --workdir=runs/truth --figures=docs/images

Every cell is kept as a file, so a killed run goes on where it was; what is there is not measured
again. Figures and tables come from the files of the studies that are complete.
"""

import pathlib
from collections.abc import Sequence

from absl import app, flags, logging

from benchmarks import cells, options
from benchmarks.vrn_truth import report, setting, studies
from data import tables
from data.errors import UserError
from launch import cli, compiled

FLAGS = flags.FlagValues()
_WORKDIR = flags.DEFINE_string("workdir", "runs/truth", "Takes all results.", flag_values=FLAGS)
_STUDIES = flags.DEFINE_list(
    "studies", list(studies.MAIN), f"Some of {', '.join(studies.STUDIES)}; or all, or none.",
    flag_values=FLAGS,
)  # fmt: skip
_SEEDS = flags.DEFINE_integer(
    "seeds", len(studies.SEEDS), "How many.", lower_bound=2, flag_values=FLAGS
)
_FIGURES = flags.DEFINE_string(
    "figures", "", "Folder for the figures; by default WORKDIR.", flag_values=FLAGS
)


def main(argv: Sequence[str]) -> None:
    """Measures what is missing, then draws and prints."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    names = {"all": list(studies.STUDIES), "none": []}.get(_STUDIES.value[0], _STUDIES.value)
    for name in names:
        if name not in studies.STUDIES:
            cli.fail(f"--studies: there is no '{name}'; choose from {', '.join(studies.STUDIES)}")
    logging.set_verbosity(logging.ERROR)  # orbax speaks at every checkpoint
    compiled.keep(cli.COMPILED.default)
    folder = pathlib.Path(_WORKDIR.value)
    config = setting.get_config()
    seeds = range(_SEEDS.value)
    try:
        cells.run(
            studies.cells(names, seeds),
            folder,
            tables.json_sha256(config.to_dict()),
            studies.Measurer(config, folder),
        )
    except UserError as error:
        cli.fail(str(error))
    print(report.write(folder, pathlib.Path(_FIGURES.value or folder), seeds))


if __name__ == "__main__":
    options.run(main, FLAGS)
