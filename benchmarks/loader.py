"""How long real training steps wait for their images: GAN and target model, from records on disk.

    python -m benchmarks.loader --size=64

The target model is trained twice: with the default augmentations, and ("augmented") with all.

Images are written as array_record first and read back batch by batch, as `launch` does it; the goal
is to wait for less than 2 % of the time. What the steps learn does not matter: the images are
noise.
"""

import json
import pathlib
import tempfile
from collections.abc import Callable, Sequence

import ml_collections
import numpy as np
from absl import app, flags, logging

from benchmarks import options
from configs import default
from data import loader, records
from data.augment import NAMES
from launch import models, prepare, stage, train_gan
from nn import host

FLAGS = flags.FlagValues()
_SIZE = flags.DEFINE_integer(
    "size", 64, "Images are so many pixels wide and high.", 16, flag_values=FLAGS
)
_IMAGES = flags.DEFINE_integer(
    "images", 2000, "Images on disk, in 4 classes.", 64, flag_values=FLAGS
)
_STEPS = flags.DEFINE_integer("steps", 60, "Steps of each training.", 20, flag_values=FLAGS)
_CLASSES = 4


def write_images(workdir: pathlib.Path, count: int, size: int) -> None:
    """Writes `WORKDIR/data` with one split 'train' of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (count, size, size, 1), dtype=np.uint8)
    images = records.ArrayRecords(
        noise,
        np.arange(count) % _CLASSES,
        [f"noise{i}" for i in range(count)],
        [f"class{k}" for k in range(_CLASSES)],
    )
    begun = stage.begin(workdir, "data", {"size": size})
    records.write_records(begun.folder, {"train": images}, name="noise", description="noise")
    begun.finish()


def gan(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> pathlib.Path:
    """Trains the GAN stage; returns its folder."""
    return train_gan.run(config, workdir, False)


def target(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, name: str, augment: tuple[str, ...]
) -> pathlib.Path:
    """Trains a target model with these augmentations; returns its folder, of that name."""
    real, folder = prepare.open_split(workdir, "train"), workdir / name
    spec = models.classifier_spec(config.target, _CLASSES, config.target.steps)
    trainer = models.Trainer(spec, real.image_shape, config, "target")
    trainer.train(
        [loader.Part(real, config.target.batch)],
        folder,
        name=name,
        seed=0,
        steps=config.target.steps,
        augment=augment,
        strength=1.0,
    )
    return folder


def usual(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> pathlib.Path:
    """A target model with the augmentations of the default configuration."""
    return target(config, workdir, "target", tuple(config.data.augment))


def augmented(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> pathlib.Path:
    """A target model with every augmentation that grey images can have."""
    names = tuple(name for name in NAMES if name != "colour")
    return target(config, workdir, "augmented", names)


TRAININGS: dict[str, Callable[[ml_collections.ConfigDict, pathlib.Path], pathlib.Path]] = {
    "gan": gan,
    "target": usual,
    "augmented": augmented,
}


def measured(folder: pathlib.Path) -> dict[str, float]:
    """Share of the time that a training waited, and its rate; all but its first step."""
    lines = [json.loads(line) for line in (folder / "timing.jsonl").read_text().splitlines()]
    first, *laps = lines
    starts = [first["first_step"], *(lap["seconds"] for lap in laps)]
    lengths = np.diff(starts)
    return {
        "loader_wait": float(np.average([lap["loader_wait"] for lap in laps], weights=lengths)),
        "images_per_second": float(
            np.average([lap["images_per_second"] for lap in laps], weights=lengths)
        ),
    }


def main(argv: Sequence[str]) -> None:
    """Trains all and prints what they waited."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    logging.set_verbosity(logging.ERROR)
    host.prepare()
    records.IN_MEMORY_BYTES = 0  # or so few images would be read once
    config = default.get_config()
    config.tensorboard = False
    config.data.size = _SIZE.value
    for section in (config.gan, config.target):
        section.update(steps=_STEPS.value, log_every=10, checkpoint_every=10**9)
    with tempfile.TemporaryDirectory(prefix="vrn-loader-") as made:
        workdir = pathlib.Path(made)
        write_images(workdir, _IMAGES.value, _SIZE.value)
        for name, train in TRAININGS.items():
            found = measured(train(config, workdir))
            print(
                f"{name:10} {_SIZE.value} px: waited {found['loader_wait']:.2%} of the time for "
                f"the loader, {found['images_per_second']:.0f} images/s"
            )


if __name__ == "__main__":
    options.run(main, FLAGS)
