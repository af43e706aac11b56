"""Detectors by their names: what makes maps of disease of images, trained or not."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import flags

from data import loader
from data.errors import UserError
from data.records import Records
from detectors import gradcam
from detectors import steps as detector_steps
from evaluation import detection
from evaluation.linear import LinearAutoencoder
from gan.translation import apply
from gan.translation.domains import Domains
from launch import heights, models, prepare, stage, train_translator
from vrn import classifier

MAPS = flags.DEFINE_enum(
    "maps", "translator", ("translator", "linear", *stage.DETECTORS),
    "What makes the maps of disease: the translator; an autoencoder of healthy training images, by "
    "principal components (linear), of the translator's size (autoencoder) or variational (vae); "
    "where a classifier looks (gradcam); or a network that learnt from masks (unet).",
)  # fmt: skip
_OF_HEALTHY = ("autoencoder", "vae")  # they learn from healthy images alone
_BLOCK = 32  # images that a network is given at a time
_WIDTHS = (4, 8, 16, 32, 64, 128)  # of the linear autoencoder, tried on validation
_DISEASED = 1  # of the classifier's two classes


@dataclasses.dataclass(frozen=True)
class Found:
    """What a detector makes of N images.

    Attributes:
      maps: float32 [N, *S], higher where disease is thought to be.
      healthy: the images without it, [N, *S, C]; None of detectors that make none.
      own: what ought to be the images again, likewise.
      scores: [N], how diseased the detector itself calls each; None where only the map tells.
    """

    maps: np.ndarray
    healthy: np.ndarray | None = None
    own: np.ndarray | None = None
    scores: np.ndarray | None = None


Find = Callable[[np.ndarray, np.ndarray], Found]  # of images [N, *S, C] and their domains [N]


class Detector:
    """One of `stage.DETECTORS`, for the images of a work directory.

    Args:
      config: experiment.
      workdir: work directory.
      name: of the detector.

    Attributes:
      trainer: of its network.

    Raises:
      UserError: the images are not such as it can learn from.
    """

    def __init__(self, config: ml_collections.ConfigDict, workdir: pathlib.Path, name: str):
        self.name, self._given = name, config.detector
        self._real = real = prepare.open_split(workdir, "train")
        self._diseased = is_diseased(config, real)
        share = 0.0 if name in _OF_HEALTHY else config.translator.match_heights
        self._alike = heights.of_healthy(workdir, real, self._diseased, share)
        self._masks = prepare.masks_of(workdir, "train", real) if name == "unet" else None
        if name == "unet" and self._masks is None:
            raise UserError(
                f"--maps=unet learns from masks, and {config.data.source} has none; give it some "
                "(docs/data.md says how), or choose other maps"
            )
        if name == "gradcam":
            spec, steps = models.classifier_spec(self._given, 2, self._given.steps), classifier
        else:
            spec, steps = models.detector_spec(config, name), detector_steps
        self.trainer = models.Trainer(spec, real.image_shape, config, "detector", steps)
        images = jnp.zeros((1, *real.image_shape))
        models.shapes(spec.model.init, jax.random.key(0), images, prefix=f"--maps={name}: ")
        self._find = jax.jit(functools.partial(_FIND[name], spec.model))

    @property
    def augment(self) -> tuple[str, ...]:
        """Names of what its training images go through."""
        of_healthy = self.name in _OF_HEALTHY
        return tuple(self._given.healthy_augment if of_healthy else self._given.augment)

    def parts(self) -> list[loader.Part]:
        """What its batches are made of: healthy images, or as many of these as of the others."""
        batch = self._given.batch
        if self.name in _OF_HEALTHY:
            return [loader.Part(self._real.subset(~self._diseased), batch)]
        sides = ((~self._diseased, batch - batch // 2), (self._diseased, batch // 2))
        return [
            loader.Part(
                self._real.subset(which),
                count,
                label=label,
                matched=None if label else self._alike,
                masks=None if self._masks is None else self._masks.subset(which),
            )
            for label, (which, count) in enumerate(sides)
        ]

    def find(self, params: Any, images: np.ndarray) -> Found:
        """Maps of any number of images [N, *S, C]."""
        return Found(**classifier.in_batches(self._find, params, images, _BLOCK))


def _reconstructed(model: Any, params: Any, images: jax.Array) -> dict[str, jax.Array]:
    made = model.apply({"params": params}, images)
    made = made[0] if isinstance(made, tuple) else made  # without the latent distribution
    return {"maps": jnp.abs(made - images).mean(-1), "healthy": made, "own": made}


def _looked(model: Any, params: Any, images: jax.Array) -> dict[str, jax.Array]:
    logits = model.apply({"params": params}, images)
    heat = gradcam.heat(model, params, images, _DISEASED)
    return {"maps": heat, "scores": logits[:, _DISEASED] - logits[:, 1 - _DISEASED]}


def _segmented(model: Any, params: Any, images: jax.Array) -> dict[str, jax.Array]:
    return {"maps": jax.nn.sigmoid(model.apply({"params": params}, images))}


_FIND = {
    "autoencoder": _reconstructed,
    "vae": _reconstructed,
    "gradcam": _looked,
    "unet": _segmented,
}


def restored(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, name: str
) -> tuple[Find, dict[str, Any]]:
    """Opens a detector of a work directory.

    Returns:
      What makes maps, and what is told of it beside the numbers.

    Raises:
      UserError: it is not trained.
    """
    if name == "translator":
        return _translator(config, workdir)
    if name == "linear":
        return _linear(config, workdir)
    stage.require(workdir, f"detectors/{name}")
    detector = Detector(config, workdir, name)
    params = detector.trainer.restore(workdir / "detectors" / name)
    facts = {"checkpoint_digest": models.tree_digest(params)}
    return lambda images, own: detector.find(params, images), facts


def _translator(
    config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> tuple[Find, dict[str, Any]]:
    """Translations to the healthy domain, and to the image's own."""
    spec, state = train_translator.restore(config, workdir)
    codes = np.asarray(spec.domains.codes, np.float32)
    healthy = healthy_domain(config, spec.domains)

    def find(images: np.ndarray, own: np.ndarray) -> Found:
        made, again = (
            apply.translate(spec.translator, state.ema_params, images, codes[to])
            for to in (np.full_like(own, healthy), own)
        )
        return Found(apply.difference(images, made), made, again)

    return find, {"checkpoint_digest": models.tree_digest(state.ema_params)}


