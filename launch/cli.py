"""What all programs share: flags, one-sentence errors with exit code 2, and the closing line."""

import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from data.errors import UserError
from launch import compiled, distributed, preemption, validate
from nn import host

CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "File with the experiment, e.g. configs/digits.py. Any field of it can be set as well: "
    "--config.gan.steps=4000. configs/default.py explains every field.",
    lock_config=True,
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder that holds this run: read if it exists, made if not."
)
OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Make stages again whose folder was made with other settings."
)
COMPILED = flags.DEFINE_string(
    "compiled", "~/.cache/vrn/jax", "Folder that keeps compiled steps for the next program; "
    "'' keeps none, and $JAX_COMPILATION_CACHE_DIR goes before.",
)  # fmt: skip

Run = Callable[[ml_collections.ConfigDict, Any, bool], Any]  # the second: a path, or None


def start(run: Run, *, optional: bool = False) -> None:
    """Parses the flags and calls `run(config, workdir, overwrite)`; prints the path it returns.

    A `UserError` becomes one line on stderr and exit code 2; a training that SIGTERM stopped ends
    with one line and exit code 143.

    Args:
      run: the program.
      optional: whether --config, for which configs/default.py then stands in, and --workdir, which
        is then None, may be left out.
    """
    if optional and not any(arg.split("=")[0].lstrip("-") == "config" for arg in sys.argv[1:]):
        default = pathlib.Path(__file__).parents[1] / "configs" / "default.py"
        sys.argv.insert(1, f"--config={default}")

    def main(argv: Sequence[str]) -> None:
        if len(argv) > 1:
            fail(f"'{argv[1]}' is not a flag; flags look like --workdir=DIR (see --help)")
        for name in ("config", "workdir"):
            if flags.FLAGS[name].value is None and not (optional and name == "workdir"):
                fail(f"--{name} is missing; for example --{name}={_EXAMPLES[name]}")
        file = config_flags.get_config_filename(flags.FLAGS["config"])
        if not pathlib.Path(file).is_file():
            fail(f"--config={file} does not exist; give a file such as {_EXAMPLES['config']}")
        try:
            validate.check(CONFIG.value)
            host.restart_with_huge_pages()
            with distributed.joined():
                code = _run(run)
        except UserError as error:
            fail(str(error))
        if code:  # all processes stop alike, so none of them has lost another
            raise SystemExit(code)

    # --help shows the program's own flags and these.
    for name in ("config", "workdir", "overwrite", "compiled", *distributed.FLAGS):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])
    logging.set_verbosity(logging.ERROR)
    host.prepare()
    app.run(main, flags_parser=_parse)


def say(text: str) -> None:
    """Prints one line of progress, once per run."""
    if distributed.is_main():
        print(text, flush=True)


def fail(message: str) -> NoReturn:
    """Prints the message to stderr and ends the program with exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


_EXAMPLES = {"config": "configs/digits.py", "workdir": "runs/digits"}
_DISK = (13, 17, 20, 28, 30, 122)  # EACCES, EEXIST, ENOTDIR, ENOSPC, EROFS, EDQUOT


def _run(run: Run) -> int:
    """Runs the program; returns its exit code."""
    lost = compiled.keep(COMPILED.value)
    if lost is not None:
        say(f"compiled steps are not kept ({lost}); --compiled=DIR gives another folder")
    try:
        workdir = None if WORKDIR.value is None else pathlib.Path(WORKDIR.value)
        made = run(CONFIG.value, workdir, OVERWRITE.value)
    except preemption.PreemptedError as stopped:
        print(stopped, file=sys.stderr)
        return preemption.EXIT_CODE
    except UserError as error:
        fail(str(error))
    except OSError as error:
        if error.errno not in _DISK:
            raise
        where = error.filename or WORKDIR.value
        fail(f"{where}: {error.strerror}; free some space or give another --workdir")
    say(str(made))
    return 0


def _parse(argv: Sequence[str]) -> list[str]:
    """Parses flags; every mistake in them is one sentence."""
    try:
        return flags.FLAGS(list(argv))
    except flags.Error as error:
        fail(f"{_one_line(error)} (see --help)")
    except (AttributeError, KeyError) as error:
        fail(f"--config has no such field: {_one_line(error)}; configs/default.py lists them all")
    except (TypeError, ValueError) as error:
        fail(f"a --config value has the wrong type: {_one_line(error)}")


def _one_line(error: Exception) -> str:
    """The message of an exception without the quotes and line ends that layers of it added."""
    text = str(error.args[0] if error.args else error).replace("\\n", "; ").replace("\\", "")
    return " ".join(text.replace("'", "").strip('"').split()).rstrip(".?")
