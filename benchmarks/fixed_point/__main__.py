"""Fixed-Point GAN, StarGAN and other maps of disease, compared (docs/results/fixed_point.md).

    python -m benchmarks.fixed_point --workdir=runs/fixed_point
    python -m benchmarks.fixed_point --workdir=runs/fixed_point --data=brain \
        --source=npz:PATH/brain_lgg_64.npz

Every measurement is kept as a file, so a killed run goes on where it was; what is there is not
measured again. Prints a table in Markdown of all methods for which every seed is measured, and
writes it into WORKDIR/DATA.md.
"""

import functools
import pathlib
from collections.abc import Sequence

from absl import app, flags

from benchmarks import cells, options
from benchmarks.cells import Cell
from benchmarks.fixed_point import methods, report
from data import tables
from data.errors import UserError
from launch import cli

FLAGS = flags.FlagValues()
_WORKDIR = flags.DEFINE_string(
    "workdir", "runs/fixed_point", "Takes all results.", flag_values=FLAGS
)
_DATA = flags.DEFINE_enum(
    "data", "phantom", list(methods.DATA), "What is measured on.", flag_values=FLAGS
)
_SOURCE = flags.DEFINE_string(
    "source", "", "Where its images are; '' is what its configuration says.", flag_values=FLAGS
)
_METHODS = flags.DEFINE_list(
    "methods", list(methods.MAIN), f"Some of {', '.join(methods.METHODS)}.", flag_values=FLAGS
)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Whole numbers.", flag_values=FLAGS)


def main(argv: Sequence[str]) -> None:
    """Measures what is missing, then prints."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    for name in _METHODS.value:
        if name not in methods.METHODS:
            cli.fail(f"--methods: there is no '{name}'; choose from {', '.join(methods.METHODS)}")
    try:
        seeds = [int(seed) for seed in _SEEDS.value]
    except ValueError:
        cli.fail(f"--seeds={','.join(_SEEDS.value)}: give whole numbers, such as 0,1,2")
    workdir, data, source = pathlib.Path(_WORKDIR.value), _DATA.value, _SOURCE.value or None
    try:
        for seed in seeds:  # all methods of one seed first, so that an early look compares
            for name in _METHODS.value:
                place = methods.folder(workdir, data, name)
                programs = methods.commands(data, name, source)
                cells.run(
                    [Cell(data, {"method": name}, seed)],
                    place,
                    methods.key(data, name, source),
                    functools.partial(methods.measure, place=place, programs=programs),
                )
    except UserError as error:
        cli.fail(str(error))
    made = report.write(workdir, data, _METHODS.value, seeds, source)
    with tables.atomic_file(workdir / f"{data.replace(' ', '_')}.md") as aside:
        aside.write_text(made)
    print(made)


if __name__ == "__main__":
    options.run(main, FLAGS)
