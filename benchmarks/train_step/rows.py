"""What is measured: networks, sizes, widths and batches."""

import dataclasses
from collections.abc import Sequence

SIZES = (32, 64, 128)
CHANNELS = 1
CLASSES = 10
LATENT = 128


@dataclasses.dataclass(frozen=True)
class Row:
    """One training step.

    Attributes:
        kind: a key of `GANS`, `TRANSLATORS` or `CLASSIFIERS`.
        size: height and width of the images in pixels.
        width: of the network, as its configuration field has it.
        batch: images per update.
    """

    kind: str
    size: int
    width: int
    batch: int

    @property
    def name(self) -> str:
        """A name to filter by."""
        return f"{self.kind}_{self.size}px_width{self.width}_batch{self.batch}"


@dataclasses.dataclass(frozen=True)
class Gan:
    """Settings of a GAN's step; `model` is a key of `gan.models.MODELS`."""

    model: str
    loss: str
    penalty: str = "none"
    penalty_weight: float = 0.0
    n_critic: int = 1
    spectral: bool = False
    learning_rate: float = 2e-4
    b1: float = 0.5
    b2: float = 0.999


@dataclasses.dataclass(frozen=True)
class Translator:
    """Settings of a translator's step; the terms and their weights are those published."""

    blocks: int = 6
    n_critic: int = 5
    learning_rate: float = 1e-4
    b1: float = 0.5
    b2: float = 0.999


@dataclasses.dataclass(frozen=True)
class Classifier:
    """Settings of a classifier's step.

    Attributes:
        depth: of the ResNet.
        classes: number of logits.
        reduction: how many times smaller the network's images are than the data's.
        imagenet_from: the stem reduces images of this size or more four times.
    """

    depth: int
    classes: int
    reduction: int = 1
    imagenet_from: int = 65


GANS = {
    "dcgan": Gan("dcgan", "non_saturating"),
    # Gulrajani et al. 2017, algorithm 1.
    "wgan_gp": Gan("dcgan", "wasserstein", "gp", 10.0, 5, learning_rate=1e-4, b1=0.0, b2=0.9),
    # Miyato and Koyama 2018, but for one discriminator update instead of five.
    "resnet_gan": Gan("resnet", "hinge", spectral=True, b1=0.0, b2=0.9),
}
TRANSLATORS = {
    # Fixed-Point GAN (Rahman Siddiquee et al. 2019) between two domains, as for brains.
    "translator": Translator(),
}
CLASSIFIERS = {
    # The VRN sees images of half the size: the generator's traces are gone, and so are its pixels.
    "vrn_resnet18": Classifier(18, 2, reduction=2),
    "vrn_resnet50": Classifier(50, 2, reduction=2),
    # As the chest X-ray configuration does, a stem of stride 4 from 64 px.
    "target_resnet10": Classifier(10, CLASSES, imagenet_from=64),
    "target_resnet18": Classifier(18, CLASSES, imagenet_from=64),
}

# Kind to (width, batch) at each size. On CPU a step takes at most about 1.5 s on 2 cores; on
# accelerators widths are the published ones.
_CPU = {
    "dcgan": {32: ((32, 64), (64, 64)), 64: ((32, 64), (64, 64)), 128: ((16, 32),)},
    "wgan_gp": {32: ((32, 64),), 64: ((32, 32),), 128: ((16, 16),)},
    "resnet_gan": {32: ((16, 32),), 64: ((8, 16),), 128: ((8, 8),)},
    "translator": {64: ((16, 8),), 128: ((16, 4),)},
    "vrn_resnet18": {32: ((16, 32),), 64: ((16, 32),), 128: ((16, 32),)},
    "vrn_resnet50": {32: ((16, 32),), 64: ((16, 32),), 128: ((16, 16),)},
    "target_resnet10": {32: ((16, 32),), 64: ((16, 32),), 128: ((16, 32),)},
    "target_resnet18": {32: ((16, 32),), 64: ((16, 32),), 128: ((16, 32),)},
}
_ACCELERATOR = {
    kind: dict.fromkeys(SIZES, ((64, 64 if kind in GANS else 128),)) for kind in GANS | CLASSIFIERS
} | {kind: dict.fromkeys((64, 128), ((64, 16),)) for kind in TRANSLATORS}


def rows(platform: str, sizes: Sequence[int] = SIZES) -> list[Row]:
    """The rows for 'cpu' or any other of JAX's platforms, of those networks that a size has.

    Raises:
        KeyError: a size that no network has.
    """
    if unknown := set(sizes) - set(SIZES):
        raise KeyError(min(unknown))
    table = _CPU if platform == "cpu" else _ACCELERATOR
    return [
        Row(kind, size, width, batch)
        for kind, by_size in table.items()
        for size in sizes
        for width, batch in by_size.get(size, ())
    ]
