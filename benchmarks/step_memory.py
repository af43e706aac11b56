"""Memory of training steps: as they are, with rematerialisation, in micro-batches.

    python -m benchmarks.step_memory [--rows=REGEX] [--repeats=N] [--accumulate=4]

Bytes of temporaries are what XLA says of the compiled step (`memory_analysis()`): all that it
needs beside parameters, optimiser and batch. The steps are those of `benchmarks.train_step`; their
times are medians of rounds in which each takes its turn.
"""

import dataclasses
import re

from absl import app, flags

from benchmarks import options
from benchmarks.train_step import measure, ours, rows
from nn import host
from nn.gradient import Gradient

FLAGS = flags.FlagValues()
_ROWS = flags.DEFINE_string(
    "rows",
    "dcgan_64px_width32|resnet_gan_128px|vrn_resnet50_128px",
    "Measure only rows whose name matches this regex.",
    flag_values=FLAGS,
)
_REPEATS = flags.DEFINE_integer(
    "repeats", 5, "Rounds; each times every step in turn.", 1, flag_values=FLAGS
)
_ACCUMULATE = flags.DEFINE_integer("accumulate", 4, "Micro-batches.", 2, flag_values=FLAGS)


def sides(row: rows.Row) -> dict[str, ours.Side]:
    """The row's step with every way to take its gradient."""
    count = _ACCUMULATE.value
    gradients = {
        "plain": Gradient(),
        "remat": Gradient(remat=True),
        f"accumulate {count}": Gradient(accumulate=count),
        "both": Gradient(accumulate=count, remat=True),
    }
    work = ours.build(row)
    return {
        name: ours.Side(
            dataclasses.replace(work, spec=dataclasses.replace(work.spec, gradient=gradient))
        )
        for name, gradient in gradients.items()
    }


def main(argv: list[str]) -> None:
    """Measures and prints."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    host.prepare()
    print(f"{'step':42} {'gradient':14} {'temporary, MB':>14} {'ms':>8}")
    for row in rows.rows("cpu"):
        if not re.search(_ROWS.value, row.name):
            continue
        compared = sides(row)
        times = measure.median(measure.interleaved(compared, _REPEATS.value, 1))
        for name, side in compared.items():
            held = side.compiled.memory_analysis().temp_size_in_bytes / 1e6
            print(f"{row.name:42} {name:14} {held:14.1f} {times[name]:8.1f}", flush=True)


if __name__ == "__main__":
    options.run(main, FLAGS)
