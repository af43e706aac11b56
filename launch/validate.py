"""Refuses a configuration that cannot work before the first stage starts, not an hour later."""

from collections.abc import Collection, Mapping
from typing import Any

import ml_collections

from data import augment, marks, preprocess
from data.errors import UserError
from data.sources import AXES, VOLUME
from gan.augment import POLICIES
from gan.losses import LOSSES
from gan.models import MODELS
from gan.models.dcgan import SIZES
from gan.models.translator import OUTPUTS
from gan.penalties import PENALTIES
from gan.translation.losses import CRITICS
from gan.translation.state import TARGETS
from launch.stage import GENERATORS
from nn.precision import DTYPES
from nn.resnet import DEPTHS, HEADS
from vrn import annotators, calibrate, estimators, target
from vrn.filters import FILTERS

# Field -> what it may be; for a field that holds several names, what each may be.
STEMS = ("small", "imagenet", "auto")
UNMIXED = tuple(name for name in augment.NAMES if name != "mixup")
CHOICES: Mapping[str, Collection[Any]] = {
    "data.size": (*SIZES, 256),
    "data.augment": augment.NAMES,
    "data.axis": (*AXES, VOLUME),
    "data.synthetic": marks.POLICIES,
    "gan.model": MODELS,
    "gan.dtype": DTYPES,
    "generate.generator": GENERATORS,
    "translator.domains": ("classes", "healthy", "attributes"),
    "translator.critic": CRITICS,
    "translator.output": OUTPUTS,
    "translator.targets": TARGETS,
    "translator.dtype": DTYPES,
    "translator.augment": UNMIXED,
    "detector.dtype": DTYPES,
    "detector.depth": DEPTHS,
    "detector.stem": STEMS,
    "detector.augment": UNMIXED,
    "detector.healthy_augment": UNMIXED,
    "features.dtype": DTYPES,
    "vrn.dtype": DTYPES,
    "target.dtype": DTYPES,
    "gan.loss": LOSSES,
    "gan.penalty": PENALTIES,
    "gan.diffaugment": POLICIES,
    "features.depth": DEPTHS,
    "features.stem": STEMS,
    "vrn.stem": STEMS,
    "target.stem": STEMS,
    "vrn.depth": DEPTHS,
    "vrn.head": HEADS,
    "vrn.positives": ("real", "real+accepted"),
    "vrn.calibration": calibrate.METHODS,
    "filter.names": FILTERS,
    "target.depth": DEPTHS,
    "target.arms": target.ARMS,
}
POSITIVE = (
    "gan.batch", "gan.steps", "gan.n_critic", "gan.log_every", "gan.sample_every",
    "gan.checkpoint_every", "generate.first_per_class", "generate.second_per_class",
    "generate.batch", "generate.shards", "generate.repeats", "features.batch", "features.steps",
    "vrn.batch", "vrn.steps", "features.log_every", "features.checkpoint_every",
    "vrn.log_every", "vrn.checkpoint_every", "target.log_every", "target.checkpoint_every",
    "extract.max_rounds", "annotate.neighbours", "gan.width", "features.width", "vrn.width",
    "target.width", "target.batch", "gan.accumulate", "features.accumulate", "vrn.accumulate",
    "target.accumulate", "target.steps", "target.seeds", "report.resamples", "train.keep",
    "train.skip_limit", "data.stride", "translator.width", "translator.n_critic",
    "translator.batch", "translator.accumulate", "translator.steps", "translator.log_every",
    "translator.sample_every", "translator.checkpoint_every", "detector.steps", "detector.batch",
    "detector.accumulate", "detector.width", "detector.latent", "detector.log_every",
    "detector.sample_every", "detector.checkpoint_every",
)  # fmt: skip
BATCHES = ("gan", "translator", "detector", "features", "vrn", "target")
NOT_NEGATIVE = (
    "train.keep_every", "data.workers", "data.depth", "data.folds", "data.fold", "vrn.blur",
    "vrn.noise", "translator.blocks", "translator.penalty_weight", "translator.domain_weight",
    "translator.cycle_weight", "translator.identity_weight", "detector.kl_weight",
)  # fmt: skip
SHARES = (
    "data.val_fraction",
    "data.test_fraction",
    "filter.keep",
    "extract.held_out",
    "gan.ema",
    "translator.ema",
    "annotate.threshold",
)
WHOLE_SHARES = ("translator.decay", "translator.match_heights")