def _linear(
    config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> tuple[Find, dict[str, Any]]:
    """Reconstructions from the principal components of healthy training images.

    There are as many as give the largest AUC on validation.
    """
    train, val = (prepare.open_split(workdir, name) for name in ("train", "val"))
    normal = np.flatnonzero(~is_diseased(config, train))
    model = LinearAutoencoder(train.read(normal), max(_WIDTHS))
    images, diseased = val.read(np.arange(len(val))), is_diseased(config, val)

    def merit(width: int) -> float:
        maps = apply.difference(images, model.reconstruct(images, width))
        kind = detection.choose(maps, diseased)
        return detection.auc(detection.score(maps, kind), diseased, resamples=1)["mean"]

    width = max(_WIDTHS, key=merit)

    def find(images: np.ndarray, own: np.ndarray) -> Found:
        del own
        made = model.reconstruct(images, width)
        return Found(apply.difference(images, made), made, made)

    return find, {"width": width}


def is_diseased(config: ml_collections.ConfigDict, part: Records) -> np.ndarray:
    """Whether each image of a split is in another domain than the healthy one, bool [N]."""
    between = models.domains(config.translator, part.class_names)
    return np.asarray(between.of_class)[part.labels] != healthy_domain(config, between)


def healthy_domain(config: ml_collections.ConfigDict, between: Domains) -> int:
    """The domain of images without disease.

    Raises:
      UserError: the configuration names none of the domains.
    """
    names = between.names
    if config.translator.healthy not in names:
        raise UserError(
            f"--config.translator.healthy={config.translator.healthy!r} is no domain; give the one "
            f"without disease, of {', '.join(names)}"
        )
    return names.index(config.translator.healthy)
