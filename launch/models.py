"""From the configuration to networks, optimisers and steps; and digests of what was trained."""

import dataclasses
import functools
import hashlib
import pathlib
import types
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
import optax

from data import loader
from data.errors import UserError
from detectors import losses
from detectors import steps as detector_steps
from detectors.models.unet import UNet
from detectors.models.vae import VAE
from gan import state as gan_state
from gan.models import MODELS, translator
from gan.models.autoencoder import Autoencoder
from gan.translation import domains as domains_lib
from gan.translation.losses import Weights
from gan.translation.state import TranslatorSpec
from launch import loop, prepare, rng
from launch import mesh as mesh_lib
from launch.checkpoint import open_last
from nn import optimiser
from nn.precision import DTYPES
from nn.resnet import ResNet
from vrn import classifier, traces


def refuse_volumes(shape: tuple[int, ...]) -> None:
    """Raises a `UserError` for the shape of volumes, which GANs and classifiers can't take."""
    if len(shape) > 3:
        size = " x ".join(map(str, shape[:-1]))
        raise UserError(
            f"the networks take images, and {size} are volumes; prepare their slices in another "
            "work directory, with --config.data.axis=axial, coronal or sagittal"
        )


def shapes(init: Callable[..., Any], *inputs: Any, prefix: str = "") -> Any:
    """What `init` makes of the inputs, as shapes and types alone.

    Raises:
      UserError: it refuses images of such a size; its sentence begins with the prefix.
    """
    try:
        return jax.eval_shape(init, *inputs)
    except ValueError as error:
        raise UserError(
            f"{prefix}{error}; prepare others, with --config.data.size or --config.data.depth, in "
            "another work directory"
        ) from error


