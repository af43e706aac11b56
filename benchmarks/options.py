"""Command lines of benchmarks, each with flags of its own, so that several can be imported."""

import sys
from collections.abc import Callable, Sequence

from absl import app, flags

from nn import host


def run(main: Callable[[Sequence[str]], int | None], own: flags.FlagValues) -> None:
    """Parses the command line into `own` and calls `main(arguments)`, as `app.run` does.

    `--help` prints the docstring of the program and its flags.
    """
    wanted = any(argument in ("--help", "-h", "-help") for argument in sys.argv[1:])

    def parse(argv: Sequence[str]) -> list[str]:
        flags.FLAGS(list(argv[:1]))
        try:
            return own(list(argv))
        except flags.Error as error:
            print(f"error: {error} (see --help)", file=sys.stderr)
            raise SystemExit(2) from None

    if wanted:
        print(sys.modules["__main__"].__doc__)
        print(own.get_help())
        raise SystemExit(0)
    host.restart_with_huge_pages()  # as the programs do
    app.run(main, flags_parser=parse)