def check(config: ml_collections.ConfigDict) -> None:
    """Raises a `UserError` that names the first field with an impossible value."""
    for name, choices in CHOICES.items():
        value = _get(config, name)
        for one in value if isinstance(value, tuple) else (value,):
            if one not in choices:
                raise UserError(
                    f"--config.{name}={value!r}: there is no {one!r}; "
                    f"choose from {', '.join(map(str, choices))}"
                )
    for name in POSITIVE:
        if _get(config, name) < 1:
            raise UserError(f"--config.{name}={_get(config, name)} is too small; give 1 or more")
    for name in NOT_NEGATIVE:
        if _get(config, name) < 0:
            raise UserError(f"--config.{name}={_get(config, name)} is negative; give 0 or more")
    for name in SHARES:
        if not 0 < _get(config, name) < 1:
            raise UserError(f"--config.{name}={_get(config, name)}: give a share between 0 and 1")
    if not 0 <= config.data.max_unreadable < 1:
        raise UserError(
            f"--config.data.max_unreadable={config.data.max_unreadable}: give a share from 0 to "
            "less than 1"
        )
    for name in WHOLE_SHARES:
        if not 0 <= _get(config, name) <= 1:
            raise UserError(f"--config.{name}={_get(config, name)}: give a share from 0 to 1")
    if config.translator.match_heights and config.translator.domains != "healthy":
        raise UserError(
            f"--config.translator.match_heights={config.translator.match_heights} is for "
            f"--config.translator.domains=healthy, not {config.translator.domains}; give 0 or "
            "those domains"
        )
    preprocess.parse(config.data.preprocess, config.data.size)
    for section in BATCHES:
        batch, accumulate = config[section].batch, config[section].accumulate
        if batch % accumulate:
            raise UserError(
                f"--config.{section}.batch={batch} cannot be divided into {accumulate} "
                f"micro-batches; make it a multiple of --config.{section}.accumulate"
            )
    for section in ("translator", "detector"):
        halved = section == "detector" or config.translator.domains == "healthy"
        if halved and config[section].batch < 2:
            raise UserError(
                f"--config.{section}.batch={config[section].batch} has no room for both healthy "
                "and diseased images; give 2 or more"
            )
    if "colour" in config.data.augment and config.data.channels != 3:
        raise UserError(
            f"--config.data.augment has 'colour', which needs --config.data.channels=3, not "
            f"{config.data.channels}; leave it out"
        )
    if config.generate.generator == "translator" and not config.translator.healthy:
        raise UserError(
            "--config.generate.generator=translator needs the name of the healthy class; give "
            "--config.translator.healthy"
        )
    if config.vrn.batch % 2:
        raise UserError(
            f"--config.vrn.batch={config.vrn.batch} is odd; half of it are positives, so give an "
            "even number"
        )
    if config.gan.spectral and config.gan.model != "resnet":
        raise UserError(
            f"--config.gan.spectral: the {config.gan.model} discriminator has no spectral "
            "normalisation; add --config.gan.model=resnet or leave it out"
        )
    if "vrn" not in config.filter.names:
        raise UserError("--config.filter.names lacks 'vrn', which the report judges; add it")
    for arm in config.target.arms:
        target.settings(arm, config.target.shares, config.target.strengths)
        needed = target.ARMS[arm].filter
        if needed is not None and needed not in config.filter.names:
            raise UserError(
                f"--config.target.arms has '{arm}' but --config.filter.names lacks '{needed}'; "
                "add the filter or drop the arm"
            )
    if ("imported" in config.target.arms) != (config.data.synthetic == "train"):
        raise UserError(
            f"--config.data.synthetic={config.data.synthetic} with --config.target.arms="
            f"{config.target.arms!r}: 'train' and the arm 'imported', which alone trains on "
            "synthetic images of the source, go together; give both or neither"
        )
    review, _, method = config.annotate.method.partition("+")
    methods = (method if review == "review" else config.annotate.method, *config.annotate.members)
    if review == "review" and config.annotate.given:
        raise UserError(
            f"--config.annotate.given={config.annotate.given} and annotate.method="
            f"{config.annotate.method} both name an expert's labels; give one of them"
        )
    for name in methods if config.annotate.method != "review" else methods[1:]:
        if name.startswith(estimators.PREFIX):
            estimators.parse(name)
        elif name not in (*annotators.LABEL_FREE, "ensemble"):
            raise UserError(
                f"--config.annotate: there is no annotator '{name}'; choose from "
                f"{', '.join(annotators.LABEL_FREE)}, ensemble, {estimators.PREFIX}NAME, review "
                "and review+ANNOTATOR"
            )


def _get(config: ml_collections.ConfigDict, name: str) -> Any:
    section, field = name.split(".")
    return config[section][field]