def gan_spec(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> gan_state.GanSpec:
    """The GAN of `config.gan`, for the images of the work directory."""
    real = prepare.open_split(workdir, "train")
    refuse_volumes(real.image_shape)
    size, _, channels = real.image_shape
    gan, classes = config.gan, len(real.class_names)
    family = MODELS[gan.model]
    if size not in family.SIZES:
        raise UserError(
            f"the {gan.model} GAN makes no images of {size} pixels; prepare them in another work "
            f"directory, with --config.data.size of {', '.join(map(str, family.SIZES))}"
        )
    shape = {
        "size": size,
        "channels": channels,
        "width": gan.width,
        "num_classes": classes,
        "dtype": DTYPES[gan.dtype],
    }
    options = {"spectral": True} if gan.spectral else {}
    return gan_state.GanSpec(
        generator=family.Generator(**shape, z_dim=gan.z_dim),
        discriminator=family.Discriminator(**shape, **options),
        loss=gan.loss,
        penalty=gan.penalty,
        penalty_weight=gan.penalty_weight,
        n_critic=gan.n_critic,
        augment_policy=tuple(gan.diffaugment),
        augment_fill=gan.diffaugment_fill,
        ema_decay=gan.ema,
        g_tx=optimiser.adam(gan.g_lr, gan.b1, gan.b2),
        d_tx=optimiser.adam(gan.d_lr, gan.b1, gan.b2),
    )


def domains(settings: ml_collections.ConfigDict, class_names: Sequence[str]) -> domains_lib.Domains:
    """What `config.translator` translates between, of a source with these classes.

    Raises:
      UserError: the classes are not such.
    """
    try:
        if settings.domains == "healthy":
            return domains_lib.healthy(class_names, settings.healthy)
        if settings.domains == "attributes":
            return domains_lib.attributes(class_names)
    except ValueError as error:
        raise UserError(
            f"--config.translator.domains={settings.domains}: {error}; set "
            "--config.translator.healthy to one of the classes, or choose other domains"
        ) from error
    return domains_lib.classes(class_names)


def translator_spec(
    config: ml_collections.ConfigDict, class_names: Sequence[str]
) -> TranslatorSpec:
    """The translator of `config.translator` for a source with these classes."""
    given = config.translator
    between = domains(given, class_names)
    shape = {"width": given.width, "dtype": DTYPES[given.dtype]}
    rates = (
        _falling(given.g_lr, given.decay, given.steps),
        _falling(given.d_lr, given.decay, given.steps * given.n_critic),
    )
    g_tx, d_tx = (optimiser.adam(rate, given.b1, given.b2) for rate in rates)
    return TranslatorSpec(
        translator=translator.Translator(blocks=given.blocks, output=given.output, **shape),
        discriminator=translator.Discriminator(between.code_size, **shape),
        g_tx=g_tx,
        d_tx=d_tx,
        domains=between,
        fixed_point=given.fixed_point,
        critic=given.critic,
        weights=Weights(
            given.penalty_weight, given.domain_weight, given.cycle_weight, given.identity_weight
        ),
        targets=given.targets,
        n_critic=given.n_critic,
        ema_decay=given.ema,
    )


def _falling(rate: float, share: float, updates: int) -> optax.ScalarOrSchedule:
    """A rate that is constant, and falls to 0 linearly over the last share of the updates."""
    last = round(share * updates)
    return optax.linear_schedule(rate, 0.0, last, updates - last) if last else rate


def classifier_spec(
    settings: ml_collections.ConfigDict,
    classes: int,
    steps: int,
    head: str = "average",
    **more: Any,
) -> classifier.ClassifierSpec:
    """A ResNet with AdamW and a cosine schedule over `steps` after a tenth of warm-up."""
    names = ("depth", "width", "stem", "dtype", "lr")
    return _classifier_spec(*(settings[name] for name in names), classes, steps, head, **more)


# Specs are static arguments: the same one for the same settings is one compilation in a pipeline.
@functools.cache
def _classifier_spec(
    depth: int,
    width: int,
    stem: str,
    dtype: str,
    lr: float,
    classes: int,
    steps: int,
    head: str,
    **more: Any,
) -> classifier.ClassifierSpec:
    return classifier.ClassifierSpec(
        model=ResNet(classes, depth, width, stem, DTYPES[dtype], head),
        tx=_warm(lr, steps),
        num_classes=classes,
        **more,
    )


def vrn_spec(config: ml_collections.ConfigDict) -> classifier.ClassifierSpec:
    """The VRN: two classes, and traces of the generator removed alike in both."""
    vrn = config.vrn
    return classifier_spec(
        vrn,
        2,
        vrn.steps,
        vrn.head,
        label_smoothing=vrn.label_smoothing,
        prepare=traces.TraceRemoval(vrn.input_size, vrn.blur, vrn.noise),
    )


def detector_spec(config: ml_collections.ConfigDict, name: str) -> detector_steps.DetectorSpec:
    """A detector that is no classifier: its network and its loss."""
    given, translator_ = config.detector, config.translator
    dtype = DTYPES[given.dtype]
    model, loss = {
        "autoencoder": (
            Autoencoder(translator_.width, translator_.blocks, dtype),
            losses.Reconstruction(),
        ),
        "vae": (VAE(given.width, given.latent, dtype), losses.Variational(given.kl_weight)),
        "unet": (UNet(given.width, dtype), losses.Segmentation()),
    }[name]
    return detector_steps.DetectorSpec(model, loss, _warm(given.lr, given.steps))


def _warm(rate: float, steps: int) -> optax.GradientTransformation:
    """AdamW whose rate falls along a cosine to the last step, after a tenth of warm-up."""
    warmup = max(1, steps // 10)
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, warmup, decay_steps=steps)
    return optimiser.adamw(schedule, weight_decay=1e-3)


class Trainer:
    """Trains one kind of network any number of times with a single compilation.

    Args:
      spec: model, optimiser and loss.
      image_shape: (H, W, C), or (D, H, W, C) of volumes for networks that take them.
      config: experiment.
      section: of it that holds `batch`, `accumulate`, `log_every`, `checkpoint_every` and so on.
      steps: what has `init_state` and `train_step` for such a spec.
    """

    def __init__(
        self,
        spec: classifier.ClassifierSpec | detector_steps.DetectorSpec,
        image_shape: tuple[int, ...],
        config: ml_collections.ConfigDict,
        section: str,
        steps: types.ModuleType = classifier,
    ):
        if steps is classifier:
            refuse_volumes(image_shape)
        self.mesh, gradient = mesh_lib.arranged(config, section)
        self._settings = config[section]
        self._prefetch = config.data.prefetch
        self._rules = config.train
        self.spec = spec = dataclasses.replace(spec, gradient=gradient)
        self._step = mesh_lib.jit_step(functools.partial(steps.train_step, spec=spec), self.mesh)
        self._init = jax.jit(
            functools.partial(steps.init_state, image_shape=image_shape, spec=spec),
            out_shardings=mesh_lib.replicated(self.mesh),
        )

    def train(
        self,
        parts: Sequence[loader.Part],
        folder: pathlib.Path,
        *,
        name: str,
        seed: int,
        steps: int,
        augment: tuple[str, ...] = (),
        strength: float = 0.0,
        **options: Any,
    ) -> Any:
        """Returns the parameters after `steps` updates; goes on from a checkpoint in `folder`.

        They lie on one device of each process, which uses them without the others.

        Args:
          parts: what a batch is made of.
          folder: of the run.
          name: shown at the progress bar.
          seed: of initial weights, batches and augmentation.
          steps: updates.
          augment: names of classical augmentations.
          strength: of the augmentation; 0 is none.
          **options: passed to `loop.train`.
        """
        source = loader.BatchSource(
            parts,
            seed=rng.fold(seed, "loader"),
            augment=augment,
            strength=strength,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        state = loop.train(
            step=self._step,
            state=self._init(rng.key(seed, "init")),
            loader=loader.make_loader(source, prefetch=self._prefetch),
            key=rng.key(seed, "steps"),
            mesh=self.mesh,
            steps=steps,
            folder=folder,
            name=name,
            log_every=self._settings.log_every,
            checkpoint_every=self._settings.checkpoint_every,
            rules=self._rules,
            **options,
        )
        return mesh_lib.local(state.params)

    def restore(self, folder: pathlib.Path) -> Any:
        """Returns the parameters of the newest checkpoint in `folder`."""
        state = jax.eval_shape(self._init, jax.random.key(0))
        return mesh_lib.local(open_last(folder, mesh_lib.abstract(state, self.mesh)).params)


def pad(rows: np.ndarray, count: int) -> np.ndarray:
    """Repeats the last row until there are `count`, so that one compilation serves any number."""
    missing = count - len(rows)
    return rows if missing == 0 else np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])


def tree_digest(tree: Any) -> str:
    """SHA-256 over names, shapes, types and bytes of all arrays of a pytree."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
