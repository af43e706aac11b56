"""Runs the whole loop, stage by stage; what is complete is skipped, what was killed goes on.

python -m launch.pipeline --config=configs/digits.py --workdir=runs/digits
"""

import pathlib

import ml_collections

from data.errors import UserError
from launch import (
    annotate,
    cli,
    distributed,
    extract,
    generate,
    generators,
    models,
    prepare,
    report,
    stage,
    train_features,
    train_target,
    train_vrn,
)
from launch import (
    filter as filter_stage,
)
from vrn.extraction import NotEnoughNegatives


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Runs every stage in order and returns the path of the report."""
    spatial = prepare.source_options(config.data).spatial(config.data.size)
    models.refuse_volumes((*spatial, config.data.channels))  # before hours go into preparing them
    prepare.run(config, workdir, overwrite)
    generate.check(config, workdir)
    generators.PROGRAMS[config.generate.generator].run(config, workdir, overwrite)
    train_features.run(config, workdir, overwrite)
    annotated_pool(config, workdir, overwrite)
    train_vrn.run(config, workdir, overwrite)
    generate.make_pool(config, workdir, "second", overwrite=overwrite)
    filter_stage.run(config, workdir, overwrite)
    train_target.run(config, workdir, overwrite)
    return report.run(config, workdir, overwrite)


def annotated_pool(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool
) -> None:
    """Generates, annotates and extracts until there are enough negatives.

    Raises:
      UserError: `extract.max_rounds` pools did not give enough, or there are too few real images to
        translate for the next one; what was made stays.
    """
    limit = config.extract.max_rounds
    made = distributed.on_main(lambda: generate.rounds_made(config, workdir))
    for rounds in range(min(made, limit), limit + 1):
        if rounds > made:
            # What was said of the smaller pool is stale by our own doing, not by the user's.
            stage.discard(workdir / "annotation")
            stage.discard(workdir / "extraction")
        generate.make_pool(config, workdir, "first", overwrite=overwrite, rounds=rounds)
        made = max(made, rounds)
        annotate.run(config, workdir, overwrite)
        try:
            extract.run(config, workdir, overwrite)
            return
        except NotEnoughNegatives as error:
            shortage = error
        if annotate.is_reviewed(config) and not annotate.automatic_method(config):
            raise UserError(  # more images would be of no use: nobody has seen them
                f"{shortage} Review more images with `python -m launch.review`, then pass "
                "--overwrite; or let an annotator judge the rest with "
                "--config.annotate.method=review+sklearn:SVC."
            )
        cli.say(f"extraction: {shortage} (round {rounds} of {limit})")
        if rounds < limit:
            try:
                generate.check(config, workdir, rounds + 1)
            except UserError as error:
                raise UserError(f"{shortage} For round {rounds + 1} of {limit} {error}") from error
    raise UserError(
        f"{shortage} This was round {limit} of --config.extract.max_rounds={limit}: raise it, or "
        "raise annotate.threshold, or lower extract.min_negatives, and pass --overwrite"
    )


def main() -> None:
    """Entry point of `vrn-pipeline`."""
    cli.start(run)


if __name__ == "__main__":
    main()
