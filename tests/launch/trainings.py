"""Trains a small GAN and a small classifier on digits, on whatever devices there are.

    python -m tests.launch.trainings FOLDER STEPS STEPS_OF_PARTS

`FOLDER/whole` gets STEPS in one go (0: none), `FOLDER/parts` goes on until STEPS_OF_PARTS. Every
training also writes `batches.jsonl`, a digest of every batch.
"""

import functools
import json
import pathlib
import sys
import zlib

import jax
import numpy as np
import optax
from sklearn.datasets import load_digits

from data import loader
from data.records import ArrayRecords
from gan import state as gan_state
from gan import steps as gan_steps
from gan.models import dcgan
from launch import loop, models, rng
from launch import mesh as mesh_lib
from tests import tiny
from tests.launch import toy
from vrn import classifier


def records():
    images, labels = load_digits(return_X_y=True)
    images = np.kron(images.reshape(-1, 8, 8, 1)[:200], np.ones((1, 2, 2, 1))) * 15
    return ArrayRecords(
        images.astype(np.uint8), labels[:200], [str(i) for i in range(200)], list("0123456789")
    )


def gan_training():
    adam = optax.adam(1e-4, 0.0, 0.99)
    spec = gan_state.GanSpec(
        dcgan.Generator(16, 1, 4, 10, 16), dcgan.Discriminator(16, 1, 4, 10), adam, adam
    )
    return functools.partial(gan_steps.train_step, spec=spec), functools.partial(
        gan_state.init_state, spec
    )


def classifier_training():
    spec = models.classifier_spec(tiny.get_config().target, 10, 20)
    return functools.partial(classifier.train_step, spec=spec), functools.partial(
        classifier.init_state, image_shape=(16, 16, 1), spec=spec
    )


TRAININGS = {"gan": gan_training, "classifier": classifier_training}


class Recorded:
    """A loader that notes the digests of what it gives."""

    def __init__(self, source, path):
        self._iterator, self._path = loader.make_loader(source, prefetch=2), path
        self.get_state, self.set_state = self._iterator.get_state, self._iterator.set_state

    def __next__(self):
        step, batch = self.get_state()["next_index"], next(self._iterator)
        digest = zlib.crc32(batch["image"].tobytes() + batch["label"].tobytes())
        with self._path.open("a") as file:
            file.write(json.dumps([step, digest]) + "\n")
        return batch


def train(kind, step, init, folder, steps, mesh):
    folder.mkdir(parents=True, exist_ok=True)
    parts = [loader.Part(records(), 16)]
    source = loader.BatchSource(parts, seed=3, augment=("shift", "noise"), strength=0.5)
    loop.train(
        step=step,
        state=jax.device_put(init(rng.key(0, kind, "init")), mesh_lib.replicated(mesh)),
        loader=Recorded(source, folder / "batches.jsonl"),
        key=rng.key(0, kind),
        mesh=mesh,
        steps=steps,
        folder=folder,
        name=kind,
        log_every=1,
        checkpoint_every=7,
        rules=toy.rules(),
        show=False,
    )


def main(folder, whole, parts):
    mesh = mesh_lib.make_mesh()
    for kind, make in TRAININGS.items():
        pure_step, pure_init = make()
        step = mesh_lib.jit_step(pure_step, mesh)
        # Made on one device, so that it is compiled once for all numbers of them.
        init = jax.jit(pure_init)
        for name, steps in (("whole", whole), ("parts", parts)):
            if steps:
                train(kind, step, init, folder / name / kind, steps, mesh)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]))
