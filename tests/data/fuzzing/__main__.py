"""The program; see the package."""

import json
import pathlib
import sys

from absl import flags

from tests.data.fuzzing.judge import fuzz
from tests.data.fuzzing.looking import look, look_at_each

FLAGS = flags.FlagValues()
FILES = flags.DEFINE_integer("files", 5000, "How many damaged files.", 1, flag_values=FLAGS)
SEED = flags.DEFINE_integer("seed", 0, "Of all damage.", flag_values=FLAGS)
BATCH = flags.DEFINE_string("batch", "", "Used by the program itself.", flag_values=FLAGS)


def main(_: list[str]) -> None:
    """The program."""
    if BATCH.value:
        kind, _, root = BATCH.value.partition(":")
        path = pathlib.Path(root)
        print(json.dumps(look_at_each(path) if kind == "each" else look(path, kind)))
        return
    outcome = fuzz(FILES.value, SEED.value)
    print(
        f"{outcome.read} read, {outcome.refused} refused by name, {outcome.whole} whole files "
        f"beside them; peak {outcome.peak / 2**20:.0f} MiB, slowest file "
        f"{outcome.slowest[0]:.1f} s ({outcome.slowest[1]})"
    )
    for reason, count in outcome.reasons.most_common(12):
        print(f"{count:6d}  {reason}")
    for fault in outcome.faults:
        print(f"FAULT {fault}")
    if outcome.faults:
        raise SystemExit(1)


if __name__ == "__main__":
    main(FLAGS(sys.argv))
